"""Sessions: ``nox`` runs what has to pass; ``nox -l`` lists them all; ``nox -s bench`` measures."""

import os
import random
import shutil
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests", "docs"]
nox.options.error_on_missing_interpreters = False

OURS = ("trio_hub", "pytest_trio_hub.py", "examples", "benchmarks", "noxfile.py")
CODE = (*OURS, "tests")
PEERS = ("uvloop", "picows", "aiohttp", "python-socketio", "matplotlib")


@nox.session
def lint(session: nox.Session) -> None:
    """Format and lint; two linters, since they find different faults."""
    session.install("ruff>=0.9", "flake8>=7", "flake8-async>=24")
    session.run("ruff", "format", "--check", *CODE)
    session.run("ruff", "check", *CODE)
    session.run("flake8", "--select=ASYNC1,ASYNC2", "--extend-ignore=ASYNC109,ASYNC114,ASYNC119,ASYNC124", *OURS)


@nox.session
def types(session: nox.Session) -> None:
    """Check types; two checkers, for the same reason."""
    session.install("-e", ".[quality]")
    session.run("mypy")
    session.run("pyright")


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests, with coverage. The unmodified Mattermost client takes part where Node is installed."""
    session.install("-e", ".[test]")
    if shutil.which("npm"):
        session.run("npm", "ci", "--prefix", "tests/mattermost", external=True)
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "report", "--skip-covered")


@nox.session
def mutations(session: nox.Session) -> None:
    """Break the outbox on purpose, in small ways, and see that its property tests notice each of them."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.mutations", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Lose the links of 300 clients for a minute, over real sockets; then have property tests try 50 times as hard.

    Arguments are the soak's: ``nox -s soak -- --seconds 10``. The seed of the property tests is another each time.
    """
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.soak", *session.posargs)
    seed = random.randrange(2**32)
    session.log(f"the stories' seed is {seed}")
    stories = ("tests/wire/test_outbox_in_any_story.py", "tests/stories/test_any_story_of_a_hub.py")
    session.run("pytest", "-q", f"--hypothesis-seed={seed}", *stories, env={"TRIO_HUB_EFFORT": "50"})


@nox.session
def chaos(session: nox.Session) -> None:
    """Two nodes of two workers, 500 clients and a real Redis, for three minutes in which all of them are lost.

    Arguments are those of the program: ``nox -s chaos -- --clients 50 --lasts 30``. Takes redis-server.
    """
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.cluster.chaos", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session
def autobahn(session: nox.Session) -> None:
    """Run the Autobahn test suite against both ends of a link, where there is the Python 2.7 that it needs.

    Without the largest messages of the sections about compression, unless told: ``nox -s autobahn -- all``.
    """
    python2 = _python2()
    if python2 is None:
        session.skip("the Autobahn test suite runs under Python 2.7, which is not installed here")
    session.install("-e", ".[test]", "virtualenv<20.22")  # the last that makes environments for 2.7
    suite = Path(session.virtualenv.location).absolute() / "autobahn"
    if not (suite / "bin" / "wstest").exists():
        session.run("virtualenv", "--quiet", "--python", python2, str(suite))
        session.run(str(suite / "bin" / "pip"), "install", "--quiet", "autobahntestsuite==25.10.1")
    session.run("python", "-m", "tests.autobahn", str(suite / "bin" / "wstest"), "build/autobahn", *session.posargs)


def _python2() -> str | None:
    """Return a Python 2.7: one of pyenv's (whose entry on the path need not lead anywhere), or that on the path."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return next((str(path) for path in pyenv.glob("versions/2.7*/bin/python2.7")), shutil.which("python2.7"))


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz what reads from strangers, each target for 60 s, or for as many as are said: ``nox -s fuzz -- 600``."""
    session.install("-e", ".", "atheris>=3")
    seconds = session.posargs[0] if session.posargs else "60"
    for corpus in sorted(Path("tests/fuzz/corpus").iterdir()):
        session.run("python", "-m", "tests.fuzz", corpus.name, seconds)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, beside our peers in the same run, and print a table. Those in JavaScript come where npm is installed."""
    session.install("-e", ".[cli,fast]", *PEERS)
    if shutil.which("npm"):
        session.run("npm", "ci", "--ignore-scripts", "--prefix", "benchmarks/node", external=True)
    session.run("python", "-m", "benchmarks", *session.posargs)
