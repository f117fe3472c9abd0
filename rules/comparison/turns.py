"""Runs that were made in turns, as pairs: both of a pair have seen what the machine was doing."""

from __future__ import annotations

from collections.abc import Sequence

from trainprof.rules.comparison.measured import JudgedRun

LEAST_PAIRS = 5
"""Fewer give wider intervals than the groups as they are: Student's t of a few pairs is large."""

PARTNER = "the run that was made in turn with it does not count"


def pairs_in_turns(
    base: Sequence[JudgedRun], candidate: Sequence[JudgedRun]
) -> list[tuple[int, int]]:
    """Places in both groups of runs that followed each other; empty where they were not in turns.

    In order of their start the runs are taken two by two, and each two must be one of either group.
    """
    if len(base) != len(candidate):
        return []
    started = sorted(
        [(run.info.started_unix_s, 0, place) for place, run in enumerate(base)]
        + [(run.info.started_unix_s, 1, place) for place, run in enumerate(candidate)]
    )
    pairs = []
    for first, second in zip(started[::2], started[1::2], strict=True):
        if first[1] == second[1]:
            return []
        of_base, of_candidate = sorted((first, second), key=lambda one: one[1])
        pairs.append((of_base[2], of_candidate[2]))
    return pairs


def usable_pairs(
    pairs: Sequence[tuple[int, int]],
    of_base: list[str | None],
    of_candidate: list[str | None],
) -> list[tuple[int, int]]:
    """The pairs of which both runs count, if there are enough; else none.

    The partner of a run that does not count is then given that as its problem.
    """
    good = [(old, new) for old, new in pairs if of_base[old] is None and of_candidate[new] is None]
    if len(good) < LEAST_PAIRS:
        return []
    for old, new in set(pairs) - set(good):
        of_base[old] = of_base[old] or PARTNER
        of_candidate[new] = of_candidate[new] or PARTNER
    return good
