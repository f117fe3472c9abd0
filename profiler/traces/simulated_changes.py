"""What each change does to the graph of a trace: once as little, once as much as it may do.

Every function gives the graph after the change by a pessimistic and by an optimistic model, or
None where there is nothing in the trace that it could change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import numpy as np
from msgspec.structs import replace

from trainprof.profiler.traces.critical_path import OTHER, SYNCHRONISATION
from trainprof.profiler.traces.dependencies import Dependencies, Node
from trainprof.profiler.traces.events import Flags, Trace, Whole
from trainprof.profiler.traces.host_points import Point
from trainprof.profiler.traces.kernel_names import MATRIX_FAMILIES, read_name
from trainprof.profiler.traces.timeline import CAUSES

DATA_WAIT, COPY_CALL = CAUSES.index("data wait"), CAUSES.index("copy call")
LAUNCH_CALL, OPERATOR = CAUSES.index("launch call"), CAUSES.index("operator")
SLOWER_HOST = 1.25
"""Of a training whose loader gets workers, by the pessimistic model (a starting value): they take
cores and memory bandwidth, and hand batches over to the interpreter that trains. With four workers
the own work of the host took 1.24 times as long in one recorded pair, and 1.03 in another."""
WAIT_LEFT = 0.5
"""Of waits for workers, by the pessimistic model (a starting value: more may lack cores)."""
LAUNCHING_LEFT = 0.5
"""Of the host's time between launches, by the pessimistic model (a starting value: fused and
compiled kernels launch less, but only CUDA graphs launch nothing)."""
TENSOR_CORES = (1.5, 3.0)
"""How many times faster a matrix kernel of fp32 is in fewer bits. Peaks differ by 8 (V100, A100);
NVIDIA's guide to mixed precision names up to 3 for whole models, and kernels that memory bounds
gain by the bytes they save, at most 2."""
FIXED_NS = 10_000
"""Of a kernel, that a larger batch does not lengthen, by the optimistic model (a starting
value: less work than that fills no device)."""

Both = tuple[Dependencies, Dependencies]


class Known(msgspec.Struct, frozen=True):
    """What a change needs to know beside the graph.

    Attributes:
        trace: That it is of. start_ns: Of the span, on the clock of the trace.
        steps_ns: Beginnings of the steps, from the start of the span.
        tensor_cores: The device has them.
        saved_ns: By place of a collective's event, what its rank need not wait if the late ranks
            came with the last but one, and if none came late.
    """

    trace: Trace
    start_ns: int
    steps_ns: Whole
    tensor_cores: bool = False
    saved_ns: Mapping[int, tuple[int, int]] = msgspec.field(default_factory=dict)

    @property
    def in_process(self) -> bool:
        """Whether the training process prepares its batches itself."""
        return any("_SingleProcessDataLoaderIter" in name for name in self.trace.names)

    def named(self, graph: Dependencies, wanted: Callable[[str], object]) -> Flags:
        """Nodes of devices whose event's name is wanted."""
        found: Flags = graph.kind == Node.WORK
        used, place = np.unique(self.trace.events.name[graph.event[found]], return_inverse=True)
        chosen = [bool(wanted(self.trace.names[one])) for one in used.tolist()]
        found[found] = np.array(chosen, bool)[place]
        return found


def no_data_wait(graph: Dependencies, known: Known) -> Both | None:
    """Batches are there when they are asked for."""
    waits = graph.parts_ns[:, DATA_WAIT]
    if not waits.any():
        return None
    less, none = graph.parts_ns.copy(), graph.parts_ns.copy()
    none[:, DATA_WAIT] = 0
    if known.in_process:
        own = [cause for cause in range(len(CAUSES)) if cause != SYNCHRONISATION]
        less[:, own] = (none[:, own] * SLOWER_HOST).astype(np.int64)
    else:
        less[:, DATA_WAIT] = (waits * WAIT_LEFT).astype(np.int64)
    return replace(graph, parts_ns=less), replace(graph, parts_ns=none)


def pinned_copies(graph: Dependencies, known: Known) -> Both | None:
    """The host waits for no copy to the device; at best they run beside the work."""
    copies = known.named(graph, lambda name: "HtoD" in name and "Pinned" not in name)
    copies &= known.named(graph, lambda name: "Memcpy" in name)
    if not copies.any():
        return None
    freed = _not_waiting(graph, _waits_for_launched(graph, copies))
    beside = replace(freed, work_ns=np.where(copies, 0, freed.work_ns))
    return freed, beside


def fewer_synchronisations(graph: Dependencies, known: Known) -> Both | None:
    """No call waits for a device; by the pessimistic model the last of each step does."""
    uploads = known.named(graph, lambda name: "HtoD" in name)
    waits = (graph.point == Point.WAITED) & ~_waits_for_launched(graph, uploads)
    waits &= (graph.other > 0) & (graph.kind[graph.other] != Node.HOST)
    if not waits.any():
        return None
    places = np.flatnonzero(waits)
    some = waits.copy()
    some[places[_last_of_steps(graph.at_ns[places], known)]] = False
    return _not_waiting(graph, some), _not_waiting(graph, waits)


def fewer_launches(graph: Dependencies, known: Known) -> Both | None:
    """From one launch to the next the host needs less time, at best none.

    Launches of collectives stay, as hooks that exchange gradients are in no graph.
    """
    launches = graph.point == Point.LAUNCHES
    between = launches & launches[graph.before] & ~_around_collectives(graph)
    if not between.any():
        return None
    less, none = _less_launching(graph, between)
    return replace(graph, parts_ns=less), replace(graph, parts_ns=none)


def tensor_cores(graph: Dependencies, known: Known) -> Both | None:
    """Matrix kernels of fp32 run faster; all others as they did."""
    if not known.tensor_cores:
        return None
    eligible = known.named(graph, _is_fp32_matrix)
    if not eligible.any():
        return None
    low, high = (
        replace(graph, work_ns=np.where(eligible, graph.work_ns / times, graph.work_ns).astype(int))
        for times in TENSOR_CORES
    )
    return low, high


def _is_fp32_matrix(name: str) -> bool:
    said = read_name(name)
    return said.family in MATRIX_FAMILIES and said.precision == "fp32"


def overlapped_communication(graph: Dependencies, known: Known) -> Both | None:
    """Nothing waits for a collective; by the pessimistic model what follows a step's last one."""
    talks = np.flatnonzero(graph.communicates)
    if not len(talks):
        return None
    last = talks[_last_of_steps(_launched_ns(graph)[talks], known)]
    kept = np.zeros(len(graph), bool)
    kept[last] = True
    return _past(graph, graph.communicates & ~kept), _past(graph, graph.communicates)


def bucketed_communication(graph: Dependencies, known: Known) -> Both | None:
    """Many collectives become a few that nothing waits for, on which the host spends less time."""
    both = overlapped_communication(graph, known)
    if both is None:
        return None
    low, high = both
    around = _around_collectives(graph)
    less, none = _less_launching(graph, around)
    return replace(low, parts_ns=less), replace(high, parts_ns=none)


def balanced_ranks(graph: Dependencies, known: Known) -> Both | None:
    """Collectives without their waits for late ranks."""
    saved = np.zeros((len(graph), 2), np.int64)
    for node in np.flatnonzero(graph.communicates).tolist():
        saved[node] = known.saved_ns.get(int(graph.event[node]), (0, 0))
    if not saved.any():
        return None
    low, high = (
        replace(graph, work_ns=np.maximum(graph.work_ns - saved[:, column], 0)) for column in (0, 1)
    )
    return low, high


def larger_batch(graph: Dependencies, known: Known) -> Both | None:
    """Twice the samples: devices and loader have twice the work, the host launches as much.

    The optimizer and collectives, whose work does not depend on the batch, stay as they are.
    """
    grows = (graph.kind == Node.WORK) & ~graph.communicates & ~_of_optimizer(graph, known)
    if not grows.any():
        return None
    parts = graph.parts_ns.copy()
    parts[:, DATA_WAIT] *= 2
    work = graph.work_ns
    less = np.where(grows, work + np.maximum(work - FIXED_NS, 0), work)
    twice = np.where(grows, 2 * work, work)
    return replace(graph, parts_ns=parts, work_ns=twice), replace(
        graph, parts_ns=parts, work_ns=less
    )


SIMULATED: dict[str, Callable[[Dependencies, Known], Both | None]] = {
    "no-data-wait": no_data_wait,
    "pinned-copies": pinned_copies,
    "tensor-cores": tensor_cores,
    "fewer-launches": fewer_launches,
    "overlapped-communication": overlapped_communication,
    "bucketed-communication": bucketed_communication,
    "balanced-ranks": balanced_ranks,
    "larger-batch": larger_batch,
    "fewer-synchronisations": fewer_synchronisations,
}
"""By the names of `CHANGES`."""


def _less_launching(graph: Dependencies, between: Flags) -> tuple[Whole, Whole]:
    """What the host does before these launches by either model."""
    less, none = graph.parts_ns.copy(), graph.parts_ns.copy()
    for cause in (LAUNCH_CALL, OPERATOR):
        less[between, cause] = (less[between, cause] * LAUNCHING_LEFT).astype(np.int64)
    for cause in (LAUNCH_CALL, OPERATOR, OTHER):
        none[between, cause] = 0
    return less, none


def _around_collectives(graph: Dependencies) -> Flags:
    """Launches of collectives, and those that come next."""
    calls = np.zeros(len(graph), bool)
    calls[_launch(graph)[graph.communicates]] = True
    calls[0] = False
    found: Flags = (calls | calls[graph.before]) & (graph.point == Point.LAUNCHES)
    return found


def _not_waiting(graph: Dependencies, waits: Flags) -> Dependencies:
    """The same without these waits of the host."""
    parts = graph.parts_ns.copy()
    for cause in (SYNCHRONISATION, COPY_CALL):
        parts[waits, cause] = 0
    return replace(
        graph,
        parts_ns=parts,
        other=np.where(waits, 0, graph.other),
        lag_ns=np.where(waits, 0, graph.lag_ns),
        wait_ns=np.where(waits, 0, graph.wait_ns),
    )


def _waits_for_launched(graph: Dependencies, work: Flags) -> Flags:
    """Waits in the calls that launched this work, and in synchronisations that follow at once."""
    launches = _launch(graph)[work]
    begun = np.zeros(len(graph), bool)
    begun[launches[launches > 0]] = True
    waits = graph.point == Point.WAITED
    own = waits & begun[graph.before]
    called = graph.before  # of a synchronisation: where it was called
    found: Flags = own | (waits & (graph.point[called] == Point.PASSES) & own[graph.before[called]])
    return found


def _launch(graph: Dependencies) -> Whole:
    """Of work the point that launched it."""
    begins = graph.kind[graph.before] == Node.BEGIN
    return np.where(begins, graph.other[graph.before], graph.other)


def _launched_ns(graph: Dependencies) -> Whole:
    found: Whole = graph.at_ns[_launch(graph)]
    return found


def _last_of_steps(at_ns: Whole, known: Known) -> Whole:
    """Places of the last of each step, among times in order."""
    step = np.searchsorted(known.steps_ns, at_ns, "right")
    return np.flatnonzero(np.append(step[1:] != step[:-1], True))


def _past(graph: Dependencies, work: Flags) -> Dependencies:
    """The same where nothing but other such work and the end comes after this work."""
    before, other = graph.before.copy(), graph.other.copy()
    waits = ~graph.communicates & (graph.kind != Node.START)
    lag = np.where(waits & work[other], 0, graph.lag_ns)
    other[waits & work[other]] = 0
    skips = waits & work[before]
    while skips.any():  # as many times as collectives follow each other on one stream
        before[skips] = before[before[skips]]
        skips = waits & work[before]
    return replace(graph, before=before, other=other, lag_ns=lag)


def _of_optimizer(graph: Dependencies, known: Known) -> Flags:
    """Work that was launched inside a step of an optimizer."""
    events = known.trace.events
    steps = events.where(known.trace.named(lambda name: name.startswith("Optimizer.step")))
    at = _launched_ns(graph) + known.start_ns
    place = np.searchsorted(steps.start_ns, at, "right") - 1
    if not len(steps):
        return np.zeros(len(graph), bool)
    found: Flags = (graph.kind == Node.WORK) & (place >= 0) & (at < steps.end_ns[place])
    return found
