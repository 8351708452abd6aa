"""Fuzz one target: ``python -m tests.fuzz TARGET SECONDS``; then ``python -m tests.fuzz TARGET keep``.

What is found goes to ``build/fuzz/TARGET``, and an input that fails is written beside it. ``keep`` adds to the corpus
whatever of it reaches more than the corpus does. (libFuzzer calls this program once more for that.)
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["trio_hub", "h11", "tests.fuzz"]):
    from tests.fuzz.targets import TARGETS

HERE = Path(__file__).parent
FOUND = Path("build/fuzz")


def main(name: str, order: str, *again: str) -> None:
    """Run libFuzzer on the target `name`; never returns."""
    found, kept = FOUND / name, HERE / "corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    if again:  # libFuzzer's own call, with arguments of its own
        arguments = [*again]
    elif order == "keep":
        arguments = ["-set_cover_merge=1", str(kept), str(found)]
    else:
        limits = ["-timeout=10", "-max_len=1024", f"-max_total_time={order}"]
        arguments = [*limits, f"-dict={HERE / 'words.dict'}", f"-artifact_prefix={found}-", str(found), str(kept)]
    atheris.Setup([f"{sys.executable} -m tests.fuzz {name} {order}", *arguments], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
