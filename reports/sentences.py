"""What every readable report says about a run, before it is laid out."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterable, Mapping
from typing import Any

from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Evidence,
    Finding,
    RankSummary,
    RunSummary,
)
from trainprof.reports import numbers
from trainprof.reports.phases import phase_label, phase_rows
from trainprof.reports.text import SHORT, printable

VERDICT_WORDS = {
    "bottleneck": "Bottleneck",
    "healthy": "Healthy",
    "insufficient": "Not enough evidence",
}
SAFETY = {
    "safe": "same maths, same sample order",
    "numerics": "rounding or random numbers may differ",
    "semantics": "changes what is trained, or in which order",
}
_MAX_REASONS = 4
_MAX_NAMES = 4
_COLLECTOR_WORDS = {"partial": "in part", "missing": "missing", "failed": "failed"}


def verdict_word(diagnosis: Diagnosis) -> str:
    """The verdict as a reader says it."""
    return VERDICT_WORDS.get(diagnosis.verdict, printable(diagnosis.verdict, SHORT))


def headline(diagnosis: Diagnosis) -> str:
    """The verdict in one sentence."""
    return printable(diagnosis.headline) or f"{verdict_word(diagnosis)}."


def verdict_parts(diagnosis: Diagnosis) -> tuple[str, str]:
    """The verdict's word and what is said after it; a sentence that begins with it is cut there."""
    word, text = verdict_word(diagnosis), headline(diagnosis)
    if text.lower().startswith(word.lower()):
        return text[: len(word)], text[len(word) :]
    return f"{word}: ", text


def finding_sentence(finding: Finding, headline_text: str = "") -> str:
    """What was found, in one sentence; its title where the report's headline says that already."""
    text = finding.summary or finding.title
    if text == headline_text and finding.title:
        text = f"{finding.title} (see above)"
    return printable(text)


def command(run: RunSummary) -> str:
    """The user's command as it could be typed, cut to a readable length."""
    return printable(shlex.join(run.argv), 2 * SHORT) if run.argv else ""


def ending(run: RunSummary) -> str:
    """How the run ended, and how long it took: "crashed with exit status 1 after 12.3 s"."""
    after = "" if run.wall_s is None else f" after {numbers.seconds(run.wall_s)}"
    if run.status == "complete":
        took = "" if run.wall_s is None else f" in {numbers.seconds(run.wall_s)}"
        return f"complete{took}"
    if run.status == "crashed":
        return f"crashed{with_status(run.exit_status)}{after}"
    if run.status == "stopped":
        by = "--steps" if run.stopped_by == "steps" else printable(run.stopped_by or "", SHORT)
        return f"stopped{' by ' + by if by else ''}{after}"
    if run.status == "incomplete":
        return f"incomplete: it ended without a closing record{after}"
    if run.status == "running":
        return f"still running{after}"
    return printable(run.status, SHORT)


def with_status(exit_status: int | None) -> str:
    """What a crash ended with, to be put after "crashed"; empty where it is not known."""
    if exit_status is None:
        return ""
    try:
        return f", killed by {signal.Signals(exit_status - 128).name}"
    except ValueError:
        return f" with exit status {exit_status}"


def caution(diagnosis: Diagnosis) -> str | None:
    """One sentence when the run did not end by itself, so that what follows is only a part."""
    run, count = diagnosis.run, diagnosis.steps.count
    if diagnosis.source == "trace" or run.status not in ("crashed", "incomplete", "running"):
        return None
    what = {
        "crashed": f"The script crashed{with_status(run.exit_status)}",
        "incomplete": "The run was killed or is torn",
        "running": "The run goes on",
    }[run.status]
    if count == 0:
        return f"{what}; no step was seen."
    steps = "the one step" if count == 1 else f"the {numbers.count(count)} steps"
    when = "so far" if run.status == "running" else "until then"
    return f"{what}; this is the diagnosis of {steps} seen {when}."


def run_lines(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """The header as (label, text): which run, its steps, its ranks."""
    run = diagnosis.run
    if diagnosis.source == "trace":
        lines = [("trace", printable(run.name or "", SHORT))]
    else:
        lines = [("run", " · ".join(part for part in (command(run), ending(run)) if part))]
    steps = _steps(diagnosis)
    if steps:
        lines.append(("steps", steps))
    ranks = _ranks(diagnosis.ranks, run.world_size)
    if ranks:
        lines.append(("ranks", ranks))
    where = _software(run)
    if where:
        lines.append(("with", where))
    return lines


def _steps(diagnosis: Diagnosis) -> str:
    steps = diagnosis.steps
    if steps.count == 0:
        return "none seen"
    steady = "" if diagnosis.source == "trace" else f" ({numbers.count(steps.steady)} steady)"
    parts = [f"{numbers.count(steps.count)}{steady}"]
    if steps.mean_s is not None:
        mean = f"{numbers.seconds(steps.mean_s)} a step"
        if steps.mean_s_low is not None and steps.mean_s_high is not None:
            low, high = numbers.seconds(steps.mean_s_low), numbers.seconds(steps.mean_s_high)
            mean += f" ({low} to {high})"
        parts.append(mean)
    if steps.samples_per_s is not None:
        parts.append(f"{numbers.significant(steps.samples_per_s)} samples/s")
    if diagnosis.run.startup_s is not None:
        parts.append(f"the first after {numbers.seconds(diagnosis.run.startup_s)}")
    return " · ".join(parts)


def _ranks(ranks: tuple[RankSummary, ...], world_size: int | None) -> str:
    count = max(len(ranks), world_size or 0)
    if count < 2:
        return ""
    timed = [rank for rank in ranks if rank.mean_s is not None]
    text = f"{count}, {len(ranks)} seen" if len(ranks) not in (0, count) else str(count)
    if len(timed) < 2:
        return text
    slowest = max(timed, key=lambda rank: rank.mean_s or 0.0)
    fastest = min(timed, key=lambda rank: rank.mean_s or 0.0)
    return (
        f"{text} · mean step {numbers.seconds(fastest.mean_s)} (rank {fastest.rank}) "
        f"to {numbers.seconds(slowest.mean_s)} (rank {slowest.rank})"
    )


def _software(run: RunSummary) -> str:
    named = (("torch", run.torch), ("Python", run.python))
    parts = [f"{name} {printable(value, SHORT)}" for name, value in named if value]
    if run.device:
        parts.append(f"on {printable(run.device, SHORT)}")
    return " · ".join(parts)


def evidence_line(evidence: Evidence) -> str:
    """One measured fact: signal, value, threshold and where it comes from."""
    value = printable(numbers.quantity(evidence.value, evidence.unit))
    text = f"{printable(evidence.signal, SHORT)} = {value}"
    notes = []
    if evidence.threshold is not None:
        threshold = numbers.quantity(evidence.threshold, evidence.unit)
        notes.append(f"threshold {printable(threshold, SHORT)}")
    if evidence.source:
        notes.append(printable(evidence.source))
    return f"{text} ({'; '.join(notes)})" if notes else text


def gain_line(finding: Finding) -> str:
    """What the fix is predicted to give, and what would bound the step then."""
    notes = [f"{printable(finding.confidence, SHORT)} confidence"]
    if finding.recoverable_s_per_step is not None and finding.recoverable_s_per_step > 0:
        notes.insert(0, f"about {numbers.seconds(finding.recoverable_s_per_step)} a step less")
    faster = "no speed-up predicted"
    if finding.gain is not None:
        faster = f"{numbers.ratio(finding.gain.low, finding.gain.high)} faster steps"
    text = f"{faster} ({', '.join(notes)})"
    if finding.next_bottleneck:
        text += f"; what bounds the step then: {phase_label(finding.next_bottleneck)}"
    if finding.past is not None:
        right, cases = finding.past.right, finding.past.cases
        noun = "case" if cases == 1 else "cases"
        text += f". This prediction has been right in {right} of {cases} past {noun}"
    return text


def remarks(diagnosis: Diagnosis) -> list[str]:
    """What makes this diagnosis less than it could be, and what comments left out."""
    lines = [printable(problem) for problem in diagnosis.problems]
    ignored = _ignored(diagnosis.ignored)
    return [ignored, *lines] if ignored else lines


def _ignored(ignored: tuple[Finding, ...]) -> str | None:
    if not ignored:
        return None
    rules = ", ".join(sorted({printable(finding.rule, SHORT) for finding in ignored}))
    noun = "finding" if len(ignored) == 1 else "findings"
    return f"{len(ignored)} {noun} ignored by a comment in the source: {rules}"


def unseen(diagnosis: Diagnosis) -> list[str]:
    """What could not be seen, one line each, like reasons folded together."""
    lines = [
        f"{printable(collector.name, SHORT)} "
        f"{_COLLECTOR_WORDS.get(collector.status, printable(collector.status, SHORT))}"
        f"{': ' + printable(collector.reason) if collector.reason else ''}"
        for collector in diagnosis.collectors
        if collector.status != "ok"
    ]
    skipped = _by_reason((rule.rule, rule.reason) for rule in diagnosis.skipped_rules)
    lines += _folded(skipped, "rule", "rules", "skipped")
    missing = _by_reason(_untold_gaps(diagnosis).items())
    lines += _folded(missing, "value", "values", "missing")
    return lines


def _by_reason(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, reason in pairs:
        groups.setdefault(reason, []).append(name)
    return groups


def _folded(groups: dict[str, list[str]], one: str, many: str, what: str) -> list[str]:
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    lines = []
    for reason, names in ordered[:_MAX_REASONS]:
        shown = ", ".join(printable(name, SHORT) for name in names[:_MAX_NAMES])
        rest = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        noun = one if len(names) == 1 else many
        lines.append(f"{len(names)} {noun} {what} ({shown}{rest}): {printable(reason)}")
    left = sum(len(names) for _, names in ordered[_MAX_REASONS:])
    if left:
        lines.append(f"{left} more {one if left == 1 else many} {what}, for other reasons")
    return lines


def _untold_gaps(diagnosis: Diagnosis) -> dict[str, str]:
    """What is missing and why, less the gaps of findings and of phases folded in the legend."""
    if diagnosis.source == "trace":  # what only a run can tell is no gap of a trace
        return {}
    shown = {row.phase for row in phase_rows(diagnosis.steps)}
    untold: dict[str, str] = {}
    for path, reason in diagnosis.missing.items():
        first, *rest = path.split(".")
        of_phase = (
            rest[1] if first == "steps" and rest[:1] == ["phases"] and len(rest) > 2 else None
        )
        if of_phase is not None and of_phase in shown:
            untold.setdefault(f"thread states of {phase_label(of_phase)}", reason)
        elif of_phase is None and first != "findings":
            untold[path] = reason
    return untold


def unseen_in_short(diagnosis: Diagnosis) -> str | None:
    """What could not be seen in one line, for a run where nothing is wrong."""
    lost = [collector.name for collector in diagnosis.collectors if collector.status != "ok"]
    parts = [printable(name, SHORT) for name in lost]
    for count, one, many in (
        (len(diagnosis.skipped_rules), "rule skipped", "rules skipped"),
        (len(_untold_gaps(diagnosis)), "value missing", "values missing"),
    ):
        if count:
            parts.append(f"{count} {one if count == 1 else many}")
    return f"Could not be seen: {', '.join(parts)}." if parts else None


def noise_line(aa: Mapping[str, Any]) -> str | None:
    """How much equal runs differed while fixes were tried; None where that was not measured.

    Args:
        aa: As of `TuneResult`.
    """
    noise, least = aa.get("sd"), aa.get("detectable")
    if not isinstance(noise, float) or not isinstance(least, dict):
        return None
    if not all(isinstance(ratio, (int, float)) for ratio in least.values()):
        return None
    shown = "; ".join(f"{pairs} pairs show {ratio:.2f}" for pairs, ratio in least.items())
    return f"equal runs differ by {numbers.share(noise)}: {shown} times and more"


def overhead_line(diagnosis: Diagnosis) -> str:
    """The cost of trainprof itself, or why it is not known."""
    overhead = diagnosis.overhead
    method = printable(overhead.method)
    if overhead.share is None:
        known = not method or method.startswith(numbers.NOT_MEASURED)
        return method or numbers.NOT_MEASURED if known else f"{numbers.NOT_MEASURED} ({method})"
    return f"{numbers.share(overhead.share)} of a step ({method})"
