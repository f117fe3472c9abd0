"""Which operator launched each kernel, and what operators of known work did; times in ns."""

from __future__ import annotations

import msgspec
import numpy as np

from trainprof.profiler.traces.events import MISSING, Events, Flags, Kind, Trace, Whole, distinct
from trainprof.profiler.traces.operator_shapes import (
    KNOWN,
    Inputs,
    Work,
    benchmarks,
    convolution_outputs,
    read_inputs,
    work_of,
)


def outermost(events: Events, chosen: Flags) -> Whole:
    """Places of the chosen events that lie in no other chosen one of the same lane, by lane."""
    places = np.flatnonzero(chosen)
    if not len(places):
        return places
    places = places[np.argsort(events.lane[places], kind="stable")]
    lane, start, end = events.lane[places], events.start_ns[places], events.end_ns[places]
    first = np.append(True, lane[1:] != lane[:-1])
    reached = np.zeros(len(places), np.int64)
    begins = np.flatnonzero(first)
    for begin, stop in zip(begins, np.append(begins[1:], len(places)), strict=True):
        reached[begin:stop] = np.maximum.accumulate(end[begin:stop])
    fresh = first | (start >= np.append(0, reached[:-1]))
    return places[fresh]


def around(events: Events, operators: Whole, lane: Whole, time_ns: Whole) -> Whole:
    """The operator that each moment on a lane lies in; MISSING where it lies in none.

    Args:
        events: All of a trace.
        operators: Places in them, apart from each other on each lane, and by lane.
        lane: Of each moment.
        time_ns: When it is.
    """
    found = np.full(len(lane), MISSING, np.int64)
    lanes = events.lane[operators]
    for one in distinct(lane).tolist():
        begin, stop = np.searchsorted(lanes, [one, one + 1])
        own, asked = operators[begin:stop], np.flatnonzero(lane == one)
        if not len(own):
            continue
        place = np.searchsorted(events.start_ns[own], time_ns[asked], "right") - 1
        inside = (place >= 0) & (events.end_ns[own[place]] > time_ns[asked])
        found[asked[inside]] = own[place[inside]]
    return found


class LaunchedBy(msgspec.Struct, frozen=True):
    """The operators that launched kernels.

    Attributes:
        lane, time_ns: Of each launch; the lane is MISSING where it is not there.
        top: Place in `Trace.events` of the operator that the training called, of each kernel.
        known: The same of the operator whose work is known. Both MISSING where there is none.
        works: By place in `Trace.events`, what an operator of `known` computes.
        benchmark: cuDNN's benchmark mode was on in all convolutions that tell it; None if none do.
        input_shapes: Most sizes of input that convolutions with one size of weight had.
    """

    lane: Whole
    time_ns: Whole
    top: Whole
    known: Whole
    works: dict[int, Work]
    benchmark: bool | None
    input_shapes: int


def launched_by(trace: Trace, call: Whole, external: Whole) -> LaunchedBy:
    """Links kernels to operators, by the calls that launched them, else by external id.

    Args:
        trace: What the file holds.
        call: Place in `trace.events` of the call that launched each kernel, or MISSING.
        external: Of each kernel, as the trace has it.
    """
    events = trace.events
    operators = events.kind == Kind.OPERATOR
    lane, time_ns = launch_moments(events, operators, call, external)
    called = operators & trace.named(lambda name: "::" in name and "autograd::" not in name)
    wanted = operators & trace.named(KNOWN.__contains__) & (events.shape != MISSING)
    works, switches, shapes = _works(trace, np.flatnonzero(wanted))
    wanted[np.setdiff1d(np.flatnonzero(wanted), list(works))] = False
    known = around(events, outermost(events, wanted), lane, time_ns)
    return LaunchedBy(
        lane=lane,
        time_ns=time_ns,
        top=around(events, outermost(events, called), lane, time_ns),
        known=known,
        works={place: works[place] for place in np.unique(known).tolist() if place != MISSING},
        benchmark=all(switches) if switches else None,
        input_shapes=max(map(len, shapes.values()), default=0),
    )


def launch_moments(
    events: Events, operators: Flags, call: Whole, external: Whole
) -> tuple[Whole, Whole]:
    """Lane and time of each launch; of work whose call is not there, those of its operator.

    Args:
        events: All of a trace.
        operators: Which of them are operators.
        call: Place in them of the call that launched each piece of work, or MISSING.
        external: Of each piece of work, as the trace has it.
    """
    found = call != MISSING
    lane = np.where(found, events.lane[call], MISSING).astype(np.int64)
    time_ns = np.where(found, events.start_ns[call], 0)
    places = np.flatnonzero(operators & (events.external != MISSING))
    asked = np.flatnonzero(~found & (external != MISSING))
    if len(places) and len(asked):
        places = places[np.argsort(events.external[places], kind="stable")]
        ids = events.external[places]
        place = np.minimum(np.searchsorted(ids, external[asked]), len(ids) - 1)
        same = ids[place] == external[asked]
        lane[asked[same]] = events.lane[places[place[same]]]
        time_ns[asked[same]] = events.start_ns[places[place[same]]]
    return lane, time_ns


def _works(
    trace: Trace, places: Whole
) -> tuple[dict[int, Work], list[bool], dict[object, set[object]]]:
    """What operators compute, cuDNN's switches that they tell, inputs by weight of convolutions."""
    events = trace.events
    kinds = list(zip(events.name[places].tolist(), events.shape[places].tolist(), strict=True))
    inputs = {kind: _inputs(trace, kind[1]) for kind in set(kinds)}
    named: list[tuple[str, Inputs]] = [(trace.names[kind[0]], one) for kind, one in inputs.items()]
    outputs = convolution_outputs(named)
    of_kind = {kind: work_of(trace.names[kind[0]], one, outputs) for kind, one in inputs.items()}
    works = {
        place: work
        for place, kind in zip(places.tolist(), kinds, strict=True)
        if (work := of_kind[kind]) is not None
    }
    switches = [on for name, one in named if (on := benchmarks(name, one)) is not None]
    shapes: dict[object, set[object]] = {}
    for name, one in named:
        if name in ("aten::convolution", "aten::cudnn_convolution") and len(one.shapes) > 1:
            shapes.setdefault((name, one.shapes[1]), set()).add(one.shapes[0])
    return works, switches, shapes


def _inputs(trace: Trace, place: int) -> Inputs:
    texts = (trace.shapes, trace.types, trace.values)
    return read_inputs(*(one[place] if place < len(one) else "" for one in texts))
