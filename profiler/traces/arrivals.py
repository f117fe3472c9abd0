"""Who is late at the collectives of several ranks, and who only waits.

A collective's kernel runs on each rank from the moment at which that rank arrives until all have
exchanged their data. So the shortest of its kernels is the exchange itself, whose rank came last,
and what another rank's takes longer is a wait. A step that takes long tells nothing of this: those
who wait have the longest steps too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from trainprof.profiler.traces.events import Flags, Kind, Trace, Whole
from trainprof.profiler.traces.timeline import COMMUNICATION, Timeline


class Collectives(msgspec.Struct, frozen=True):
    """The kernels of collectives that one rank ran in its window: all that ranks are compared by.

    Attributes:
        names: In their order. start_ns, end_ns: On the rank's own clock.
    """

    names: tuple[str, ...]
    start_ns: Whole
    end_ns: Whole


def collectives(trace: Trace, timeline: Timeline) -> Collectives:
    """Those of one rank."""
    found = trace.events.where(collective_kernels(trace, timeline))
    names = tuple(trace.names[place] for place in found.name.tolist())
    return Collectives(names, found.start_ns, found.end_ns)


def collective_kernels(trace: Trace, timeline: Timeline) -> Flags:
    """For each event whether it is one."""
    events, window = trace.events, timeline.window
    found: Flags = (
        (events.kind == Kind.KERNEL)
        & trace.named(COMMUNICATION.search)
        & (events.start_ns < window.end_ns)
        & (events.end_ns > window.start_ns)
    )
    return found


class Arrivals(msgspec.Struct, frozen=True):
    """The collectives that all ranks have in common; all times in ns.

    Attributes:
        ranks: Their numbers, in the order of the rows. names: Of the collectives, in their order.
        exchange_ns: What each collective takes once all have come. waited_ns: Ranks by collectives.
        last: Row of the rank that came last, by collective. clocks_agree: The ranks' clocks are
            one, so that kernels of a collective overlap.
    """

    ranks: tuple[int, ...]
    names: tuple[str, ...]
    exchange_ns: Whole
    waited_ns: Whole
    last: Whole
    clocks_agree: bool

    @property
    def waits_ns(self) -> Mapping[int, int]:
        """What each rank waited for others in all."""
        return dict(zip(self.ranks, self.waited_ns.sum(axis=1).tolist(), strict=True))

    @property
    def caused_ns(self) -> Mapping[int, int]:
        """How long each rank let the first wait, over the collectives that it came last to."""
        longest = self.waited_ns.max(axis=0)
        return {rank: int(longest[self.last == row].sum()) for row, rank in enumerate(self.ranks)}

    @property
    def straggler(self) -> int | None:
        """The rank that let others wait longest; None where nobody waited."""
        caused = self.caused_ns
        rank = max(caused, key=lambda one: caused[one])
        return rank if caused[rank] > 0 else None


def arrivals(found: Mapping[int, Collectives]) -> Arrivals | None:
    """Compares the ranks of one training; None of fewer than two, or without common collectives.

    Args:
        found: By rank, all of the same steps.
    """
    ranks = tuple(sorted(found))
    own = [found[rank] for rank in ranks]
    count = _common([one.names for one in own])
    if len(ranks) < 2 or count == 0:
        return None
    start = np.stack([one.start_ns[:count] for one in own])
    end = np.stack([one.end_ns[:count] for one in own])
    lengths = end - start
    exchange = lengths.min(axis=0)
    return Arrivals(
        ranks=ranks,
        names=own[0].names[:count],
        exchange_ns=exchange,
        waited_ns=lengths - exchange,
        last=lengths.argmin(axis=0),
        clocks_agree=bool((start.max(axis=0) < end.min(axis=0)).mean() > AGREE),
    )


AGREE = 0.9
"""Part of the collectives whose kernels overlap on all ranks, where their clocks are one."""


def _common(names: Sequence[Sequence[str]]) -> int:
    """How many collectives all ranks begin with alike."""
    for place, of_ranks in enumerate(zip(*names, strict=False)):
        if len(set(of_ranks)) > 1:
            return place
    return min(map(len, names), default=0)
