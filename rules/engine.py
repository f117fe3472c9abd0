"""Asks every rule and decides what becomes a finding: gates, grades, causes, order.

The gates are the same for all rules, so no rule can be louder than its evidence:

- A finding costs at least 3 % of the step (info), 10 % (warn) or 20 % (critical), and the lower
  bound of its 90 % interval lies above the threshold of the grade it gets.
- Its predicted gain may reach 3 %.
- Fewer than 20 steady steps never give a warn, fewer than two nothing; facts that need no timing
  (a debug switch, a NaN) are exempt.
- On a machine that others keep busy every timed finding has low confidence, and is a note if it may
  gain nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from trainprof.profiler.model.diagnosis import Finding, Gain, SkippedRule
from trainprof.profiler.model.signals import Signals
from trainprof.rules.causes import Judged, under_their_causes
from trainprof.rules.next_bottleneck import phase_after, phases_of
from trainprof.rules.rule import Candidate, Rule

SEVERITIES = ("info", "warn", "critical")

LEAST_SHARE = {"info": 0.03, "warn": 0.10, "critical": 0.20}
"""Share of step time. TraceML warns at 10 and 20 %, XProf calls an input-bound step moderate from 5
and high from 20 %."""

LEAST_GAIN = 1.03
"""Upper end of the predicted T_old / T_new; less is not worth a reader's time."""

LEAST_STEADY_STEPS = 20
"""For a grade of warn or above (TraceML's gate for critical)."""

LEAST_STEPS = 2
"""For anything that rests on timing."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the rules had to say.

    Attributes:
        findings: In the order of a report.
        skipped: Rules that could not be asked, and why.
        gated: Rules able to warn that had too few steps, or lost a collector.
    """

    findings: tuple[Finding, ...]
    skipped: tuple[SkippedRule, ...]
    gated: tuple[SkippedRule, ...]


def evaluate(rules: Iterable[Rule], signals: Signals) -> Evaluation:
    """Asks each rule whose signals are there. What a rule raises is a mistake, and passes."""
    rules = tuple(rules)
    symptoms = tuple(rule.id for rule in rules if rule.is_symptom)
    judged: list[Judged] = []
    skipped: list[SkippedRule] = []
    gated: list[SkippedRule] = []
    for rule in rules:
        if not rule.applies(signals):
            continue
        absent = next(
            (name for name in rule.needs_of(signals) if signals.get(name).value is None), None
        )
        if absent is not None:
            signal = signals.get(absent)
            skipped.append(SkippedRule(rule.id, signal.reason or f"{absent} was not measured"))
            if signal.lost and rule.can_warn:
                gated.append(skipped[-1])
            continue
        for candidate in rule.check(signals):
            finding, held_back = judge(rule, candidate, signals)
            if held_back is not None:
                gated.append(SkippedRule(rule.id, held_back))
            if finding is not None:
                explains = symptoms if finding.gain is not None and not rule.is_symptom else ()
                judged.append(Judged(finding, (*rule.suppresses, *explains)))
    findings = under_their_causes(judged)
    return Evaluation(tuple(sorted(findings, key=order(signals))), tuple(skipped), tuple(gated))


def judge(rule: Rule, candidate: Candidate, signals: Signals) -> tuple[Finding | None, str | None]:
    """The finding that a candidate becomes, or None; and why it was held back for want of steps."""
    severity = grade(rule, candidate)
    if severity is None:
        return None, None
    held_back = None
    confidence = candidate.confidence
    steady = signals.get("step.steady_count").value
    if not candidate.timeless and isinstance(steady, int) and steady < LEAST_STEADY_STEPS:
        if severity != "info":
            held_back = f"only {steady} steady steps were recorded; {LEAST_STEADY_STEPS} are needed"
        if steady < LEAST_STEPS:
            return None, held_back
        severity, confidence = "info", "low"
    timed = candidate.gain is not None and not candidate.timeless
    if timed and signals.get("host.contended").value is True:
        confidence = "low"
        if candidate.gain is not None and candidate.gain.low <= 1.0:
            severity = "info"
    finding = Finding(
        rule=rule.id,
        severity=severity,
        title=candidate.title or rule.title,
        summary=candidate.summary,
        evidence=candidate.evidence,
        where=candidate.where,
        share=candidate.share,
        recoverable_s_per_step=_recoverable_s(candidate.gain, signals),
        gain=candidate.gain,
        confidence=confidence,
        fixes=candidate.fixes,
        next_bottleneck=candidate.next_bottleneck or _next_bottleneck(candidate, signals),
    )
    return finding, held_back


def _next_bottleneck(candidate: Candidate, signals: Signals) -> str | None:
    """What bounds the step after the fix, where its gain and what it shortens are known."""
    if candidate.gain is None:
        return None
    phases = candidate.phases or phases_of(candidate.evidence)
    return phase_after(signals, phases, candidate.gain.middle)


def grade(rule: Rule, candidate: Candidate) -> str | None:
    """The severity that the evidence carries, None below all of them.

    Raises:
        ValueError: the rule gives neither a share nor a severity, or no evidence.
    """
    if not candidate.evidence:
        raise ValueError(f"{rule.id} gave no evidence")
    if candidate.gain is not None and candidate.gain.high < LEAST_GAIN:
        return None
    highest = candidate.max_severity if rule.can_warn else "info"
    allowed = SEVERITIES[: SEVERITIES.index(highest) + 1]
    if candidate.severity is not None:
        return candidate.severity if candidate.severity in allowed else highest
    if candidate.share is None:
        raise ValueError(f"{rule.id} gave neither a share nor a severity")
    sure = candidate.share if candidate.share_low is None else candidate.share_low
    least = min(candidate.share, sure)
    return next((one for one in reversed(allowed) if least > LEAST_SHARE[one]), None)


def _recoverable_s(gain: Gain | None, signals: Signals) -> float | None:
    """Seconds that the fix gives back of each step: T - T / gain, at the interval's middle."""
    mean_s = signals.get("step.mean_s").value
    if gain is None or not isinstance(mean_s, float):
        return None
    return max(mean_s * (1.0 - 1.0 / gain.middle), 0.0)


def order(signals: Signals) -> Callable[[Finding], tuple[bool, bool, bool, float, int, str]]:
    """What ends the training first, then warnings, then notes, each by recoverable time.

    A note may promise more than a warning, but it rests on less: it never stands before one. Among
    notes those come last that may gain nothing, which only a trial tells. A critical finding
    without a time model (memory that runs out, a NaN) tells that the run is lost: it comes before
    anything that is merely slow. A warning without one (epochs for nothing) counts as the least
    that a warning of time stands for.
    """
    mean_s = signals.get("step.mean_s").value
    step_s = mean_s if isinstance(mean_s, float) else 0.0

    def key(finding: Finding) -> tuple[bool, bool, bool, float, int, str]:
        recoverable = finding.recoverable_s_per_step or 0.0
        if finding.gain is None and finding.severity != "info":
            recoverable = LEAST_SHARE[finding.severity] * step_s
        fatal = finding.severity == "critical" and finding.gain is None
        note = finding.severity == "info"
        untried = note and finding.gain is not None and finding.gain.low <= 1.0
        grade = SEVERITIES.index(finding.severity)
        return (not fatal, note, untried, -recoverable, -grade, finding.rule)

    return key
