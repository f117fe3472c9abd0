"""The end of a run: read it back, diagnose it, keep `diagnosis.json`, print the report."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from trainprof.profiler.store.reader import read_run
from trainprof.reports.terminal import print_diagnosis
from trainprof.rules.diagnose import diagnose


def conclude(run_folder: Path) -> None:
    """Diagnoses a finished run and prints the diagnosis on stderr.

    Raises:
        RunFolderError: the folder has vanished or cannot be read.
    """
    diagnosis = diagnose(read_run(run_folder))
    try:
        (run_folder / "diagnosis.json").write_bytes(msgspec.json.encode(diagnosis))
    except OSError as error:
        print(f"trainprof: diagnosis.json was not written ({error.strerror}).", file=sys.stderr)
    print_diagnosis(diagnosis, file=sys.stderr)
