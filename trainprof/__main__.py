"""`python -m trainprof` and the console script."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line and exits with its status."""
    from trainprof.cli.main import main as run_command_line

    sys.exit(run_command_line())


if __name__ == "__main__":
    main()
