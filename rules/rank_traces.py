"""From the trace files of several ranks to one diagnosis: of the rank that sets the pace.

Each file is reduced to a brief, in processes where there is much to read; the briefs are compared;
and the rank that is shown is read once more. So a process holds one file at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from trainprof.profiler.model.diagnosis import Diagnosis, RankSummary
from trainprof.profiler.traces.arrivals import Arrivals, arrivals
from trainprof.profiler.traces.reading import TraceError
from trainprof.profiler.traces.what_if import Outcome, saved_of, what_if
from trainprof.rules.rank_brief import RankBrief, ToRead, Unread, brief
from trainprof.rules.rule import Rule
from trainprof.rules.trace_diagnosis import (
    HERE,
    Reader,
    diagnose_trace,
    diagnosis_of,
    read,
    trace_rules,
)

POOLED_BYTES = 4 << 20
"""Of files: from there on it pays to start processes, which takes a third of a second."""
MOST_NAMED = 8
"""Ranks that a sentence names, and files that are named as left out."""

Told = Callable[[int], None]
Briefs = Callable[[Sequence[ToRead], Told], list[RankBrief | Unread]]
"""Reads all files, wherever that is done, and tells how many are done."""


def diagnose_traces(
    paths: Sequence[Path],
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    briefs: Briefs | None = None,
    told: Told = lambda done: None,
    reader: Reader = HERE,
    operators: bool = False,
) -> list[Diagnosis]:
    """One diagnosis of all where the files are ranks of one training, else one of each.

    Args:
        paths: Of the files.
        select: Only these rules; all of them when empty.
        ignore: Not these rules.
        briefs: Reads them; in processes of this machine by default.
        told: Called with the number of files that are read, after each.
        reader: Reads a file that is the only one.
        operators: Also how long each operator took, which only some formats show.

    Raises:
        TraceError: a file is no trace; of several ranks, such files are named and left out.
        UsageError: `select` or `ignore` names a rule that does not exist.
    """
    if len(paths) == 1:
        return [
            diagnose_trace(
                paths[0], select=select, ignore=ignore, reader=reader, operators=operators
            )
        ]
    rules = trace_rules(select, ignore)
    tasks = [ToRead(path, tuple(select), tuple(ignore), operators) for path in paths]
    found = (briefs or local_briefs())(tasks, told)
    training = _training(found)
    if training is not None:
        return [_of_ranks(training, rules, operators=operators)]
    for one in found:
        if isinstance(one, Unread):
            raise TraceError(one.why)
    return [_alone(one, rules, operators=operators) for one in found if isinstance(one, RankBrief)]


def local_briefs(jobs: int | None = None) -> Briefs:
    """Reads files in processes of this machine.

    Args:
        jobs: How many at a time; by default one for each core, or none where there is little to do.
    """

    def briefs(tasks: Sequence[ToRead], told: Told) -> list[RankBrief | Unread]:
        from trainprof.rules.file_workers import each_in_a_process, usable_cores

        count = jobs or (usable_cores() if _bytes(tasks) >= POOLED_BYTES else 1)
        if min(count, len(tasks)) > 1:
            return each_in_a_process(brief, tasks, count, unread, told)
        found = []
        for task in tasks:
            found.append(brief(task))
            told(len(found))
        return found

    return briefs


def unread(task: ToRead, why: str) -> RankBrief | Unread:
    """The result of a file whose reader was lost."""
    return Unread(task.path, f"{task.path}: {why}.")


def _bytes(tasks: Sequence[ToRead]) -> int:
    return sum(task.path.stat().st_size for task in tasks if task.path.is_file())


@dataclass(frozen=True, slots=True)
class _Training:
    """Ranks of one training by number; its world size; what was left out, as sentences.

    `seen` are ranks that are left out though there is a file of them.
    """

    ranks: Mapping[int, RankBrief]
    world_size: int
    left_out: tuple[str, ...]
    seen: frozenset[int]


def _training(found: Sequence[RankBrief | Unread]) -> _Training | None:
    """The world size of which most ranks are there whole; None where no two belong together."""
    by_size: dict[int, dict[int, RankBrief]] = {}
    for one in found:
        if isinstance(one, RankBrief) and one.rank is not None and not one.torn:
            by_size.setdefault(one.world_size or 0, {}).setdefault(one.rank, one)
    size = max(by_size, key=lambda size: len(by_size[size]), default=0)
    ranks = by_size.get(size, {})
    if len(ranks) < 2:
        return None
    kept = {id(one) for one in ranks.values()}
    others = [one for one in found if id(one) not in kept]
    reasons = [one.why if isinstance(one, Unread) else _reason(one, ranks, size) for one in others]
    torn = {one.rank for one in others if isinstance(one, RankBrief) and one.world_size == size}
    seen = frozenset(rank for rank in torn if rank is not None)
    return _Training(ranks, size, tuple(reasons), seen)


def _reason(one: RankBrief, ranks: Mapping[int, RankBrief], size: int) -> str:
    """Why a file that was read is not one of the ranks."""
    if one.rank is None:
        return f"{one.path} does not say of which rank it is."
    if one.world_size != size:
        return f"{one.path} is of rank {one.rank} of {one.world_size}, the others of {size} ranks."
    if one.torn:
        return f"{one.path} of rank {one.rank} ends in the middle."
    return f"{one.path} is of rank {one.rank}, as is {ranks[one.rank].path}."


def _alone(one: RankBrief, rules: Sequence[Rule], *, operators: bool) -> Diagnosis:
    if one.alone is not None:
        return one.alone
    return diagnosis_of(read(one.path), rules, operators=operators)


def _of_ranks(training: _Training, rules: Sequence[Rule], *, operators: bool) -> Diagnosis:
    """Of the rank that sets the pace, with what all of them tell together."""
    ranks = training.ranks
    together = arrivals({rank: one.collectives for rank, one in ranks.items()})
    windows = {rank: ranks[rank].window_ns for rank in sorted(ranks)}
    late = together.straggler if together is not None else None
    longest = max(windows, key=lambda rank: windows[rank])
    pace = longest if late is None else late
    balanced = _balanced(ranks, together) if together is not None else None
    shown = replace(
        read(ranks[pace].path), together=together, windows_ns=windows, balanced=balanced
    )
    diagnosis = diagnosis_of(shown, rules, operators=operators)
    name = f"{len(ranks)} ranks; rank {pace}, shown here, is {diagnosis.run.name}"
    return replace(
        diagnosis,
        run=replace(diagnosis.run, name=name, path=None, world_size=training.world_size),
        ranks=tuple(_summary(rank, ranks[rank]) for rank in sorted(ranks)),
        problems=(*diagnosis.problems, *_absent(training), *_left_out(training)),
    )


def _balanced(ranks: Mapping[int, RankBrief], together: Arrivals) -> Outcome | None:
    """What the rank that waits longest would gain if all came to the collectives together."""
    waits = together.waits_ns
    rank = max(waits, key=lambda one: waits[one])
    waiting = read(ranks[rank].path)
    saved = saved_of(waiting.trace, waiting.timeline, together, rank)
    found = what_if(waiting.trace, waiting.timeline, saved, changes=("balanced-ranks",))
    return found.outcomes.get("balanced-ranks") if found is not None else None


def _absent(training: _Training) -> list[str]:
    """Says which ranks have no trace."""
    there = {*training.ranks} | training.seen
    count = training.world_size - len(there)  # the file says the size: it may be any number
    if not count:
        return []
    absent = (rank for rank in range(training.world_size) if rank not in there)
    names = ", ".join(map(str, islice(absent, MOST_NAMED)))
    more = f" and {count - MOST_NAMED:,} more" if count > MOST_NAMED else ""
    return [f"there is no trace of rank {names}{more}"]


def _left_out(training: _Training) -> list[str]:
    told = [f"left out: {why}" for why in training.left_out[:MOST_NAMED]]
    more = len(training.left_out) - MOST_NAMED
    return [*told, f"left out: {more} more"] if more > 0 else told


def _summary(rank: int, one: RankBrief) -> RankSummary:
    return RankSummary(
        rank=rank,
        pid=one.process,
        steps=one.steps.count,
        mean_s=one.steps.mean_s,
        phases_share=one.shares,
    )
