"""`python -m trainprof` and the console script."""

from __future__ import annotations

import gc
import signal
import sys


def main() -> None:
    """Runs the command line and exits with its status."""
    from trainprof.cli.reading_ahead import reading_ahead

    try:
        with reading_ahead(sys.argv[1:]) as ahead:
            from trainprof.cli.main import main as run_command_line

            status = run_command_line(ahead=ahead)
    except KeyboardInterrupt:  # before the command line minds it, or after
        status = 130
    # The status stands: what is pressed from here on would replace it, as Python gives its handler
    # of interrupts back before it has ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # or the interpreter looks through all that is left for cycles, three times
    sys.exit(status)


if __name__ == "__main__":
    main()
