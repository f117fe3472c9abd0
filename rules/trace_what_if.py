"""Simulated changes of a trace: the gains of findings, and the records that reports show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from trainprof.profiler.model.diagnosis import CriticalPathTime, Finding, Gain, SimulatedChange
from trainprof.profiler.traces.changes import CHANGES
from trainprof.profiler.traces.timeline import Timeline
from trainprof.profiler.traces.what_if import Outcome, WhatIf
from trainprof.rules.engine import LEAST_GAIN
from trainprof.rules.rule import Rule


def with_simulated_gains(
    findings: Iterable[Finding], rules: Sequence[Rule], found: WhatIf | None, step_s: float | None
) -> list[Finding]:
    """The findings, with the gain that their rule's change has in a replay of the trace.

    What costs time off the critical path gains nothing when it is mended: such a finding becomes a
    note where another one is on it.
    """
    changes = {rule.id: rule.what_if for rule in rules}
    outcomes = found.outcomes if found is not None else {}
    told = [
        _simulated(finding, outcomes[changes[finding.rule] or ""], step_s)
        if changes.get(finding.rule) in outcomes
        else finding
        for finding in findings
    ]
    if not any(one.severity != "info" and _gains(one) for one in told):
        return told
    return [one if _gains(one) else replace(one, severity="info") for one in told]


def _gains(finding: Finding) -> bool:
    return finding.gain is None or finding.gain.high >= LEAST_GAIN


def _simulated(finding: Finding, outcome: Outcome, step_s: float | None) -> Finding:
    doubted = finding.gain is not None and finding.gain.low <= 1.0  # its fix may not be this one
    gain = Gain(min(outcome.low, 1.0) if doubted else outcome.low, outcome.high)
    return replace(
        finding,
        gain=gain,
        recoverable_s_per_step=_saved_s(gain, step_s),
        next_bottleneck=outcome.next_bottleneck,
    )


def _saved_s(gain: Gain, step_s: float | None) -> float | None:
    return None if step_s is None else max(step_s * (1 - 1 / gain.middle), 0.0)


def critical_path_time(found: WhatIf | None, timeline: Timeline) -> CriticalPathTime | None:
    """What decides how long the steps take, as shares of them."""
    if found is None:
        return None
    length = max(sum(found.path.parts_ns.values()), 1)
    window = timeline.window.text
    if not found.all_steps:
        window = f"{found.steps} of {window}, which take as long as the mean"
    return CriticalPathTime(
        window=window,
        window_s=length / 1e9,
        shares={part: time / length for part, time in found.path.parts_ns.items() if time},
    )


def simulated_changes(found: WhatIf | None) -> tuple[SimulatedChange, ...]:
    """The changes that would gain something, most first."""
    if found is None:
        return ()
    step_s = found.observed_ns / found.steps / 1e9 if found.steps else None
    records = [_record(one, step_s) for one in found.outcomes.values() if one.high >= LEAST_GAIN]
    gaining = [one for one in records if one.gain.middle > 1.0]
    return tuple(sorted(gaining, key=lambda one: -one.gain.middle))


def _record(one: Outcome, step_s: float | None) -> SimulatedChange:
    gain = Gain(one.low, one.high)
    return SimulatedChange(
        change=one.change,
        text=CHANGES[one.change],
        gain=gain,
        step_after_s=None if step_s is None else one.batches * step_s / gain.middle,
        next_bottleneck=one.next_bottleneck,
    )
