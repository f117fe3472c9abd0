"""The kernels of a device by family, precision and use of tensor cores; all times in ns.

A kernel is known by its name alone, so those that no operator can be linked to count as all others.
Shares are of the time in which the device was busy within the window. A family's time is that in
which any of its kernels ran: what two streams do at once is not counted twice.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainprof.profiler.traces.device_model import DeviceModel, device_model
from trainprof.profiler.traces.events import MISSING, Events, Flags, Kind, Trace, Whole
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.kernel_names import (
    FAMILIES,
    MATRIX_FAMILIES,
    PRECISIONS,
    read_name,
)
from trainprof.profiler.traces.launches import Launched
from trainprof.profiler.traces.operators import LaunchedBy, launched_by
from trainprof.profiler.traces.timeline import Timeline, Window

Small = NDArray[np.int8]


class FamilyTime(msgspec.Struct, frozen=True):
    """The kernels of one family.

    Attributes:
        family: Of `FAMILIES`. example: Name of the kernel that took longest in all. count: Kernels.
        time_ns: In which any of them ran. precisions: Their own lengths added up, by precision.
        tensor_cores_ns: Length of those on tensor cores; None where that cannot be told.
        operator: That launched most of their time; None where no operator can be linked.
    """

    family: str
    example: str
    count: int
    time_ns: int
    precisions: dict[str, int]
    tensor_cores_ns: int | None
    operator: str | None


class Kernels(msgspec.Struct, frozen=True):
    """The kernels of one device that touch the window.

    Attributes:
        events: Their columns, cut to the window. window: What shares refer to. names: As in
            `Trace.names`. busy_ns: The device ran anything. model: Which device it is.
        family, precision: Places in `FAMILIES` and `PRECISIONS`; where a name does not tell the
            precision, that of the operator's input. cores: Run by tensor cores (1) or
            not (0); -1 where tensor cores cannot compute it, or the name does not tell.
        operators: Which launched them; places of MISSING stay unlinked.
        operator_names: Names of the operators that the training called, by kernel: places in
            `names`, or MISSING.
    """

    events: Events
    window: Window
    names: list[str]
    busy_ns: int
    model: DeviceModel
    family: Small
    precision: Small
    cores: Small
    operators: LaunchedBy
    operator_names: Whole

    def of_family(self, *families: str) -> Flags:
        """Whose family is one of these."""
        return np.isin(self.family, [FAMILIES.index(one) for one in families])

    def of_precision(self, *precisions: str) -> Flags:
        """Whose precision is one of these."""
        return np.isin(self.precision, [PRECISIONS.index(one) for one in precisions])

    @property
    def of_matrices(self) -> Flags:
        """Those that multiply matrices, convolve or attend."""
        return self.of_family(*MATRIX_FAMILIES)

    @property
    def eligible(self) -> Flags:
        """Those in fp32 whose like tensor cores compute in fewer bits; none if it has none."""
        if not self.model.has_tensor_cores:
            return np.zeros(len(self.events), bool)
        return self.of_matrices & self.of_precision("fp32") & ~self.narrow

    @property
    def narrow(self) -> Flags:
        """Those whose operator is known to be too narrow for tensor cores (a vector, depthwise)."""
        works = self.operators.works
        small = [place for place, work in works.items() if not work.wide]
        return np.isin(self.operators.known, small)

    def time_ns(self, chosen: Flags) -> int:
        """In which any of the chosen ran."""
        return union(self.events.start_ns[chosen], self.events.end_ns[chosen]).total

    def share(self, chosen: Flags) -> float:
        """The same as a share of the time in which the device was busy."""
        return self.time_ns(chosen) / max(self.busy_ns, 1)

    def families(self) -> list[FamilyTime]:
        """All families that ran, by their time."""
        lengths = self.events.end_ns - self.events.start_ns
        found = []
        for place in np.unique(self.family).tolist():
            own = self.family == place
            by_name = np.bincount(self.events.name[own], lengths[own])
            by_precision = np.bincount(self.precision[own], lengths[own], len(PRECISIONS))
            told = own & (self.cores >= 0)
            found.append(
                FamilyTime(
                    family=FAMILIES[place],
                    example=self.names[int(by_name.argmax())],
                    count=int(own.sum()),
                    time_ns=self.time_ns(own),
                    precisions={
                        PRECISIONS[one]: int(by_precision[one])
                        for one in np.argsort(-by_precision, kind="stable").tolist()
                        if by_precision[one]
                    },
                    tensor_cores_ns=int(lengths[told & (self.cores == 1)].sum())
                    if told.any()
                    else None,
                    operator=self._operator(own, lengths),
                )
            )
        return sorted(found, key=lambda one: (-one.time_ns, one.family))

    def _operator(self, own: Flags, lengths: Whole) -> str | None:
        linked = own & (self.operator_names != MISSING)
        if not linked.any():
            return None
        return self.names[int(np.bincount(self.operator_names[linked], lengths[linked]).argmax())]


def read_kernels(trace: Trace, timeline: Timeline, launched: Launched) -> Kernels | None:
    """The kernels of the busiest device; None where the window holds none.

    Args:
        trace: What the file holds.
        timeline: Of it.
        launched: Its work with the calls that launched it.
    """
    if not timeline.devices:
        return None
    device, window = timeline.devices[0], timeline.window
    model = device_model(trace, timeline)
    work = launched.work
    chosen = (
        (work.kind == Kind.KERNEL)
        & (work.device == device.device)
        & (work.start_ns < window.end_ns)
        & (work.end_ns > window.start_ns)
    )
    own = work.where(chosen)
    if not len(own) or model is None:
        return None
    np.clip(own.start_ns, window.start_ns, window.end_ns, out=own.start_ns)
    np.clip(own.end_ns, window.start_ns, window.end_ns, out=own.end_ns)
    places, inverse = np.unique(own.name, return_inverse=True)
    read = [read_name(trace.names[place]) for place in places.tolist()]
    cores = [-1 if one.tensor_cores is None else int(one.tensor_cores) for one in read]
    operators = launched_by(trace, launched.call[chosen], own.external)
    precision = np.array([PRECISIONS.index(one.precision) for one in read], np.int8)[inverse]
    top = operators.top
    return Kernels(
        events=own,
        window=window,
        names=trace.names,
        busy_ns=device.busy_ns,
        model=model,
        family=np.array([FAMILIES.index(one.family) for one in read], np.int8)[inverse],
        precision=_told_by_inputs(precision, operators),
        cores=np.array(cores, np.int8)[inverse],
        operators=operators,
        operator_names=np.where(top == MISSING, MISSING, trace.events.name[top]).astype(np.int64),
    )


def _told_by_inputs(precision: Small, operators: LaunchedBy) -> Small:
    """Fills in what names do not tell."""
    unknown = PRECISIONS.index("unknown")
    open_ones = np.flatnonzero((precision == unknown) & (operators.known != MISSING))
    for place in open_ones.tolist():
        told = operators.works[int(operators.known[place])].precision
        precision[place] = PRECISIONS.index(told) if told else unknown
    return precision
