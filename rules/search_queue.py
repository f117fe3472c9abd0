"""Whether the runs of a script went one after the other, as a loop over arguments starts them."""

from __future__ import annotations

from collections.abc import Sequence

from trainprof.profiler.store.trials import Launch
from trainprof.rules.search_grid import words

MOST_PAUSE_S = 10.0
"""Between the end of a run and the start of the next: longer, and somebody looked at the results
before going on (a starting value)."""

TIMING_WORDS = frozenset(("bench", "benchmark", "profile", "timing", "speed"))
"""In the name of a script or argument: its runs must have the machine to themselves."""


def runs_in_a_row(launches: Sequence[Launch], started_unix_s: float) -> int:
    """Runs with different arguments up to the one that started then, each begun as the last ended.

    None overlaps another. A repetition of the same arguments ends the row: it measures something.
    1 for a run by itself, and where any other run of the script overlaps it.

    Args:
        launches: In order of their start.
        started_unix_s: Start of the run at hand.
    """
    earlier = [one for one in launches if one.started_unix_s <= started_unix_s]
    later = [one for one in launches if one.started_unix_s > started_unix_s]
    if not earlier or (earlier[-1].ended_unix_s is None and later):
        return 1
    row = [earlier[-1]]
    if any(one.started_unix_s < (row[0].ended_unix_s or 0.0) for one in later):
        return 1
    seen = {row[0].arguments}
    for one in reversed(earlier[:-1]):
        ended = one.ended_unix_s
        if ended is None or not 0.0 <= row[0].started_unix_s - ended <= MOST_PAUSE_S:
            break
        if one.arguments in seen or _times_something(one.arguments):
            break
        seen.add(one.arguments)
        row.insert(0, one)
    return len(row)


def _times_something(arguments: Sequence[str]) -> bool:
    return any(words(argument.rpartition("/")[2]) & TIMING_WORDS for argument in arguments)
