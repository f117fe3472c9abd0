"""What the traces of a few steps add to the diagnosis of the run that took them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainprof.profiler.model.diagnosis import DeviceTime, Finding, OperatorTimes
from trainprof.profiler.model.run import Run, Session, TraceRecord
from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.causes import Judged, under_their_causes
from trainprof.rules.engine import order
from trainprof.rules.reading import text
from trainprof.rules.registry import rules_of_traces
from trainprof.rules.rule import Rule
from trainprof.rules.short_windows import all_graded, longest_share

MOST_BYTES = 100_000_000
"""Of JSON that the end of a run may read: some 300,000 events, which take a second."""
PACKED = 12
"""So many times as long is a packed trace once it is unpacked (measured: 10 to 14)."""


LINK_SPEED = "copies.h2d_pinned_bytes_per_s"
"""The signal of traces that a rule of runs shows, beside what the driver says of the link."""


def _unknown(reason: str) -> Signal:
    return Signal(None, "bytes/s", reason=reason)


@dataclass(frozen=True, slots=True)
class Told:
    """What traces tell of one training.

    Attributes:
        findings: Each names the steps that it is of. devices: The same, as a table.
        problems: Sentences on windows that came to nothing, or were not read.
        link_speed: Measured by copies to the device.
        operators: How long each took, in the steps that were traced.
    """

    findings: tuple[Finding, ...] = ()
    devices: tuple[DeviceTime, ...] = ()
    problems: tuple[str, ...] = ()
    link_speed: Signal = field(default_factory=lambda: _unknown("no trace of a few steps was read"))
    operators: OperatorTimes | None = None


def told_by_traces(run: Run, session: Session, rules: Sequence[Rule]) -> Told:
    """Reads the latest window of a training, of all its ranks.

    A trace that cannot be read is a sentence among the problems.

    Args:
        run: With what it knows of its traces.
        session: The training that is diagnosed.
        rules: Those that are asked of the run; the ones that read traces are asked here too.
    """
    processes = {Path(trainer.folder).name for trainer in session.trainers}
    own = [one for one in run.traces if one.process in processes]
    written = [one for one in own if one.path is not None]
    problems = [*dict.fromkeys(_came_to_nothing(own, run.status))]
    if not written:
        return Told(problems=tuple(problems))
    latest = max(one.first for one in written)
    earlier = sorted({one.first for one in written} - {latest})
    if earlier:
        problems.append(_not_read(earlier, run.path))
    records = [one for one in written if one.first == latest]
    told = _read(records, rules)
    steps = records[0].steps or 1
    longest = max(longest_share(one, latest, steps) for one in session.trainers)
    told = replace(told, findings=all_graded(told.findings, steps, longest))
    return replace(told, problems=(*problems, *told.problems))


def _read(records: Sequence[TraceRecord], rules: Sequence[Rule]) -> Told:
    # Here, as most runs have no trace: reading them takes a tenth of a second to import.
    from trainprof.profiler.traces.reading import TraceError
    from trainprof.rules.rank_traces import diagnose_traces

    steps = _steps(records[0])
    paths = [Path(str(one.path)) for one in records]
    asked = [rule.id for rule in rules if rule.id in rules_of_traces()]
    if not asked:
        return Told()
    if sum(map(_size, paths)) > MOST_BYTES:
        return Told(problems=(f"The trace of {steps} is large; read it: {_command(paths)}.",))
    try:
        diagnoses = diagnose_traces(paths, select=asked, operators=True)
    except TraceError as error:
        return Told(problems=(f"The trace of {steps} could not be read: {error}",))
    found = diagnoses[0]
    return Told(
        findings=tuple(
            replace(one, summary=f"{one.summary.rstrip('.')} ({steps}).") for one in found.findings
        ),
        devices=tuple(replace(one, window=f"{one.window}, {steps}") for one in found.devices),
        problems=tuple(f"In the trace of {steps} {problem}." for problem in found.problems),
        operators=found.operators
        and replace(found.operators, window=f"{found.operators.window}, {steps}"),
        link_speed=_link_speed(found.facts, steps)
        if len(paths) == 1
        else _unknown("several ranks were traced, and their links need not be the same"),
    )


def _link_speed(facts: Mapping[str, object], steps: str) -> Signal:
    signals = facts.get("signals")
    described = signals.get(LINK_SPEED) if isinstance(signals, Mapping) else None
    if not isinstance(described, Mapping):
        return _unknown("the trace does not tell")
    return replace(Signal(**described), method=f"in the trace of {steps}")


def with_link_speed(signals: Signals, told: Told) -> Signals:
    """The signals of a run, and how fast its traces saw copies to its only GPU.

    Of several GPUs the driver tells the slowest link, the trace the busiest device: these two need
    not be the same, so the speed is then missing.

    Args:
        signals: Of the run.
        told: By its traces.
    """
    several = "," in (text(signals, "gpu.devices") or "")
    why = "the run uses several GPUs, and the link that was measured need not be the slowest"
    return Signals({**signals.values, LINK_SPEED: _unknown(why) if several else told.link_speed})


def _size(path: Path) -> int:
    """Bytes of JSON that reading it takes; 0 where it has gone."""
    try:
        return path.stat().st_size * (PACKED if path.suffix == ".gz" else 1)
    except OSError:
        return 0


def _steps(record: TraceRecord) -> str:
    if record.steps is None or record.steps == 1:
        return f"step {record.first}" if record.steps else f"steps from {record.first}"
    return f"steps {record.first} to {record.first + record.steps - 1}"


def _command(paths: Sequence[Path]) -> str:
    return f"`trainprof diagnose {' '.join(map(str, paths))}`"


def _not_read(earlier: Sequence[int], folder: str) -> str:
    several = len(earlier) > 1
    what = f"{len(earlier)} earlier traces lie" if several else "An earlier trace lies"
    steps = ", ".join(map(str, earlier[:8]))
    files = f"{folder}/traces/*-step-{earlier[-1]}.*"
    return f"{what} beside the latest (from step {steps}); read it: `trainprof diagnose {files}`."


def _came_to_nothing(records: Sequence[TraceRecord], status: str) -> Iterator[str]:
    for one in records:
        if one.path is None and one.reason is not None:
            yield f"A trace of a few steps was wanted and not taken: {one.reason}."
        elif one.path is None and status != "running":
            yield f"The training ended before its trace of {_steps(one)} was whole."


def _is_known(rule: str, beginnings: tuple[str, ...], known: Sequence[str]) -> bool:
    """Whether the run has a finding, of another rule, of which one begins like that."""
    return any(one != rule and one.startswith(beginnings) for one in known) if beginnings else False


def with_traces(
    findings: Sequence[Finding], told: Sequence[Finding], rules: Sequence[Rule], signals: Signals
) -> tuple[Finding, ...]:
    """The findings of a run and of its traces, in the order of a report.

    Of the same rule's the run's is kept, unless the trace has more evidence; what a rule of runs
    knows better is left out (`Rule.yields_to`).

    Args:
        findings: Of the run.
        told: Of its traces.
        rules: All that were asked.
        signals: Of the run.
    """
    if not told:
        return tuple(findings)
    yields = {rule.id: rule.yields_to for rule in rules}
    known = [one.rule for one in findings if one.severity != "info"]
    told = [one for one in told if not _is_known(one.rule, yields.get(one.rule, ()), known)]
    by_rule = {one.rule: one for one in told}
    kept = [
        one
        for one in findings
        if one.rule not in by_rule or len(by_rule[one.rule].evidence) <= len(one.evidence)
    ]
    kept += [one for one in told if one.rule not in {other.rule for other in kept}]
    explains = {rule.id: rule.suppresses for rule in rules}
    judged = [Judged(one, explains.get(one.rule, ())) for one in kept]
    hidden = {(one.rule, one.summary): one.suppresses for one in kept}
    roots = [
        replace(one, suppresses=tuple(sorted({*one.suppresses, *hidden[one.rule, one.summary]})))
        for one in under_their_causes(judged)
    ]
    return tuple(sorted(roots, key=order(signals)))
