"""`python -m trainprof.profiler.sandbox SPEC.json`: runs a command in the sandbox."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from trainprof.profiler.sandbox import overlay
from trainprof.profiler.sandbox.processes import Stopped, adopt, run_alone
from trainprof.profiler.sandbox.spec import OVERLAY, REFUSED, read_spec

STOPPED = 143


def main(arguments: Sequence[str]) -> int:
    """The exit status of the command."""
    parent = os.getppid()
    spec = read_spec(arguments[0])
    here = os.getcwd()
    try:
        if spec.way == OVERLAY:
            overlay.enter(spec)
            os.chdir(here)  # the working directory of before lies below the overlay
        adopt(parent)
        return run_alone(spec.command)
    except Stopped:
        return STOPPED
    except OSError as error:
        sys.stderr.write(f"trainprof: no trial without traces is possible here: {error.strerror}\n")
        return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
