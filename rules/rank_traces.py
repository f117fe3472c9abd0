"""From the trace files of several ranks to one diagnosis: of the rank that sets the pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainprof.profiler.model.diagnosis import Diagnosis, RankSummary
from trainprof.profiler.traces.arrivals import arrivals
from trainprof.profiler.traces.reading import TraceError
from trainprof.rules.rule import Rule
from trainprof.rules.trace_diagnosis import diagnosis_of, read, step_summary, trace_rules
from trainprof.rules.trace_signals.traced import Traced


def diagnose_traces(
    paths: Sequence[Path], *, select: Sequence[str] = (), ignore: Sequence[str] = ()
) -> list[Diagnosis]:
    """One diagnosis of all where the files are ranks of one training, else one of each.

    Raises:
        TraceError: a file is no trace; of several ranks, such files are named and left out.
        UsageError: `select` or `ignore` names a rule that does not exist.
    """
    rules = trace_rules(select, ignore)
    found, unread = [], []
    for path in paths:
        try:
            found.append(read(path))
        except TraceError as error:
            unread.append(error)
    ranks = _ranks(found)
    if unread and (ranks is None or not found):
        raise unread[0]
    if ranks is None:
        return [diagnosis_of(one, rules) for one in found]
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
    diagnosis = diagnosis_of(shown, rules)
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
        mean_s=step_summary(found).mean_s,
        phases_share=shares,
    )
