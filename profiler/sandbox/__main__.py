"""`python -m trainprof.profiler.sandbox SPEC.json`: runs a command in the sandbox."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from trainprof.profiler.sandbox import overlay
from trainprof.profiler.sandbox.journal import Journal, put_back
from trainprof.profiler.sandbox.processes import Stopped, adopt, run_alone
from trainprof.profiler.sandbox.spec import (
    JOURNAL,
    JOURNAL_FOLDER,
    NOT_PUT_BACK,
    OVERLAY,
    REFUSED,
    Spec,
    read_spec,
)
from trainprof.profiler.sandbox.write_watch import run_journalled

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
        return _run_with_journal(spec) if spec.way == JOURNAL else run_alone(spec.command)
    except Stopped:
        return STOPPED
    except OSError as error:
        sys.stderr.write(f"{error.strerror or error}\n")
        return REFUSED


def _run_with_journal(spec: Spec) -> int:
    folder = Path(spec.scratch[0]) / JOURNAL_FOLDER
    ignored = (*spec.kept, *spec.scratch, "/proc", "/sys")
    others = []
    if spec.shared:  # goes on from run to run, and is put back by whoever made the folder
        caches = tuple(os.path.realpath(path) for path in spec.caches)
        others.append((Journal(Path(spec.shared) / JOURNAL_FOLDER, ignored), caches))
    journal = Journal(folder, ignored, others)
    left: list[str] = []
    try:
        status = run_alone(spec.command, partial(run_journalled, journal))
    finally:
        journal.close()
        left = put_back(folder)
    if left:
        sys.stderr.write(f"{left[0]} could not be made as it was\n")
        return NOT_PUT_BACK
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
