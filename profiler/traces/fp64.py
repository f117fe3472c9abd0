"""What runs in fp64: kernels of a device, or operators of a training on the CPU."""

from __future__ import annotations

import json

import msgspec
import numpy as np

from trainprof.profiler.traces.events import MISSING, Kind, Trace
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.kernels import Kernels
from trainprof.profiler.traces.operators import outermost
from trainprof.profiler.traces.timeline import Window
from trainprof.profiler.traces.training_thread import TrainingThread

OTHER_FLOATS = frozenset({"float", "c10::Half", "c10::BFloat16"})
"""An operator that takes one of these as well converts, or mixes on purpose."""
CONVERTING = frozenset({"aten::to", "aten::_to_copy", "aten::copy_"})
"""What they take is not what they compute."""


class DoublePrecision(msgspec.Struct, frozen=True):
    """What ran in fp64 in the window.

    Attributes:
        time_ns: In which any of it ran. matrices_ns: Of that, products, convolutions and attention;
            None of a CPU. operator: That most of it is of; None where that is not known.
    """

    time_ns: int
    matrices_ns: int | None
    operator: str | None


def double_kernels(kernels: Kernels) -> DoublePrecision:
    """Kernels in fp64, by their names and the inputs of their operators."""
    chosen = kernels.of_precision("fp64")
    lengths = kernels.events.end_ns - kernels.events.start_ns
    called = chosen & (kernels.operator_names != MISSING)
    spent = np.bincount(kernels.operator_names[called], lengths[called])
    return DoublePrecision(
        time_ns=kernels.time_ns(chosen),
        matrices_ns=kernels.time_ns(chosen & kernels.of_matrices),
        operator=kernels.names[int(spent.argmax())] if len(spent) else None,
    )


def double_operators(
    trace: Trace, thread: TrainingThread, window: Window
) -> DoublePrecision | None:
    """Operators of the training thread on tensors of fp64; None where no types are recorded."""
    events = trace.events
    doubles = np.array([_is_double(one) for one in trace.types], bool)
    if not any(trace.types):
        return None
    own = (events.kind == Kind.OPERATOR) & (events.lane == thread.lane)
    own &= (events.start_ns < window.end_ns) & (events.end_ns > window.start_ns)
    own &= (events.shape != MISSING) & (events.shape < len(doubles))
    own &= trace.named(_computes)
    own[own] = doubles[events.shape[own]]
    places = outermost(events, own)
    start, end = events.start_ns[places], events.end_ns[places]
    spent = np.bincount(events.name[places], end - start)
    return DoublePrecision(
        time_ns=union(start, end).clipped(window.start_ns, window.end_ns).total,
        matrices_ns=None,
        operator=trace.names[int(spent.argmax())] if len(spent) else None,
    )


def _computes(name: str) -> bool:
    return "::" in name and "autograd::" not in name and name not in CONVERTING


def _is_double(text: str) -> bool:
    """Whether inputs of these types hold tensors of fp64, and of no other floating type."""
    if "double" not in text:
        return False
    try:
        types = json.loads(text)
    except (ValueError, RecursionError):
        return False
    named = {one for one in types if isinstance(one, str)} if isinstance(types, list) else set()
    return "double" in named and not named & OTHER_FLOATS
