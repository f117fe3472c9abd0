"""The columns into which a trace is read: one entry for each event that lasts.

Records of this package are structs of msgspec: to define one takes 0.02 ms, a dataclass 0.6 ms, and
some fifty of them are defined before a trace is understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]

MISSING = -1
"""In a column of numbers that an event does not carry."""


class Kind(IntEnum):
    """What an event is, whatever the version of the profiler calls its category."""

    OTHER = 0
    KERNEL = 1
    MEMCPY = 2
    MEMSET = 3
    RUNTIME = 4  # calls of the CUDA or HIP runtime and driver
    OPERATOR = 5
    ANNOTATION = 6
    DEVICE_ANNOTATION = 7
    PYTHON = 8
    OVERHEAD = 9
    COLLECTIVE = 10  # the host's side, of gloo and the like


CATEGORIES: dict[str, Kind] = {
    "kernel": Kind.KERNEL,
    "concurrent_kernel": Kind.KERNEL,
    "gpu_memcpy": Kind.MEMCPY,
    "memcpy": Kind.MEMCPY,
    "gpu_memset": Kind.MEMSET,
    "memset": Kind.MEMSET,
    "cuda_runtime": Kind.RUNTIME,
    "cuda_driver": Kind.RUNTIME,
    "hip_runtime": Kind.RUNTIME,
    "runtime": Kind.RUNTIME,
    "privateuse1_runtime": Kind.RUNTIME,
    "mtia_runtime": Kind.RUNTIME,
    "xpu_runtime": Kind.RUNTIME,
    "cpu_op": Kind.OPERATOR,
    "operator": Kind.OPERATOR,
    "user_annotation": Kind.ANNOTATION,
    "gpu_user_annotation": Kind.DEVICE_ANNOTATION,
    "python_function": Kind.PYTHON,
    "overhead": Kind.OVERHEAD,
    "collective_comm": Kind.COLLECTIVE,
}
"""In lower case. Kineto's output_json.cpp and ActivityType.h name them; those of 2021 began with a
capital letter."""


class Events(msgspec.Struct, frozen=True):
    """Columns of equal length, ordered by start.

    Attributes:
        kind: `Kind`. name: Place in `Trace.names`. start_ns, end_ns: On the trace's own clock.
        lane: Place in `Trace.lanes`. device, stream: MISSING on the host.
        correlation: Joins a launch with what it launched. external: Joins an operator with it.
        size: Bytes of a copy. shape: Place in `Trace.shapes`, of operators that carry any.
    """

    kind: NDArray[np.uint8]
    name: NDArray[np.int32]
    start_ns: Whole
    end_ns: Whole
    lane: NDArray[np.int32]
    device: NDArray[np.int32]
    stream: Whole
    correlation: Whole
    external: Whole
    size: Whole
    shape: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.kind)

    def of(self, *kinds: Kind) -> Flags:
        """Which are of these kinds; a table is faster than numpy.isin."""
        wanted = np.zeros(len(Kind), bool)
        wanted[list(kinds)] = True
        return wanted.take(self.kind)

    def where(self, chosen: Flags | Whole) -> Events:
        """Those that are chosen by flags, or by their places."""
        places = np.flatnonzero(chosen) if chosen.dtype == bool else chosen  # found once for all
        return Events(*(getattr(self, column).take(places) for column in COLUMNS))


def distinct(places: NDArray[Any]) -> Whole:
    """The places that occur in a column, in order; they lie close, so numpy.unique is slower."""
    if not len(places):
        return np.zeros(0, np.int64)
    lowest = int(places.min())
    return np.flatnonzero(np.bincount(places - lowest)) + lowest


COLUMNS = Events.__struct_fields__


@dataclass(frozen=True, slots=True)
class Trace:
    """What one file holds.

    Attributes:
        path: Of the file. events: See `Events`. names: Of the events, each once.
        lanes: Process and thread (or stream) of each lane, as the file writes them.
        lane_names: What the file calls a lane, where it does.
        shapes: Texts of the input sizes of operators.
        header: What the file says of itself beside the events.
        memory: A row for each event of the allocator: time in ns, bytes that it took (or gave back,
            below 0), bytes allocated and reserved after it, the device (MISSING on the host), the
            address (MISSING where the file has none), and the lane.
        messages: A row for each collective whose operator says what it sends: start and end in ns,
            lane, place in `names` of the type of its elements, elements that go in, ranks of the
            group.
        types: Texts of the input types that belong to `shapes`. values: Texts of those inputs of
            convolutions that are no tensors.
        skipped: Events that could not be understood. torn: The file ends in the middle.
        notes: What the file lacks, as sentences without their full stop.
    """

    path: str
    events: Events
    names: list[str]
    lanes: list[tuple[str, str]]
    lane_names: Mapping[int, str] = field(default_factory=dict)
    shapes: list[str] = field(default_factory=list)
    header: Mapping[str, Any] = field(default_factory=dict)
    memory: Whole = field(default_factory=lambda: np.zeros((0, 7), np.int64))
    messages: Whole = field(default_factory=lambda: np.zeros((0, 6), np.int64))
    types: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    skipped: int = 0
    torn: bool = False
    notes: tuple[str, ...] = ()
    _chosen: dict[Any, Flags] = field(default_factory=dict, repr=False, compare=False)

    def of_kind(self, *kinds: Kind) -> Events:
        """The events of these kinds."""
        return self.events.where(self.events.of(*kinds))

    def named(self, wanted: Any) -> Flags:
        """For each event whether its name is wanted.

        Args:
            wanted: A function of a name; it is asked once for each. What the method of a pattern
                said is remembered.
        """
        pattern = getattr(wanted, "__self__", None)
        key = (pattern, wanted.__name__) if isinstance(pattern, re.Pattern) else None
        chosen = self._chosen.get(key) if key else None
        if chosen is None:
            chosen = np.fromiter((bool(wanted(name)) for name in self.names), bool, len(self.names))
        if key:
            self._chosen[key] = chosen
        return chosen.take(self.events.name) if len(self.names) else np.zeros(0, bool)
