"""The steady step: its length, its phases, and what the training thread did in them."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.phases import PHASE_INDEX, PHASES
from trainprof.profiler.model.records import NO_LOADER
from trainprof.profiler.model.run import PhaseStates
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training, evenly
from trainprof.rules.statistics.intervals import (
    Floats,
    Interval,
    block_length,
    ratio_intervals,
    unit_edges,
    unit_sums,
)

LEAST_READINGS = 3
"""Readings of the thread's CPU time; the first only opens the first span."""

DESCRIPTIONS = (
    Description("step.count", "count", "Steps recorded."),
    Description("step.limit", "count", "Steps after which the run was to stop (`--steps`)."),
    Description("step.steady_count", "count", "Steps after the warm-up; the gates ask for 20."),
    Description("step.warm_up_count", "count", "Steps left out at the beginning."),
    Description("step.is_steady", "bool", "Step times do not drift over the window."),
    Description("step.drift", "share", "Change of the step time over the window."),
    Description("step.span_s", "s", "Seconds of all steps in the window."),
    Description("step.mean_s", "s", "Mean step: the window's time over its steps."),
    Description("step.p95_s", "s", "95 % of the steady steps were shorter."),
    Description("step.max_s", "s", "The longest steady step."),
    Description("step.samples", "count", "Mean number of samples in a step, of this rank."),
    Description("step.samples_per_s", "samples/s", "Samples of this rank over their time."),
    Description("step.micro_batches", "count", "Mean number of forward/backward groups a step."),
    Description("step.cpu_share", "share", "Part of the time the training thread was on a CPU."),
    Description("step.run_queue_share", "share", "Part in which it was ready but got no CPU."),
    Description("step.blocked_share", "share", "The rest: it waited (disk, lock, device, queue)."),
    *(
        description
        for phase in PHASES
        for description in (
            Description(f"step.{phase}_share", "share", f"Part of the step in phase {phase}."),
            Description(f"step.{phase}_s", "s", f"Seconds of the mean step in phase {phase}."),
            Description(
                f"step.{phase}_inferred", "bool", f"A part of phase {phase} has no mark of its own."
            ),
        )
    ),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals step.*."""
    sheet = Sheet(DESCRIPTIONS)
    sheet.put("step.count", training.count)
    sheet.put("step.limit", training.run.info.steps_limit, reason="the script ends by itself")
    sheet.put("step.steady_count", training.window.steady_count)
    if not training.has_window:
        return sheet.finish("no step was completed")
    window = training.window
    few = "too few steps to judge a trend"
    sheet.put("step.warm_up_count", window.first, method="left out before the means")
    sheet.put("step.is_steady", window.steady, reason=few)
    sheet.put("step.drift", window.drift, reason=few)
    _lengths(training, sheet)
    _phases(training, sheet)
    _states(training, sheet)
    return sheet.finish("it was not measured")


def _lengths(training: Training, sheet: Sheet) -> None:
    steps = len(training.window)
    wall_ns = training.steady("wall_ns")
    mean = training.per_step(training.sums("wall_ns") / 1e9)
    sheet.put_interval("step.mean_s", mean, method="sum over the window", samples=steps)
    sheet.put("step.span_s", training.wall_s, samples=steps)
    sheet.put("step.p95_s", float(np.quantile(wall_ns, 0.95)) / 1e9, samples=steps)
    sheet.put("step.max_s", int(wall_ns.max()) / 1e9, samples=steps)
    groups = float(training.steady("micro_batches").mean())
    sheet.put("step.micro_batches", groups, samples=steps)
    samples = training.steady("samples")
    known = samples >= 0
    if not known.any():
        for name in ("step.samples", "step.samples_per_s"):
            sheet.miss(name, "no batch showed how many samples it holds")
        return
    total, count = int(samples[known].sum()), int(known.sum())
    rate = total / (int(wall_ns[known].sum()) / 1e9)
    sheet.put("step.samples", total / count, samples=count)
    sheet.put("step.samples_per_s", rate, method="sum over the window", samples=count)


def _phases(training: Training, sheet: Sheet) -> None:
    steps = len(training.window)
    inferred = int(np.bitwise_or.reduce(training.steady("inferred")))
    step_s = training.wall_s / steps
    for phase in PHASES:
        names = (f"step.{phase}_share", f"step.{phase}_s", f"step.{phase}_inferred")
        if phase in training.unmeasured:
            for name in names:
                lost = phase in training.lost_phases
                sheet.miss(name, training.unmeasured[phase], lost=lost)
            continue
        share = training.phase_shares[phase]
        sheet.put_interval(names[0], share, method="sum over the window", samples=steps)
        sheet.put(names[1], share.mean * step_s, samples=steps)
        sheet.put(names[2], bool(inferred >> PHASE_INDEX[phase] & 1))
    if "data_wait" not in training.unmeasured:
        loaded = int(np.count_nonzero(training.steady("flags") & NO_LOADER == 0))
        share = training.phase_shares["data_wait"]
        method = f"sum over the window; {loaded} of {steps} steps asked a loader"
        sheet.put_interval("step.data_wait_share", share, method=method, samples=loaded)


def _states(training: Training, sheet: Sheet) -> None:
    """Wall time of the training thread, divided by what it did."""
    states = thread_states(training)
    reason = "this system has no /proc/*/schedstat"
    if not states:
        reason = "the thread's CPU time was read too seldom"
    for state in ("cpu", "run_queue", "blocked"):
        name = f"step.{state}_share"
        if state in states:
            sheet.put_interval(name, states[state], method="read between steps")
        else:
            sheet.miss(name, reason)


def thread_states(training: Training) -> dict[str, Interval]:
    """Parts of the window's time the training thread was on a CPU, queued for one, or blocked.

    Empty where its CPU time was not read; "cpu" alone where the run queue cannot be read.
    """
    cpu_ns, queue_ns = training.steady("cpu_ns"), training.steady("run_queue_ns")
    readings = np.flatnonzero(cpu_ns >= 0)
    if len(readings) < LEAST_READINGS:
        return {}
    spans_ns = np.diff(np.cumsum(training.steady("wall_ns"))[readings])
    edges = unit_edges(len(spans_ns))
    wall = unit_sums(spans_ns, edges)
    cpu = unit_sums(cpu_ns[readings[1:]], edges)
    queued = queue_ns[readings[1:]]
    series = {"cpu": np.minimum(cpu, wall)}
    if bool(np.all(queued >= 0)):
        queue = np.minimum(unit_sums(queued, edges), wall - series["cpu"])
        series |= {"run_queue": queue, "blocked": wall - series["cpu"] - queue}
    intervals = ratio_intervals(list(series.values()), wall, block_length(len(edges), 1, 1))
    return dict(zip(series, intervals, strict=True))


def read_steps(training: Training) -> list[tuple[PhaseStates, int]]:
    """The steady steps that carried readings on every mark, with their positions in the window."""
    states = training.trainer.states
    index = training.steady("index")
    if not len(index) or not len(states):
        return []
    chosen = [states[position] for position in evenly(len(states), 4_000)]
    chosen = [state for state in chosen if index[0] <= state.step <= index[-1]]
    positions = np.searchsorted(index, [state.step for state in chosen])
    return [
        (state, int(position))
        for state, position in zip(chosen, positions, strict=True)
        if index[position] == state.step
    ]


def phase_states(training: Training) -> dict[str, tuple[float, float | None]]:
    """Per phase: the parts of its time on a CPU and (where known) waiting for one.

    From the steps that carried readings on every mark, about one in 16; empty without any. Phases
    that none of them had are left out.
    """
    found = read_steps(training)
    if not found:
        return {}
    at = np.array([position for _, position in found])
    cpu = np.array([state.cpu_ns for state, _ in found], dtype=np.float64).sum(axis=0)
    queues = [state.run_queue_ns for state, _ in found]
    queue: Floats | None = None
    if all(one is not None for one in queues):
        queue = np.array(queues, dtype=np.float64).sum(axis=0)
    states_of: dict[str, tuple[float, float | None]] = {}
    for phase, place in PHASE_INDEX.items():
        wall = float(training.steady(f"{phase}_ns")[at].sum())
        if wall > 0:
            on_cpu = min(cpu[place] / wall, 1.0)
            waiting = None if queue is None else min(queue[place] / wall, 1.0 - on_cpu)
            states_of[phase] = (float(on_cpu), None if waiting is None else float(waiting))
    return states_of
