"""The run as a whole: how long it took to begin, and how much of it was training."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.run import ProcessRecord
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.host import own_cores
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

DESCRIPTIONS = (
    Description("run.startup_s", "s", "From the start of the training process to its first step."),
    Description("run.startup_cores", "cores", "Cores that the run's processes used meanwhile."),
    Description("run.status", "text", "complete, incomplete, crashed, stopped or running."),
    Description("run.wall_s", "s", "From the start of the command to its end."),
    Description("run.step_time_share", "share", "Part of that inside steps."),
    Description("run.samples_per_s", "samples/s", "Throughput of all ranks together."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals run.*."""
    sheet = Sheet(DESCRIPTIONS)
    info = training.run.info
    sheet.put("run.status", training.run.status)
    wall_s = None if info.ended_ns is None else (info.ended_ns - info.started_ns) / 1e9
    sheet.put("run.wall_s", wall_s, reason="the run has no recorded end")
    columns = training.columns
    if not training.has_window:
        return sheet.finish("no step was completed")
    startup_ns = int(columns["start_ns"][0]) - training.trainer.info.started_ns
    sheet.put("run.startup_s", max(startup_ns / 1e9, 0.0))
    before = [s for s in training.run.samples if s.at_ns <= int(columns["start_ns"][0])]
    cores = own_cores(before) if len(before) > 1 else None
    reason = "the machine was sampled fewer than twice before the first step"
    sheet.put("run.startup_cores", cores, reason=reason)
    if wall_s:
        share = float(columns["wall_ns"].sum()) / 1e9 / wall_s
        sheet.put("run.step_time_share", min(share, 1.0), samples=training.count)
    _throughput(training, sheet)
    return sheet.finish("the run has no recorded end")


def _throughput(training: Training, sheet: Sheet) -> None:
    """Samples of the steps that each rank began in the window, over the window's time."""
    start, end = training.span_ns
    totals = [_samples(trainer, start, end) for trainer in training.session.trainers]
    known = [total for total in totals if total is not None]
    rate = sum(known) / training.wall_s if len(known) == len(totals) else None
    sheet.put(
        "run.samples_per_s",
        rate,
        reason="no batch showed how many samples it holds",
        method=f"sum over {len(totals)} ranks",
        samples=len(training.window),
    )


def _samples(trainer: ProcessRecord, start_ns: int, end_ns: int) -> int | None:
    columns = trainer.steps.columns
    if not len(trainer.steps):
        return None
    starts = np.frombuffer(columns["start_ns"], dtype=np.int64)
    first, stop = np.searchsorted(starts, [start_ns, end_ns])
    samples = np.frombuffer(columns["samples"], dtype=np.int64)[first:stop]
    known = samples[samples >= 0]
    return int(known.sum()) if len(known) else None
