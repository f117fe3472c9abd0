"""From a trace to its signals: one file per topic, pure functions."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.trace_signals import (
    arrivals,
    attention,
    collectives,
    compiling,
    copies,
    fp64,
    frames,
    kernels,
    launches,
    operators,
    optimizer_steps,
    rearranging,
    roofline,
    several_devices,
    sharding,
    step_variation,
    synchronisations,
    timeline,
    trace_memory,
    training_thread,
    zero_grads,
)
from trainprof.rules.trace_signals.traced import Traced

TOPICS = (
    timeline,
    arrivals,
    launches,
    training_thread,
    operators,
    frames,
    collectives,
    kernels,
    synchronisations,
    copies,
    roofline,
    attention,
    trace_memory,
    optimizer_steps,
    several_devices,
    zero_grads,
    step_variation,
    compiling,
    rearranging,
    fp64,
    sharding,
)
"""Each has `DESCRIPTIONS` and `measure(traced)`."""
NAMES = frozenset(one.name for topic in TOPICS for one in topic.DESCRIPTIONS)
"""Of the signals that only traces have."""


def measure(traced: Traced) -> Signals:
    """Every signal of a trace; those that it does not tell are missing with a reason."""
    values: dict[str, Signal] = {}
    for topic in TOPICS:
        values.update(topic.measure(traced))
    return Signals(values)
