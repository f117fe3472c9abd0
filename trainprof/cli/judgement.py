"""Reads a run and judges it as the project's settings and the comments in its source ask."""

from __future__ import annotations

from pathlib import Path

from trainprof.cli.ignores import drop_ignored
from trainprof.cli.settings import Settings
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.run import Run
from trainprof.profiler.store.reader import read_run
from trainprof.profiler.store.trials import read_earlier_runs, read_launches
from trainprof.rules.calibration import NO_CALIBRATION, calibration_path, read_calibration
from trainprof.rules.costs import Costs
from trainprof.rules.diagnose import diagnose


def judge(folder: Path, settings: Settings) -> Diagnosis:
    """The diagnosis of a run folder, finished or still being written.

    Raises:
        RunFolderError: the folder is none of a run, or of a newer format.
        UsageError: the settings name a rule that does not exist.
    """
    return judge_run(read_run(folder), settings)


def judge_run(run: Run, settings: Settings) -> Diagnosis:
    """The diagnosis of a run that was read.

    Raises:
        UsageError: the settings name a rule that does not exist.
    """
    folder = Path(run.path)
    diagnosis = diagnose(
        run,
        select=settings.select,
        ignore=settings.ignore,
        costs=Costs(
            settings.price_per_hour,
            settings.currency,
            settings.grid_gco2_per_kwh,
            settings.pue,
        ),
        earlier_runs=read_earlier_runs(folder, run.info),
        launches=read_launches(folder, run.info),
        calibration=(
            read_calibration(calibration_path()) if settings.calibration else NO_CALIBRATION
        ),
    )
    return drop_ignored(diagnosis)
