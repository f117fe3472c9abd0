"""From one trace file to the record that every report shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trainprof.profiler.model.diagnosis import (
    SCHEMA,
    DeviceTime,
    Diagnosis,
    KernelTime,
    OperatorTimes,
    RunSummary,
    StepSummary,
    ThreadTime,
)
from trainprof.profiler.model.signals import Signals
from trainprof.profiler.traces.events import Trace
from trainprof.profiler.traces.opening import open_trace
from trainprof.profiler.traces.timeline import DeviceTimeline, Timeline, timeline
from trainprof.profiler.traces.what_if import Replayed, what_if
from trainprof.rules.engine import evaluate, order
from trainprof.rules.fact_sheet import signal_facts
from trainprof.rules.memory_words import held_at_peak
from trainprof.rules.nulls import reasons_for_nulls
from trainprof.rules.reading import needed
from trainprof.rules.registry import chosen_rules, rules_of_traces
from trainprof.rules.rule import Rule
from trainprof.rules.trace_signals import measure
from trainprof.rules.trace_signals.trace_memory import PEAK
from trainprof.rules.trace_signals.traced import Traced
from trainprof.rules.trace_verdict import pronounce
from trainprof.rules.trace_what_if import (
    critical_path_time,
    simulated_changes,
    with_simulated_gains,
)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads a file and replays it, wherever that is done.

    Attributes:
        opened: The events of a file; raises as `open_trace`. replayed: As `what_if`.
    """

    opened: Callable[[Path], Trace] = open_trace
    replayed: Replayed = what_if


HERE = Reader()


def diagnose_trace(
    path: Path,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    reader: Reader = HERE,
    operators: bool = False,
) -> Diagnosis:
    """The diagnosis of one trace file, by the rules that read traces.

    Args:
        path: Of a Kineto or Chrome trace.
        select: Only these rules; all of them when empty.
        ignore: Not these rules.
        reader: Reads it.
        operators: Also how long each operator took, which only some formats show.

    Raises:
        TraceError: the file is no trace.
        UsageError: `select` or `ignore` names a rule that does not exist.
    """
    rules = trace_rules(select, ignore)  # imported while another process may be reading
    return diagnosis_of(read(path, reader), rules, operators=operators)


def trace_rules(select: Sequence[str] = (), ignore: Sequence[str] = ()) -> list[Rule]:
    """The rules that read traces, of those that are chosen.

    Raises:
        UsageError: `select` or `ignore` names a rule that does not exist.
    """
    return list(chosen_rules(select, ignore, among=rules_of_traces()))


def read(path: Path, reader: Reader = HERE) -> Traced:
    """The events of a file, and what devices and host did.

    Args:
        path: Of the file.
        reader: Reads it.

    Raises:
        TraceError: the file is no trace.
    """
    trace = reader.opened(path)
    return Traced(trace, timeline(trace), replayed=reader.replayed)


def diagnosis_of(one: Traced, rules: Sequence[Rule], *, operators: bool = False) -> Diagnosis:
    """What the rules say of one trace, with all that every report shows.

    Args:
        one: The trace.
        rules: Those that are asked.
        operators: Also how long each operator took, which only some formats show.
    """
    trace, found = one.trace, one.timeline
    signals = measure(one)
    evaluation = evaluate(rules, signals)
    step_s = step_summary(found).mean_s
    findings = with_simulated_gains(evaluation.findings, rules, one.what_if, step_s)
    evaluation = replace(evaluation, findings=tuple(sorted(findings, key=order(signals))))
    verdict = pronounce(evaluation, one, signals)
    path = Path(trace.path)
    diagnosis = Diagnosis(
        schema=SCHEMA,
        source="trace",
        run=RunSummary(
            status="incomplete" if trace.torn else "complete",
            name=path.name,
            path=trace.path,
            wall_s=found.window.length_ns / 1e9,
            device=_name(trace, found.devices[0]) if found.devices else None,
        ),
        verdict=verdict.word,
        headline=verdict.headline,
        steps=step_summary(found),
        findings=evaluation.findings,
        skipped_rules=evaluation.skipped,
        devices=tuple(_device(trace, found, one) for one in found.devices),
        training_thread=_thread(one),
        kernels=tuple(_kernels(one)),
        facts=signal_facts(signals),
        problems=(*_problems(trace, found), *_memory(signals)),
        critical_path=critical_path_time(one.what_if, found),
        what_if=simulated_changes(one.what_if),
        operators=_operators(one) if operators else None,
    )
    missing = reasons_for_nulls(diagnosis, signals)
    if one.what_if is not None and one.what_if.doubt is not None:
        missing["what_if"] = one.what_if.doubt
    return replace(diagnosis, missing=missing)


def step_summary(found: Timeline) -> StepSummary:
    """The whole steps of the window; none where the trace marks none."""
    count = found.window.steps
    mean_s = found.window.length_ns / count / 1e9 if count else None
    return StepSummary(count=count, steady=count, mean_s=mean_s)


def _device(trace: Trace, found: Timeline, device: DeviceTimeline) -> DeviceTime:
    whole = max(found.window.length_ns, 1)
    shares = {
        "compute": device.compute_ns,
        "exposed communication": device.exposed_ns,
        "exposed copies": device.copies_ns,
        "idle": device.idle_ns,
    }
    return DeviceTime(
        device=_called(trace, device),
        window=found.window.text,
        window_s=found.window.length_ns / 1e9,
        shares={name: length / whole for name, length in shares.items()},
        idle={cause: length / whole for cause, length in device.causes.items()},
    )


def _thread(one: Traced) -> ThreadTime | None:
    if one.thread is None:
        return None
    process, thread = one.trace.lanes[one.thread.lane]
    return ThreadTime(
        thread=one.trace.lane_names.get(one.thread.lane) or thread or process,
        window=one.timeline.window.text,
        window_s=one.timeline.window.length_ns / 1e9,
        shares={activity: one.thread.share(activity) for activity in one.thread.activities},
    )


def _kernels(one: Traced) -> list[KernelTime]:
    kernels = one.kernels
    if kernels is None:
        return []
    rows = []
    for family in kernels.families():
        whole = max(sum(family.precisions.values()), 1)
        cores = family.tensor_cores_ns
        rows.append(
            KernelTime(
                family=family.family,
                example=family.example,
                count=family.count,
                share=family.time_ns / max(kernels.busy_ns, 1),
                precisions={name: time / whole for name, time in family.precisions.items()},
                tensor_cores=None if cores is None else cores / whole,
                operator=family.operator,
            )
        )
    return rows


def _operators(one: Traced) -> OperatorTimes | None:
    # Here, as the text of a diagnosis has no room for them, and is the one that is waited for.
    from trainprof.rules.trace_operators import operator_times

    devices = one.timeline.devices
    return operator_times(one, _called(one.trace, devices[0]) if devices else None)


def _called(trace: Trace, device: DeviceTimeline) -> str:
    name = _name(trace, device)
    return f"{device.device} ({name})" if name else str(device.device)


def _name(trace: Trace, device: DeviceTimeline) -> str | None:
    """What the trace calls the device; None where it does not."""
    described = trace.header.get("deviceProperties")
    for one in described if isinstance(described, list) else ():
        if isinstance(one, dict) and one.get("id") == device.device and one.get("name"):
            return str(one["name"])
    return None


def _memory(signals: Signals) -> list[str]:
    """Who holds what is in use at the peak, where the trace tells it."""
    holders = signals.get("device_memory.holders").value
    if not isinstance(holders, Mapping):
        return []
    peak = needed(signals, PEAK.name)
    reserved = needed(signals, "device_memory.reserved_at_peak_bytes")
    return [f"at the peak {held_at_peak(peak, reserved, holders)}"]


def _problems(trace: Trace, found: Timeline) -> list[str]:
    problems = list(trace.notes)
    if found.left_out:
        problems.append(f"{found.left_out:,} devices that did less than these are left out")
    if trace.torn:
        problems.append("the file ends in the middle; what follows is of the part that it holds")
    if trace.skipped:
        problems.append(f"{trace.skipped:,} events could not be understood and are left out")
    return problems
