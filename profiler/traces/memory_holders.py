"""What the memory in use at a device's peak is held for, as far as a trace tells.

A snapshot of the allocator knows the stack of each allocation; a trace only what its thread was
doing then: a step of an optimizer, a node of autograd's, or another operator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from trainprof.profiler.traces.events import MISSING, Flags, Kind, Trace, Whole
from trainprof.profiler.traces.nesting import innermost
from trainprof.profiler.traces.operators import around, outermost

HOLDERS = ("optimizer", "gradients", "activations", "parameters", "other", "before the recording")
"""What memory is held for, as far as its allocation tells."""
OPTIMIZER, GRADIENTS, ACTIVATIONS, OTHER = (
    HOLDERS.index(one) for one in ("optimizer", "gradients", "activations", "other")
)
OPTIMIZER_STEP = re.compile(r"Optimizer\.step#")
NODE_OR_STEP = re.compile(r"Optimizer\.step#|autograd::engine::evaluate_function")
"""Names by torch/optim/optimizer.py and torch/csrc/autograd/engine.cpp."""
MOVES = re.compile(r"aten::(_to_copy|to|copy_|pin_memory)$|Optimizer\.")
"""Outermost operators that make no activations: batches that are moved, gradients set to zero."""


def holders_at(trace: Trace, rows: Whole, first_step_ns: int) -> Mapping[str, int] | None:
    """Bytes by `HOLDERS` after the last of some events of a device's allocator.

    What is in use and was allocated by no event is from before the recording. What was allocated
    before the first step is "other", as parameters look like anything else there.

    Args:
        trace: What the file holds.
        rows: As in `Trace.memory`, in order of time, from the first one of this device on.
        first_step_ns: When the first step that is marked begins.

    Returns:
        None where the trace gives no addresses, or more is in use by its events than it says.
    """
    in_use = int(rows[-1, 2])
    held = _in_use(rows)
    before = MISSING if held is None else in_use - sum(held[:, 1].tolist())
    if held is None or before < 0:
        return None
    kinds = _kinds(trace, held, first_step_ns)
    bytes_of = {name: int(held[kinds == place, 1].sum()) for place, name in enumerate(HOLDERS)}
    return {**bytes_of, HOLDERS[-1]: before}


def _in_use(rows: Whole) -> Whole | None:
    """The allocations that nothing has followed at their address; None without addresses."""
    addresses = rows[:, 5]
    if (addresses == MISSING).any():
        return None
    _, from_the_end = np.unique(addresses[::-1], return_index=True)
    last = rows[len(rows) - 1 - from_the_end]
    held: Whole = last[last[:, 1] > 0]
    return held


def _kinds(trace: Trace, held: Whole, first_step_ns: int) -> Whole:
    """Places in `HOLDERS`: the innermost node or optimizer step decides, else the operator."""
    events = trace.events
    marks = trace.named(NODE_OR_STEP.search) & np.isin(
        events.kind, (Kind.OPERATOR, Kind.ANNOTATION)
    )
    mark = _mark_around(trace, marks, held)
    operators = outermost(events, events.kind == Kind.OPERATOR)
    operator = around(events, operators, held[:, 6], held[:, 0])
    computes = (operator != MISSING) & (held[:, 0] >= first_step_ns)
    computes[computes] = ~trace.named(MOVES.match)[operator[computes]]
    kinds = np.where(computes, ACTIVATIONS, OTHER)
    marked = mark != MISSING
    steps = trace.named(OPTIMIZER_STEP.search)
    kinds[marked] = np.where(steps[mark[marked]], OPTIMIZER, GRADIENTS)
    return kinds


def _mark_around(trace: Trace, marks: Flags, held: Whole) -> Whole:
    """Place in the trace's events of the innermost mark around each allocation, of its thread."""
    places = np.flatnonzero(marks)
    places = places[np.argsort(trace.events.lane[places], kind="stable")]
    lanes = trace.events.lane[places]
    found = np.full(len(held), MISSING, np.int64)
    for lane in np.unique(held[:, 6]).tolist():
        begin, stop = np.searchsorted(lanes, [lane, lane + 1])
        own, calls = held[:, 6] == lane, places[begin:stop]
        inner = innermost(trace.events.where(calls), held[own, 0])
        found[own] = np.where(inner != MISSING, calls[inner], MISSING) if len(calls) else MISSING
    return found
