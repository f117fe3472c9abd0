"""Copies: what the device took for them, and how long the host stood in the call.

The two are joined by correlation id and never mixed. A call that takes longer than its copy waits:
for the work that was queued before it, or for memory. So a rate comes from the device's time alone.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np

from trainprof.profiler.traces.events import Flags, Kind, Trace, Whole, distinct
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.launches import Launched
from trainprof.profiler.traces.timeline import Window

PAGEABLE = re.compile(r"pageable", re.IGNORECASE)
TO_DEVICE = re.compile(r"HtoD|HostToDevice", re.IGNORECASE)
FROM_DEVICE = re.compile(r"DtoH|DeviceToHost", re.IGNORECASE)
SMALL_BYTES = 64 * 1024
"""Up to here Nsight Systems' rules do not mind that a copy blocks."""
LARGE_BYTES = 1 << 20
"""From here on a copy takes as long as the link needs: at 25 GB/s 40 us, beside which the start of
one, a few microseconds, counts little."""


class Copies(msgspec.Struct, frozen=True):
    """Copies of one kind that began in a window, by start; see `copies`.

    Attributes:
        length_ns: What the device took. size: Bytes, or MISSING. pageable: From or to memory that
            the name calls so. says_memory: The name says which memory, pageable or pinned.
        matched: Whose call is known. waited_ns: Of these, by how much it was longer.
        exposed_ns: While the device copied and ran no kernel.
    """

    length_ns: Whole
    size: Whole
    pageable: Flags
    says_memory: Flags
    matched: Flags
    waited_ns: Whole
    exposed_ns: int

    def __len__(self) -> int:
        return len(self.length_ns)

    @property
    def bytes(self) -> int | None:
        """Of all together; None where no size is known."""
        known = self.size[self.size > 0]
        return int(known.sum()) if len(known) else None

    @property
    def bytes_per_s(self) -> float | None:
        """Of the device's side; None where no size or no time is known."""
        return self._rate((self.size > 0) & (self.length_ns > 0))

    @property
    def of_the_link(self) -> Flags:
        """Large copies from or to page-locked memory whose call is known: no memory slows them."""
        told = self.matched & self.says_memory & ~self.pageable
        return told & (self.size >= LARGE_BYTES) & (self.length_ns > 0)

    @property
    def link_bytes_per_s(self) -> float | None:
        """What the link carried in `of_the_link`: all their bytes over all their time, or None."""
        return self._rate(self.of_the_link)

    def _rate(self, chosen: Flags) -> float | None:
        length_ns = int(self.length_ns[chosen].sum())
        return float(self.size[chosen].sum()) / length_ns * 1e9 if length_ns else None


def copies(
    trace: Trace, found: Launched, device: int, window: Window, direction: re.Pattern[str]
) -> Copies:
    """The copies of a device in one direction.

    Args:
        trace: What the file holds.
        found: Its work with its launches.
        device: Its number.
        window: In which the copies began.
        direction: Of their names, such as `TO_DEVICE`.
    """
    own = found.where(found.work.device == device)
    work = own.work
    wanted = (work.kind == Kind.MEMCPY) & _named(trace, own, direction)
    all_of_it = work.where(wanted)
    kernels = work.where(work.kind == Kind.KERNEL)
    exposed = (
        union(all_of_it.start_ns, all_of_it.end_ns)
        .minus(union(kernels.start_ns, kernels.end_ns))
        .clipped(window.start_ns, window.end_ns)
    )
    inside = (work.start_ns >= window.start_ns) & (work.start_ns < window.end_ns)
    chosen = own.where(wanted & inside)
    length = chosen.work.end_ns - chosen.work.start_ns
    call = chosen.returned_ns - chosen.called_ns
    pageable = _named(trace, chosen, PAGEABLE)
    return Copies(
        length_ns=length,
        size=chosen.work.size,
        pageable=pageable,
        says_memory=pageable | _named(trace, chosen, re.compile("pinned", re.IGNORECASE)),
        matched=chosen.matched,
        waited_ns=np.where(chosen.matched, np.maximum(call - length, 0), 0),
        exposed_ns=exposed.total,
    )


def _named(trace: Trace, found: Launched, wanted: re.Pattern[str]) -> Flags:
    names = found.work.name
    flags = {place: bool(wanted.search(trace.names[place])) for place in distinct(names).tolist()}
    return np.array([flags[place] for place in names.tolist()], bool)
