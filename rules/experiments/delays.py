"""Pairs that the machine spoilt, by a rule that was fixed before any ratio was seen.

A pair does not count if the training thread of one of its trials waited for a CPU more than three
times as long as is usual for that arm. Its time plays no part. Without a rule fixed beforehand one
would drop what one does not like.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence

from trainprof.rules.experiments.trial import Trial

TIMES_USUAL = 3.0
LEAST_SHARE = 0.05
"""Of the time waited for a CPU; below it no trial is spoilt, however quiet the others were."""
LEAST_TRIALS = 4
"""Of an arm, before anything is usual."""
MOST_DROPPED = 4
"""Of one experiment; a machine on which that is not enough is like that."""


class Delays:
    """Remembers how long the trials of each arm waited for a CPU."""

    def __init__(self) -> None:
        self._shares: dict[tuple[str, int], list[float]] = defaultdict(list)

    def objection(self, experiment: str, pair: Sequence[Trial], dropped: int) -> str | None:
        """Why this pair does not count, None where it does; both of its trials are remembered.

        Args:
            experiment: Its name.
            pair: Its two trials, always in the same order of arms.
            dropped: Pairs of this experiment that were dropped before.
        """
        spoilt = None
        for place, trial in enumerate(pair):
            before = self._shares[experiment, place]
            share = trial.delay_share
            if share is None:
                continue
            if len(before) >= LEAST_TRIALS:
                usual = max(TIMES_USUAL * statistics.median(before), LEAST_SHARE)
                if share > usual:
                    spoilt = spoilt or _told(share, statistics.median(before))
            before.append(share)
        return spoilt if dropped < MOST_DROPPED else None


def _told(share: float, usual: float) -> str:
    return (
        f"a trial waited for a CPU {share * 100:.0f} % of its time, where {usual * 100:.0f} % is "
        "usual"
    )
