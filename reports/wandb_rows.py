"""What trainprof logs to Weights & Biases, as plain rows: nothing here imports wandb.

Every row has its own wall time (`_timestamp`, Unix s) and one of two axes of its own, so that it
mixes with whatever the script logs: `trainprof/step` (the step counted by trainprof) or
`trainprof/time_s` (seconds since the run began).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import TYPE_CHECKING, Any, TypeAlias

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import (
    NO_LOADER,
    RunInfo,
    Sample,
)
from trainprof.profiler.model.run import MISSING, ProcessRecord, Run, Steps
from trainprof.profiler.model.tuning import TuneResult
from trainprof.reports.machine_readings import GPU, MACHINE
from trainprof.reports.run_clock import RunClock
from trainprof.reports.text import SENTENCE, SHORT, printable
from trainprof.reports.trial_rows import trial_rows

if TYPE_CHECKING:
    import numpy as np

    Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

Row: TypeAlias = dict[str, float]

STEP, TIME_S, WALL_TIME = "trainprof/step", "trainprof/time_s", "_timestamp"
AXES = {
    STEP: ("trainprof_step/*", "trainprof_phase/*"),
    TIME_S: ("trainprof_machine/*", "trainprof_gpu/*"),
}
"""Axis -> what is drawn over it."""
ROWS_MAX = 2_000
"""Of steps, each then a mean of several; of samples, of which some are left out (0.4 ms a row)."""


def rows_of(run: Run) -> Iterator[Row]:
    """Steps of the first rank of the longest training and samples of the machine, in order."""
    trainer = main_trainer(run)
    clock = RunClock(run.info)
    steps: Iterator[Row] = iter(())
    if trainer is not None:
        each = -(-len(trainer.steps) // ROWS_MAX)
        losses = mean_losses((one.step, one.value) for one in trainer.losses)
        steps = step_rows(trainer.steps, clock.of(trainer.info), run.info, max(each, 1), losses)
    samples = run.samples[:: max(-(-len(run.samples) // ROWS_MAX), 1)]
    machine = (sample_row(one, run.info) for one in samples)
    yield from merge(steps, machine, key=lambda row: row[WALL_TIME])


def main_trainer(run: Run) -> ProcessRecord | None:
    """The first rank of the training with the most steps; None where nothing trained."""
    first_ranks = [session.trainers[0] for session in run.sessions if session.trainers]
    return max(first_ranks, key=lambda one: len(one.steps), default=None)


def mean_losses(values: Iterator[tuple[int, float]]) -> dict[int, float]:
    """Loss of each step, the mean of its micro-batches."""
    several: dict[int, list[float]] = {}
    for step, value in values:
        several.setdefault(step, []).append(value)
    return {step: sum(of_step) / len(of_step) for step, of_step in several.items()}


def step_rows(
    steps: Steps, shift_ns: int, info: RunInfo, each: int, losses: Mapping[int, float]
) -> Iterator[Row]:
    """A row for `each` steps: their means; what none of them measured is left out."""
    import numpy as np

    if not len(steps):
        return
    column = {name: np.frombuffer(values, np.int64) for name, values in steps.columns.items()}
    waits = np.where(column["flags"] & NO_LOADER, MISSING, column["data_wait_ns"])
    times = {"trainprof_phase/data_wait_s": waits}
    times |= {f"trainprof_phase/{phase}_s": column[f"{phase}_ns"] for phase in PHASES[1:]}
    for first in range(0, len(steps), each):
        part = slice(first, first + each)
        wall_ns, samples = column["wall_ns"][part], column["samples"][part]
        end_ns = int(column["start_ns"][part][-1] + wall_ns[-1]) + shift_ns
        row: Row = {
            STEP: int(column["index"][part][-1]),
            TIME_S: end_ns / 1e9,
            WALL_TIME: info.started_unix_s + end_ns / 1e9,
            "trainprof_step/wall_s": float(wall_ns.mean()) / 1e9,
        }
        if (samples != MISSING).all() and wall_ns.sum():
            row["trainprof_step/samples_per_s"] = float(samples.sum() / (wall_ns.sum() / 1e9))
        own = [losses[index] for index in column["index"][part].tolist() if index in losses]
        if own:
            row["trainprof_step/loss"] = sum(own) / len(own)
        row |= {name: mean for name, ns in times.items() if (mean := _mean_s(ns[part])) is not None}
        yield row


def _mean_s(values_ns: Integers) -> float | None:
    measured = values_ns[values_ns != MISSING]
    return float(measured.mean()) / 1e9 if len(measured) else None


def sample_row(sample: Sample, info: RunInfo) -> Row:
    """What was measured of the machine and its GPUs at one time."""
    time_s = (sample.at_ns - info.started_ns) / 1e9
    told: dict[str, float | None] = {
        f"trainprof_machine/{one.name}": one.read(sample.machine) for one in MACHINE
    }
    for gpu in sample.gpus:
        told |= {f"trainprof_gpu/{gpu.index}_{one.name}": one.read(gpu) for one in GPU}
    row = {name: float(value) for name, value in told.items() if value is not None}
    return {TIME_S: time_s, WALL_TIME: info.started_unix_s + time_s, **row}


FINDING_COLUMNS = (
    *("training", "rule", "severity", "confidence", "title", "summary", "share"),
    *("recoverable_s_per_step", "gain_low", "gain_high", "place", "advice", "next_bottleneck"),
)


def finding_rows(diagnosis: Diagnosis) -> list[list[Any]]:
    """The findings of all trainings of a run, the root cause of each first."""
    return [
        [
            one.run.session + 1,
            finding.rule,
            finding.severity,
            finding.confidence,
            printable(finding.title),
            printable(finding.summary),
            finding.share,
            finding.recoverable_s_per_step,
            None if finding.gain is None else finding.gain.low,
            None if finding.gain is None else finding.gain.high,
            None
            if finding.where is None
            else f"{printable(finding.where.file)}:{finding.where.line}",
            printable(" ".join(fix.text for fix in finding.fixes)),
            finding.next_bottleneck,
        ]
        for one in (diagnosis, *diagnosis.other_sessions)
        for finding in one.findings
    ]


PAIR_COLUMNS = (
    *("tried", "fix", "verdict", "pair", "first", "old_step_s", "new_step_s", "ratio"),
    "left_out",
)


def pair_rows(tune: TuneResult) -> list[list[Any]]:
    """Every single pair of a tune, by what was tried, in the order in which they were measured."""
    return [
        [
            row.name,
            row.parameters.get("fix"),
            row.parameters["verdict"],
            number,
            printable(pair.first, SHORT),
            pair.old_step_s,
            pair.new_step_s,
            pair.ratio,
            None if pair.left_out is None else printable(pair.left_out),
        ]
        for row in trial_rows(tune)
        for number, pair in enumerate(row.pairs, 1)
    ]


def config_of(run: Run, diagnosis: Diagnosis) -> dict[str, Any]:
    """What was run, where and with what; secrets in the command were masked as it was recorded."""
    about, hardware = diagnosis.run, run.info.hardware
    told: dict[str, Any] = {
        "run": None if about.name is None else printable(about.name),
        "command": [printable(word) for word in about.argv],
        "python": about.python,
        "torch": about.torch,
        "device": about.device,
        "world_size": about.world_size,
        "trainprof": about.trainprof,
        "cpu": hardware.cpu_model,
        "usable_cores": hardware.usable_cores,
        "memory_total_bytes": hardware.memory_total_bytes,
        "gpus": list(hardware.gpus),
        "facts": _plain(_measured(diagnosis.facts)),
    }
    return {name: value for name, value in told.items() if value not in (None, [], {})}


def _measured(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts without the hundreds of signals that had nothing to measure."""
    signals = facts.get("signals") or {}
    return {
        **facts,
        "signals": {name: one for name, one in signals.items() if one["value"] is not None},
    }


def summary_of(diagnosis: Diagnosis) -> dict[str, Any]:
    """The verdict and the figures of the diagnosis, as they stand there."""
    steps = diagnosis.steps
    told: dict[str, Any] = {
        "verdict": diagnosis.verdict,
        "headline": printable(diagnosis.headline),
        "status": diagnosis.run.status,
        "steps": steps.count,
        "step_s": steps.mean_s,
        "step_s_low": steps.mean_s_low,
        "step_s_high": steps.mean_s_high,
        "samples_per_s": steps.samples_per_s,
        "startup_s": diagnosis.run.startup_s,
        "overhead_share": diagnosis.overhead.share,
        "findings": len(diagnosis.findings),
        **{f"{phase}_share": time.share for phase, time in steps.phases.items()},
    }
    return {f"trainprof/{name}": value for name, value in told.items() if value is not None}


def _plain(value: Any) -> Any:
    """JSON of any value, with short visible texts."""
    if isinstance(value, Mapping):
        return {printable(name, SENTENCE): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float) else printable(value)


@dataclass(frozen=True, slots=True)
class ScriptRun:
    """The W&B run that the script itself logs to.

    Attributes:
        mode: online | offline | shared, as the script's settings say it.
        folder: Where its files lie; None where that is not known.
    """

    run_id: str
    project: str | None = None
    entity: str | None = None
    mode: str = "online"
    folder: str | None = None


def script_run(trainers: Sequence[ProcessRecord]) -> ScriptRun | None:
    """The run that the first of these processes that logged to one logged to first, if any did."""
    for trainer in trainers:
        for event in trainer.events:
            found = script_run_of(event.kind, event.data)
            if found is not None:
                return found
    return None


def script_run_of(kind: str, data: Mapping[str, Any]) -> ScriptRun | None:
    """What an event tells of the script's run; None where it tells nothing."""
    if kind != "wandb_run" or not data.get("run_id"):
        return None
    mode = {"dryrun": "offline", "run": "online"}.get(str(data.get("mode")), data.get("mode"))
    return ScriptRun(
        str(data["run_id"]),
        data.get("project"),
        data.get("entity"),
        str(mode or "online"),
        data.get("sync_dir"),
    )
