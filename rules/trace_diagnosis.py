"""From a trace file to the record that every report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainprof.profiler.model.diagnosis import (
    SCHEMA,
    DeviceTime,
    Diagnosis,
    RankSummary,
    RunSummary,
    StepSummary,
)
from trainprof.profiler.traces.arrivals import arrivals
from trainprof.profiler.traces.events import Trace
from trainprof.profiler.traces.reading import TraceError, read_trace
from trainprof.profiler.traces.timeline import DeviceTimeline, Timeline, timeline
from trainprof.rules.engine import Evaluation, evaluate
from trainprof.rules.fact_sheet import signal_facts
from trainprof.rules.nulls import reasons_for_nulls
from trainprof.rules.reading import percent
from trainprof.rules.registry import chosen_rules
from trainprof.rules.rule import Rule
from trainprof.rules.trace_signals import NAMES, measure
from trainprof.rules.trace_signals.traced import Traced
from trainprof.rules.verdict import Verdict, gravest, insufficient


def diagnose_trace(
    path: Path, *, select: Sequence[str] = (), ignore: Sequence[str] = ()
) -> Diagnosis:
    """The diagnosis of one trace file, by the rules that read traces.

    Args:
        path: Of a Kineto or Chrome trace.
        select: Only these rules; all of them when empty.
        ignore: Not these rules.

    Raises:
        TraceError: the file is no trace.
        UsageError: `select` or `ignore` names a rule that does not exist.
    """
    (diagnosis,) = diagnose_traces([path], select=select, ignore=ignore)
    return diagnosis


def diagnose_traces(
    paths: Sequence[Path], *, select: Sequence[str] = (), ignore: Sequence[str] = ()
) -> list[Diagnosis]:
    """One diagnosis of all where the files are ranks of one training, else one of each.

    Raises: as `diagnose_trace`; of several ranks, those that cannot be read are named and left out.
    """
    rules = [rule for rule in chosen_rules(select, ignore) if reads_traces(rule)]
    found, unread = [], []
    for path in paths:
        try:
            trace = read_trace(path)
        except TraceError as error:
            unread.append(error)
        else:
            found.append(Traced(trace, timeline(trace)))
    ranks = _ranks(found)
    if unread and (ranks is None or not found):
        raise unread[0]
    if ranks is None:
        return [_of_one(one, rules) for one in found]
    diagnosis = _of_ranks(ranks, rules)
    told = tuple(f"left out: {error}" for error in unread)
    return [replace(diagnosis, problems=(*diagnosis.problems, *told))]


def _ranks(found: Sequence[Traced]) -> dict[int, Traced] | None:
    """By rank; None where the files are not several ranks of one training."""
    by_rank: dict[int, Traced] = {}
    sizes = set()
    for one in found:
        said = one.trace.header.get("distributedInfo")
        rank = said.get("rank") if isinstance(said, dict) else None
        if not isinstance(rank, int) or rank in by_rank or not isinstance(said, dict):
            return None
        by_rank[rank] = one
        sizes.add(said.get("world_size"))
    return by_rank if len(by_rank) > 1 and len(sizes) == 1 else None


def _of_ranks(ranks: Mapping[int, Traced], rules: Sequence[Rule]) -> Diagnosis:
    """Of the rank that sets the pace, with what all of them tell together."""
    together = arrivals({rank: (one.trace, one.timeline) for rank, one in ranks.items()})
    windows = {rank: one.timeline.window.length_ns for rank, one in ranks.items()}
    late = together.straggler if together is not None else None
    longest = max(windows, key=lambda rank: windows[rank])
    pace = longest if late is None else late
    shown = replace(ranks[pace], together=together, windows_ns=windows)
    diagnosis = _of_one(shown, rules)
    size = shown.trace.header["distributedInfo"].get("world_size")
    size = size if isinstance(size, int) else None
    name = f"{len(ranks)} ranks; rank {pace}, shown here, is {diagnosis.run.name}"
    return replace(
        diagnosis,
        run=replace(diagnosis.run, name=name, path=None, world_size=size),
        ranks=tuple(_rank(rank, ranks[rank]) for rank in sorted(ranks)),
        problems=(*diagnosis.problems, *_absent(ranks, size)),
    )


MOST_NAMED = 8
"""Ranks that a sentence names."""


def _absent(ranks: Mapping[int, Traced], size: int | None) -> list[str]:
    """Says which ranks have no trace."""
    absent = sorted({*range(size or 0)} - {*ranks})
    if not absent:
        return []
    names = ", ".join(map(str, absent[:MOST_NAMED]))
    more = f" and {len(absent) - MOST_NAMED} more" if len(absent) > MOST_NAMED else ""
    return [f"there is no trace of rank {names}{more}"]


def _rank(rank: int, one: Traced) -> RankSummary:
    trace, found = one.trace, one.timeline
    whole = max(found.window.length_ns, 1)
    shares = {"data_wait": found.data_wait_ns / whole}
    if found.devices:
        shares["comm_exposed"] = found.devices[0].exposed_ns / whole
    main = trace.lanes[0][0] if trace.lanes else ""
    return RankSummary(
        rank=rank,
        pid=int(main) if main.isdecimal() else 0,
        steps=found.window.steps,
        mean_s=_steps(found).mean_s,
        phases_share=shares,
    )


def _of_one(one: Traced, rules: Sequence[Rule]) -> Diagnosis:
    trace, found = one.trace, one.timeline
    signals = measure(one)
    evaluation = evaluate(rules, signals)
    verdict = _verdict(evaluation, found)
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
        steps=_steps(found),
        findings=evaluation.findings,
        skipped_rules=evaluation.skipped,
        devices=tuple(_device(trace, found, one) for one in found.devices),
        facts=signal_facts(signals),
        problems=tuple(_problems(trace)),
    )
    return replace(diagnosis, missing=reasons_for_nulls(diagnosis, signals))


def reads_traces(rule: Rule) -> bool:
    """Whether a rule judges what only traces tell, or says that it judges them too."""
    return rule.on_traces or not NAMES.isdisjoint(rule.needs)


def _verdict(evaluation: Evaluation, found: Timeline) -> Verdict:
    grave = [finding for finding in evaluation.findings if finding.severity != "info"]
    if grave:
        return Verdict("bottleneck", gravest(grave).summary)
    if not found.devices:
        return insufficient("the trace holds no work of a device")
    busy = found.devices[0].busy_ns / max(found.window.length_ns, 1)
    window = found.window.text
    return Verdict("healthy", f"Healthy: the device is busy for {percent(busy)} of {window}.")


def _steps(found: Timeline) -> StepSummary:
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
    name = _name(trace, device)
    return DeviceTime(
        device=f"{device.device} ({name})" if name else str(device.device),
        window=found.window.text,
        window_s=found.window.length_ns / 1e9,
        shares={name: length / whole for name, length in shares.items()},
        idle={cause: length / whole for cause, length in device.causes.items()},
    )


def _name(trace: Trace, device: DeviceTimeline) -> str | None:
    """What the trace calls the device; None where it does not."""
    described = trace.header.get("deviceProperties")
    for one in described if isinstance(described, list) else ():
        if isinstance(one, dict) and one.get("id") == device.device and one.get("name"):
            return str(one["name"])
    return None


def _problems(trace: Trace) -> list[str]:
    problems = []
    if trace.torn:
        problems.append("the file ends in the middle; what follows is of the part that it holds")
    if trace.skipped:
        problems.append(f"{trace.skipped:,} events could not be understood and are left out")
    return problems
