"""From the outcome of a tune to the record that reports show, and to the plan of what is kept."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from types import MappingProxyType
from typing import Any

from trainprof.profiler.model.plan import Plan
from trainprof.profiler.model.tuning import RefusedFix, TriedFix, TriedTogether, TuneResult
from trainprof.rules.calibration import Case
from trainprof.rules.experiments.candidates import Candidate, Refused
from trainprof.rules.experiments.experiment import Experiment
from trainprof.rules.experiments.outcome import Outcome
from trainprof.rules.statistics.pairs import (
    LEAST_RATIO,
    LEVEL,
    LOOKS,
    Ratio,
    deciding_low,
    detectable,
    paired_ratio,
)


def result_of(
    outcome: Outcome,
    *,
    run: str,
    plan: str | None,
    patch: str | None,
    by_hand: tuple[str, ...] = (),
    preflight: Mapping[str, Any] = MappingProxyType({}),
    steps: int,
    seconds: float,
    ended: str,
) -> TuneResult:
    """The record."""
    final = outcome.final
    ratio = final.ratio if final is not None else None
    tried = {
        verdict: tuple(tried_fix(one) for one in outcome.experiments if one.verdict == verdict)
        for verdict in ("inconclusive", "reject", "failed")
    }
    return TuneResult(
        run=run,
        speedup=ratio.point if ratio else None,
        ci=_bounds(ratio),
        ci_level=LEVEL,
        pairs=ratio.pairs if ratio else 0,
        looks=final.looks if final else 0,
        least_ratio=LEAST_RATIO,
        kept=tuple(tried_fix(one) for one in _kept(outcome)),
        inconclusive=(*tried["inconclusive"], *_left_out(outcome)),
        rejected=tried["reject"],
        failed=tried["failed"],
        refused=tuple(RefusedFix(one.fix, one.rule, one.reason) for one in outcome.refused),
        combinations=tuple(_together(one) for one in outcome.combinations),
        aa=noise_of(outcome.equal_log_ratios),
        aa_pairs=outcome.equal_pairs,
        dropped_pairs=outcome.dropped,
        preflight=dict(preflight),
        loss_check=_loss(final) if final else None,
        patch=patch,
        by_hand=by_hand,
        plan=plan,
        ended=ended,
        steps=steps,
        seconds=seconds,
    )


def dry_result(
    candidates: Sequence[Candidate],
    refused: Sequence[Refused],
    *,
    run: str,
    steps: int,
    seconds: float,
) -> TuneResult:
    """What would be tried; `seconds` is what the trials would take at least."""
    return TuneResult(
        run=run,
        candidates=tuple(tried_fix(Experiment("", (candidate,))) for candidate in candidates),
        refused=tuple(RefusedFix(one.fix, one.rule, one.reason) for one in refused),
        ended="dry run",
        steps=steps,
        seconds=seconds,
    )


def cases_of(outcome: Outcome, machine: str, tune: str, now_s: float) -> list[Case]:
    """What became of the predictions: of fixes that were measured against the original.

    Args:
        outcome: Of the tune.
        machine: Its class.
        tune: Tells it apart from others.
        now_s: Unix time.
    """
    cases = []
    for one in outcome.experiments:
        candidate, ratio = one.candidates[0], one.ratio
        gain = candidate.predicted
        if gain is None or ratio is None or ratio.low is None or ratio.high is None or one.base:
            continue
        cases.append(
            Case(
                rule=candidate.rule,
                fix=candidate.application.fix,
                machine=machine,
                low=gain.low,
                high=gain.high,
                measured=ratio.point,
                measured_low=ratio.low,
                measured_high=ratio.high,
                tune=tune,
                unix_s=now_s,
            )
        )
    return cases


def plan_of(outcome: Outcome) -> Plan | None:
    """What is kept, as a plan; None when nothing is."""
    if outcome.final is None:
        return None
    candidates = [*outcome.final.base, *outcome.final.candidates]
    return Plan(tuple(replace(one.application, safety=one.safety) for one in candidates))


def proof_of(outcome: Outcome) -> dict[str, Any]:
    """What was measured of what is kept, for whoever reads its plan."""
    ratio = outcome.final.ratio if outcome.final is not None else None
    if ratio is None:
        return {}
    return {"speedup": ratio.point, "ci": _bounds(ratio), "pairs": ratio.pairs}


def _kept(outcome: Outcome) -> list[Experiment]:
    """The fixes of the final combination, each with what it gained by itself."""
    if outcome.final is None:
        return []
    together = [candidate.application for candidate in outcome.final.candidates]
    singles = [one for one in outcome.experiments if one.verdict == "keep"]
    return [one for one in singles if one.candidates[0].application in together]


def _left_out(outcome: Outcome) -> list[TriedFix]:
    """What was proven by itself and is not part of what is kept."""
    kept = _kept(outcome)
    alone = [one for one in outcome.experiments if one.verdict == "keep" and one not in kept]
    reason = "faster by itself, and not shown to be so together with what is kept"
    return [replace(tried_fix(one), reason=reason) for one in alone]


def tried_fix(experiment: Experiment) -> TriedFix:
    """One fix, as far as it got."""
    candidate, ratio = experiment.candidates[0], experiment.ratio
    predicted = candidate.predicted
    return TriedFix(
        fix=candidate.application.fix,
        params=dict(candidate.application.params),
        rule=candidate.rule,
        speedup=ratio.point if ratio else None,
        ci=_bounds(ratio),
        pairs=ratio.pairs if ratio else 0,
        looks=experiment.looks,
        predicted=(predicted.low, predicted.high) if predicted else None,
        reason=experiment.reason,
        loss_check=_loss(experiment),
        searched=tuple(asdict(one) for one in candidate.searched),
        measured=tuple(experiment.measured),
        deciding_low=deciding_low(experiment.log_ratios, experiment.tests),
    )


def _bounds(ratio: Ratio | None) -> tuple[float, float] | None:
    if ratio is None or ratio.low is None or ratio.high is None:
        return None
    return ratio.low, ratio.high


def _loss(experiment: Experiment) -> dict[str, Any] | None:
    return asdict(experiment.loss) if experiment.loss is not None else None


def _together(experiment: Experiment) -> TriedTogether:
    ratio = experiment.ratio
    return TriedTogether(
        fixes=tuple(one.application.fix for one in experiment.candidates),
        verdict=experiment.verdict or "inconclusive",
        speedup=ratio.point if ratio else None,
        ci=_bounds(ratio),
        pairs=ratio.pairs if ratio else 0,
        reason=experiment.reason,
        measured=tuple(experiment.measured),
        deciding_low=deciding_low(experiment.log_ratios, experiment.tests),
    )


def noise_of(ratios: Sequence[float]) -> dict[str, Any]:
    """How much equal runs differ, and the smallest ratios that pairs of runs show under it.

    Args:
        ratios: Log-ratios of pairs of unchanged runs.
    """
    if len(ratios) < 2:
        return {"sd": None, "pairs": len(ratios), "detectable": None}
    deviation = statistics.stdev(ratios)
    least = {str(pairs): detectable(deviation, pairs) for pairs in LOOKS}
    ratio = paired_ratio(ratios)
    return {
        "sd": deviation,
        "pairs": len(ratios),
        "detectable": least,
        "ratio": ratio.point,
        "ci": _bounds(ratio),
    }
