"""From a memory snapshot to the record that every report shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from trainprof.profiler.model.diagnosis import SCHEMA, Diagnosis, RunSummary, StepSummary
from trainprof.profiler.traces.memory_history import MemoryHistory, memory_history
from trainprof.profiler.traces.memory_snapshot import read_snapshot
from trainprof.rules.engine import evaluate
from trainprof.rules.fact_sheet import signal_facts
from trainprof.rules.memory_words import held_at_peak
from trainprof.rules.nulls import reasons_for_nulls
from trainprof.rules.reading import size
from trainprof.rules.registry import chosen_rules
from trainprof.rules.trace_signals.trace_memory import DESCRIPTIONS, measure_snapshot
from trainprof.rules.verdict import Verdict, gravest

NAMES = frozenset(one.name for one in DESCRIPTIONS)


def diagnose_snapshot(
    path: Path, *, select: Sequence[str] = (), ignore: Sequence[str] = ()
) -> Diagnosis:
    """The diagnosis of one snapshot, by the rules that judge a device's memory.

    Args:
        path: Of what `torch.cuda.memory._dump_snapshot` has written.
        select: Only these rules; all of them when empty.
        ignore: Not these rules.

    Raises:
        TraceError: the file is no snapshot.
        UsageError: `select` or `ignore` names a rule that does not exist.
    """
    rules = [rule for rule in chosen_rules(select, ignore) if not NAMES.isdisjoint(rule.needs)]
    snapshot = read_snapshot(path)
    found = memory_history(snapshot)
    signals = measure_snapshot(found)
    evaluation = evaluate(rules, signals)
    grave = [finding for finding in evaluation.findings if finding.severity != "info"]
    verdict = (
        Verdict("bottleneck", gravest(grave).summary)
        if grave
        else Verdict("healthy", f"Nothing is wrong with the memory: {_held(found)}.")
    )
    diagnosis = Diagnosis(
        schema=SCHEMA,
        source="trace",
        run=RunSummary(
            status="complete", name=path.name, path=str(path), device=f"device {found.device}"
        ),
        verdict=verdict.word,
        headline=verdict.headline,
        steps=StepSummary(count=found.steps, steady=found.steps),
        findings=evaluation.findings,
        skipped_rules=evaluation.skipped,
        facts=signal_facts(signals),
        problems=tuple(_remarks(found, snapshot.skipped)),
    )
    return replace(diagnosis, missing=reasons_for_nulls(diagnosis, signals))


def _remarks(found: MemoryHistory, skipped: int) -> Iterator[str]:
    yield f"at the peak {_held(found)}"
    lines = [
        f"{size(one.size)} by {one.where.file}:{one.where.line}"
        for one in found.largest
        if one.where is not None
    ]
    if lines:
        yield f"most of it was allocated, {', '.join(lines[:MOST_LINES])}"
    if skipped:
        yield f"{skipped:,} entries could not be understood and are left out"


MOST_LINES = 3
"""That are named as the largest."""


def _held(found: MemoryHistory) -> str:
    return held_at_peak(found.peak, found.reserved, found.holders or {})
