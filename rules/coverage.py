"""What could not be seen, what trainprof itself cost, and what is odd about a run."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.diagnosis import Overhead
from trainprof.profiler.model.run import ProcessRecord, Run
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import duration, number, percent, place
from trainprof.rules.signals.training import Training

MOST_RESIDUAL_SHARE = 0.10
"""More of the step that no phase claims is said aloud (TraceML's gate); it is no finding."""


def collectors(run: Run, trainer: ProcessRecord | None) -> tuple[CollectorStatus, ...]:
    """What each collector could do: the samplers', the agent's, and those the agent disabled."""
    if trainer is None:
        loaded = any(process.info.role != "python" for process in run.others)
        reason = None if loaded else "it was not loaded into a process that imports torch"
        agent = CollectorStatus("agent", "ok" if loaded else "missing", reason)
        return (agent, *run.info.collectors)
    failed = {
        str(event.data.get("collector")): str(event.data.get("error"))
        for event in trainer.events
        if event.kind == "collector_failed"
    }
    status = "partial" if failed else "ok"
    reason = f"switched off after an error: {', '.join(failed)}" if failed else None
    return (
        CollectorStatus("agent", status, reason),
        *(CollectorStatus(f"agent: {name}", "failed", error) for name, error in failed.items()),
        *run.info.collectors,
    )


def overhead(training: Training) -> Overhead:
    """What trainprof itself takes of the step, as far as the agent measured it."""
    fact = training.trainer.latest_facts("agent").get("cost")
    steps = len(training.columns["index"])
    if fact is None or not steps:
        return Overhead(None, "not measured: the agent measures its cost when the training ends")
    counted = int(fact.data.get("steps") or training.count)
    thread_ns = float(fact.data.get("thread_cpu_ns") or 0.0) / max(counted, 1)
    per_step_ns = float(fact.data.get("hook_ns_per_step") or 0.0) + thread_ns
    step_ns = float(training.columns["wall_ns"].sum()) / steps
    return Overhead(min(per_step_ns / step_ns, 1.0), str(fact.data.get("method") or "measured"))


def problems(training: Training, signals: Signals) -> tuple[str, ...]:
    """Sentences on what makes this diagnosis less than it could be."""
    return tuple(_problems(training, signals))


def _applied_fixes(training: Training) -> Iterator[str]:
    """What was changed in this run, and whether it was in force: no number is the script's own."""
    for fact in training.trainer.latest_facts("fix").values():
        fix, reason = fact.data.get("fix"), fact.data.get("reason")
        settings = ", ".join(f"{key}={value}" for key, value in (fact.data["seen"] or {}).items())
        if fact.data.get("active") is True:
            although = f", although {fact.data['remark']}" if fact.data.get("remark") else ""
            yield f"{fix} was applied and in force{f' ({settings})' if settings else ''}{although}."
        else:
            yield f"{fix} was asked for and is not in force: {reason or 'nothing showed it'}."


def _problems(training: Training, signals: Signals) -> Iterator[str]:
    run = training.run
    yield from run.problems
    yield from run.info.notes
    yield from _applied_fixes(training)
    for event in training.events("data_missing"):
        reason = event.data.get("reason") or "an unknown reason"
        yield f"Records of the training are missing for some time: {reason}."
    limit = run.info.steps_limit
    if limit is not None and run.status == "complete" and training.count < limit:
        yield f"The script ended after {training.count} steps, before the limit of {limit}."
    window = training.window
    if window.steady is False and window.drift is not None:
        course = "grew" if window.drift > 0 else "fell"
        yield (
            f"No steady state: step times {course} by {percent(abs(window.drift))} over the steps "
            "that the means are taken of."
        )
    residual = number(signals, "step.residual_share")
    seconds = number(signals, "step.residual_s")
    unnamed = place(signals, "stacks.residual_where") is None  # else loop-residual tells it
    large = residual is not None and residual >= MOST_RESIDUAL_SHARE
    if residual is not None and seconds is not None and large and unnamed:
        yield (
            f"{percent(residual)} of the step ({duration(seconds)}) was not attributed to a phase: "
            "it lies in the loop's own code."
        )
