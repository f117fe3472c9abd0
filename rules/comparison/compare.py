"""Holds a candidate against a base."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from trainprof.profiler.model.comparison import (
    EITHER_SIDE,
    SCHEMA,
    Comparison,
    FactChange,
    Gate,
    PhaseChange,
    Ratio,
)
from trainprof.profiler.model.phases import PHASES
from trainprof.rules.comparison.changed import changed_facts
from trainprof.rules.comparison.measured import JudgedRun, problems
from trainprof.rules.comparison.turns import pairs_in_turns, usable_pairs
from trainprof.rules.statistics.groups import (
    LEVEL,
    Difference,
    Observation,
    group_difference,
    paired_difference,
    runs_to_decide,
)

Differing = Callable[[Sequence[Observation], Sequence[Observation]], Difference]
"""Gives the difference of a base and a candidate."""

SAME_BATCH = 0.05
"""Batches whose mean sizes differ by less are of one size: the last of an epoch may be shorter."""


def compare(
    base: Sequence[JudgedRun], candidate: Sequence[JudgedRun], limit: float | None = None
) -> Comparison:
    """The comparison of two groups of runs.

    Args:
        base: Runs of what there was.
        candidate: Runs of what is new.
        limit: Part of the base's time that the candidate may take longer, for the gate.
    """
    of_base, of_candidate = problems(base), problems(candidate)
    pairs = usable_pairs(pairs_in_turns(base, candidate), of_base, of_candidate)
    if pairs:
        old, new = [base[place] for place, _ in pairs], [candidate[place] for _, place in pairs]
    else:
        old, new = _usable(base, of_base), _usable(candidate, of_candidate)
    difference = paired_difference if pairs else group_difference
    reason = _incomparable(old, new)
    per = "step" if reason is not None else _unit(old, new)
    ratio = None if reason is not None else _ratio(old, new, per, difference)
    changes = changed_facts(base, candidate)
    gone, arisen = _findings(base, candidate)
    return Comparison(
        schema=SCHEMA,
        verdict="undecided" if ratio is None else _verdict(ratio),
        reason=reason,
        per=per,
        base=tuple(map(JudgedRun.summary, base, of_base)),
        candidate=tuple(map(JudgedRun.summary, candidate, of_candidate)),
        ratio=ratio,
        level=LEVEL,
        phases=() if reason is not None else tuple(_phases(old, new, per, difference)),
        changes=changes,
        findings_gone=gone,
        findings_new=arisen,
        remarks=tuple(_remarks((base, candidate), (of_base, of_candidate), per)),
        gate=None if limit is None else _gate(limit, ratio, reason, changes),
    )


def _usable(group: Sequence[JudgedRun], problems_of: Sequence[str | None]) -> list[JudgedRun]:
    pairs = zip(group, problems_of, strict=True)
    return [run for run, problem in pairs if problem is None]


def _incomparable(base: Sequence[JudgedRun], candidate: Sequence[JudgedRun]) -> str | None:
    """Why nothing can be decided."""
    for name, group in (("base", base), ("candidate", candidate)):
        if not group:
            return f"no run of the {name} has steps that can be compared"
    sizes = [{run.diagnosis.run.world_size or 1 for run in group} for group in (base, candidate)]
    if sizes[0] != sizes[1] or len(sizes[0]) > 1:
        first, second = (" and ".join(map(str, sorted(group))) for group in sizes)
        return f"the base trained on {first} ranks and the candidate on {second}"
    return None


def _unit(base: Sequence[JudgedRun], candidate: Sequence[JudgedRun]) -> str:
    """Per sample where batches are not of one size, as a larger step then does more."""
    sizes = [run.samples_per_step for run in (*base, *candidate)]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or max(known) <= (1.0 + SAME_BATCH) * min(known):
        return "step"
    return "sample"


def _ratio(
    base: Sequence[JudgedRun], candidate: Sequence[JudgedRun], per: str, difference: Differing
) -> Ratio:
    old, new = ([run.step_time(per) for run in group] for group in (base, candidate))
    found = difference(old, new)
    return Ratio(
        point=math.exp(found.point),
        low=math.exp(found.low),
        high=math.exp(found.high),
        run_deviation=found.deviation,
        assumed=found.assumed,
        steps_matter=found.assumed and found.sampling > found.deviation,
        pairs=len(base) if found.paired else None,
    )


def _verdict(ratio: Ratio) -> str:
    if ratio.low > 1.0:
        return "slower"
    return "faster" if ratio.high < 1.0 else "no_difference"


def _phases(
    base: Sequence[JudgedRun], candidate: Sequence[JudgedRun], per: str, difference: Differing
) -> Iterator[PhaseChange]:
    for phase in PHASES:
        first = [run.phase_time(phase, per) for run in base]
        second = [run.phase_time(phase, per) for run in candidate]
        old = [one for one in first if one is not None]
        new = [one for one in second if one is not None]
        if len(old) < len(first) or len(new) < len(second):
            continue
        base_s = math.fsum(one.value for one in old) / len(old)
        candidate_s = math.fsum(one.value for one in new) / len(new)
        if base_s == 0.0 and candidate_s == 0.0:
            continue
        found = difference(old, new)
        yield PhaseChange(phase, base_s, candidate_s, found.point, found.low, found.high)


def _gate(
    limit: float, ratio: Ratio | None, reason: str | None, changes: Iterable[FactChange]
) -> Gate:
    if ratio is None:
        return Gate(limit, "undecided", reason)
    if any((change.subject, change.name) == ("machine", "hardware") for change in changes):
        return Gate(limit, "undecided", "the runs were made on machines of different kinds")
    if ratio.low > 1.0 + limit:
        return Gate(limit, "failed")
    if ratio.high <= 1.0 + limit:
        return Gate(limit, "passed")
    paired = ratio.pairs is not None
    needed = runs_to_decide(math.log1p(limit), ratio.run_deviation, paired=paired)
    return Gate(limit, "undecided", EITHER_SIDE, needed)


def _findings(
    base: Sequence[JudgedRun], candidate: Sequence[JudgedRun]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Rules that speak of every run of one group and of none of the other, in their order."""
    old, new = ([_rules(run) for run in group] for group in (base, candidate))
    return _only(old, new), _only(new, old)


def _rules(run: JudgedRun) -> list[str]:
    return [finding.rule for finding in run.diagnosis.findings]


def _only(here: Sequence[list[str]], there: Sequence[list[str]]) -> tuple[str, ...]:
    if not here or not there:
        return ()
    return tuple(
        rule
        for rule in dict.fromkeys(here[0])
        if all(rule in rules for rules in here) and not any(rule in rules for rules in there)
    )


def _remarks(
    groups: tuple[Sequence[JudgedRun], Sequence[JudgedRun]],
    problems_of: tuple[Sequence[str | None], Sequence[str | None]],
    per: str,
) -> Iterator[str]:
    if per == "sample":
        yield "The batches are not of one size, so the time for one sample is compared."
    names = [{run.info.name for run in group} for group in groups]
    on_both = names[0] & names[1]
    for side, group, problems_here in zip(("base", "candidate"), groups, problems_of, strict=True):
        for run, problem in zip(group, problems_here, strict=True):
            name = run.info.name
            told = f"{name} of the {side}" if name in on_both else name
            yield from _remarks_of(run, told, problem)
    runs = [run for group in groups for run in group]
    drifting = sum(run.drifts for run in runs)
    if drifting:
        yield f"Step times of {drifting} of {len(runs)} runs grew or shrank while they ran."
    if _one_after_the_other(*groups):
        yield (
            "All runs of one group were made before those of the other: a change of the machine "
            "in between looks like one of the code. Make them in turns."
        )


def _remarks_of(run: JudgedRun, name: str, problem: str | None) -> Iterator[str]:
    """What is to be known of one run; where --steps ended it, it did all that it was to do."""
    summary = run.diagnosis.run
    if problem is not None:
        yield f"{name} does not count: {problem}."
    elif summary.status == "running":
        yield f"{name} still goes on; its steps until now count."
    elif summary.status != "complete" and summary.stopped_by != "steps":
        yield f"{name} is {summary.status}; the steps that it did count."
    if run.diagnosis.other_sessions:
        yield f"{name} holds several trainings; the longest is compared."


def _one_after_the_other(base: Sequence[JudgedRun], candidate: Sequence[JudgedRun]) -> bool:
    """Whether several runs a group were not made in turns."""
    if min(len(base), len(candidate)) < 2:
        return False
    old, new = ([run.info.started_unix_s for run in group] for group in (base, candidate))
    return max(old) < min(new) or max(new) < min(old)
