"""``python -m trio_hub`` and the command ``trio-hub``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line, or say what is missing for it."""
    try:
        from trio_hub.cli import cli
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit("The command line needs the extra `cli`: pip install 'trio-hub[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    cli(prog_name="trio-hub")


if __name__ == "__main__":
    main()
