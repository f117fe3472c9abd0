"""The end of a run: read it back, diagnose it, keep `diagnosis.json`, print it, write its page."""

from __future__ import annotations

import sys
from pathlib import Path

from msgspec.structs import replace

from trainprof.cli.judgement import judge
from trainprof.cli.settings import Settings, load_settings
from trainprof.errors import TrainprofError, UsageError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.store.layout import DIAGNOSIS_FILE
from trainprof.reports.json_report import JsonReport
from trainprof.reports.source import short_path
from trainprof.reports.terminal import print_diagnosis


def conclude(run_folder: Path, *, calibration: bool = True) -> Diagnosis:
    """Diagnoses a finished run, keeps the diagnosis and prints it on stderr.

    Raises:
        RunFolderError: the folder has vanished or cannot be read.
    """
    diagnosis = judged(run_folder, calibration=calibration)
    try:
        (run_folder / DIAGNOSIS_FILE).write_text(JsonReport().render(diagnosis))
    except OSError as error:
        print(f"trainprof: {DIAGNOSIS_FILE} was not written ({error.strerror}).", file=sys.stderr)
    print_diagnosis(diagnosis, file=sys.stderr)
    _write_page(run_folder, diagnosis)
    return diagnosis


def judged(run_folder: Path, *, calibration: bool = True) -> Diagnosis:
    """Diagnoses a finished run.

    The script has ended by now: a mistake in the settings is said, and the rest goes on without.

    Raises:
        RunFolderError: the folder has vanished or cannot be read.
    """
    try:
        settings = load_settings()
        if not calibration:
            settings = replace(settings, calibration=False)
        return judge(run_folder, settings)
    except UsageError as error:
        print(f"trainprof: {error}", file=sys.stderr)
        return judge(run_folder, Settings(calibration=calibration))


def _write_page(run_folder: Path, diagnosis: Diagnosis) -> None:
    """Writes report.html, and says where it is; what stops that is said, and is no failure."""
    try:
        from trainprof.cli.report_page import REPORT_FILE, run_extras, write_page

        path = run_folder / REPORT_FILE
        write_page(diagnosis, run_extras(run_folder, run_folder, diagnosis), path)
    except TrainprofError as error:
        print(f"trainprof: {error}", file=sys.stderr)
        return
    except KeyboardInterrupt:  # the run is over and told: its exit status is the script's
        print("trainprof: stopped; `trainprof report` writes the page.", file=sys.stderr)
        return
    print(
        f"\nThe same as a page, with charts over time:\n  {short_path(str(path))}", file=sys.stderr
    )
