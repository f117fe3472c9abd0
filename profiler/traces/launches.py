"""The work of devices beside the calls that launched it, joined by correlation id.

Of a time in which a device runs nothing, this tells on whose side the delay lies: where work was
launched and not yet begun, on the device's; where nothing was launched, on the host's.
"""

from __future__ import annotations

import msgspec
import numpy as np

from trainprof.profiler.traces.events import MISSING, Events, Flags, Kind, Trace, Whole
from trainprof.profiler.traces.intervals import Intervals, union
from trainprof.profiler.traces.timeline import ON_DEVICE, DeviceTimeline, Window

GAP_CLASSES_NS = (10_000, 100_000, 1_000_000)
"""Between the classes of gaps: a launch takes the host 5 to 20 us, a millisecond is visible in any
viewer."""


class Launched(msgspec.Struct, frozen=True):
    """Kernels, copies and fills of all devices, ordered by start, each with its launch.

    Attributes:
        work: What ran. call: Place in `Trace.events` of the call that launched it, or MISSING.
        called_ns, returned_ns: Start and end of that call; of a graph, one for many kernels.
    """

    work: Events
    call: Whole
    called_ns: Whole
    returned_ns: Whole

    @property
    def matched(self) -> Flags:
        """Whose call the trace holds."""
        matched: Flags = self.call != MISSING
        return matched

    def where(self, chosen: Flags | Whole) -> Launched:
        """Those that are chosen by flags, or by their places."""
        return Launched(
            self.work.where(chosen),
            self.call[chosen],
            self.called_ns[chosen],
            self.returned_ns[chosen],
        )

    @property
    def launched_ns(self) -> Whole:
        """When each was launched: at the end of its call, which its start may be ahead of."""
        return np.minimum(self.returned_ns, self.work.start_ns)


def launched(trace: Trace) -> Launched:
    """Joins the work of devices with the calls that launched it."""
    events = trace.events
    work = events.where(events.of(*ON_DEVICE))
    calls = np.flatnonzero((events.kind == Kind.RUNTIME) & (events.correlation != MISSING))
    calls = calls[np.argsort(events.correlation[calls], kind="stable")]
    call = np.full(len(work), MISSING, np.int64)
    if len(calls) and len(work):
        keys = events.correlation[calls]
        place = np.minimum(np.searchsorted(keys, work.correlation), len(calls) - 1)
        # an id that another file or process has given too: work never ends before its launch
        same = (keys[place] == work.correlation) & (events.start_ns[calls[place]] <= work.end_ns)
        call[same] = calls[place[same]]
    found = call != MISSING
    return Launched(
        work=work,
        call=call,
        called_ns=np.where(found, events.start_ns[call], MISSING),
        returned_ns=np.where(found, events.end_ns[call], MISSING),
    )


class LaunchQueue(msgspec.Struct, frozen=True):
    """What one device was given, and when, in a window; times in ns.

    Attributes:
        known: All its work whose call is known. window: What lengths refer to.
        work: How much of it began in the window. matched: Of that, whose call is known.
        delays_ns: From the start of each call to the start of its work, which began in the window.
        lengths: Work that was launched and not yet finished when each call began.
        empty_ns: Nothing was launched that had not finished.
        gaps: Times without work. late_gaps: Those that began before their next work was launched.
        idle_empty_ns: Of the gaps, while nothing was launched. idle_queued_ns: While something was.
    """

    known: Launched
    window: Window
    work: int
    matched: int
    delays_ns: Whole
    lengths: Whole
    empty_ns: int
    gaps: Intervals
    late_gaps: Flags
    idle_empty_ns: int
    idle_queued_ns: int

    @property
    def late(self) -> Intervals:
        """The gaps before work that had not been launched when they began."""
        return Intervals(self.gaps.start[self.late_gaps], self.gaps.end[self.late_gaps])

    def classes(self, class_ns: tuple[int, ...] = GAP_CLASSES_NS) -> list[tuple[int, int]]:
        """Number and total length of the gaps of each class, the shortest first."""
        lengths = self.gaps.end - self.gaps.start
        place = np.searchsorted(class_ns, lengths, "right")
        count = np.bincount(place, minlength=len(class_ns) + 1)
        total = [int(lengths[place == one].sum()) for one in range(len(class_ns) + 1)]
        return list(zip(count.tolist(), total, strict=True))


def launch_queue(found: Launched, device: DeviceTimeline, window: Window) -> LaunchQueue:
    """How work reached a device."""
    start, end = window.start_ns, window.end_ns
    own = found.where(found.work.device == device.device)
    begun = (own.work.start_ns >= start) & (own.work.start_ns < end)
    known = own.where(own.matched)
    inside = own.where(begun & own.matched)
    waiting = union(known.launched_ns, known.work.end_ns).clipped(start, end)
    queued = device.gaps.common(waiting).total
    return LaunchQueue(
        known=known,
        window=window,
        work=int(begun.sum()),
        matched=len(inside.work),
        delays_ns=inside.work.start_ns - inside.called_ns,
        lengths=_lengths(known, inside),
        empty_ns=window.length_ns - waiting.total,
        gaps=device.gaps,
        late_gaps=_late(device.gaps, known),
        idle_empty_ns=device.idle_ns - queued,
        idle_queued_ns=queued,
    )


def _lengths(known: Launched, inside: Launched) -> Whole:
    """Of the queue at each call; a call that launches much at once (a graph) counts once."""
    _, first = np.unique(inside.call, return_index=True)
    at = inside.called_ns[first]
    before = np.searchsorted(np.sort(known.called_ns), at, "left")
    finished = np.searchsorted(np.sort(known.work.end_ns), at, "right")
    lengths: Whole = np.maximum(before - finished, 0)
    return lengths


def _late(gaps: Intervals, known: Launched) -> Flags:
    """Which gaps end with work that was launched after they had begun."""
    place = np.searchsorted(known.work.start_ns, gaps.end)
    at = np.minimum(place, max(len(known.work) - 1, 0))
    if not len(known.work):
        return np.zeros(len(gaps), bool)
    follows = (place < len(known.work)) & (known.work.start_ns[at] == gaps.end)
    late: Flags = follows & (known.launched_ns[at] > gaps.start)
    return late
