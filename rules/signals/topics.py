"""All topics of a recorded training, and the signals that they measure together."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.signals import (
    batch_size,
    compilation,
    copies,
    cost,
    dataset,
    denormals,
    flags,
    gpu,
    headroom,
    host,
    interpreter_lock,
    interruptions,
    learning,
    loader,
    loader_replay,
    loss,
    memory,
    models,
    numa,
    operators,
    ranks,
    recomputation,
    scaler,
    search,
    source,
    stacks,
    start,
    steps,
    storage,
    transfer,
    units,
    unused_gpu,
    validation,
    whole_run,
)
from trainprof.rules.signals.training import SIGNALS_OF_COLLECTOR, Training

TOPICS = (
    whole_run,
    steps,
    loader,
    loader_replay,
    dataset,
    storage,
    models,
    operators,
    denormals,
    flags,
    interruptions,
    compilation,
    host,
    memory,
    batch_size,
    copies,
    cost,
    learning,
    loss,
    search,
    ranks,
    recomputation,
    scaler,
    headroom,
    gpu,
    numa,
    unused_gpu,
    transfer,
    start,
    units,
    validation,
    stacks,
    interpreter_lock,
    source,
)
"""Each has `DESCRIPTIONS` and `measure(training)`."""


def measure(training: Training) -> Signals:
    """Every signal of a training; those that could not be measured are missing with a reason."""
    values: dict[str, Signal] = {}
    for topic in TOPICS:
        values.update(topic.measure(training))
    for collector, reason in training.failures.items():
        _lose(values, SIGNALS_OF_COLLECTOR.get(collector, ()), reason)
    return Signals(values)


def _lose(values: dict[str, Signal], beginnings: tuple[str, ...], reason: str) -> None:
    """Says of what a failed collector left out that it is lost; a count of none proves nothing."""
    for name, signal in values.items():
        nothing = signal.value is None or (name.endswith("_count") and signal.value == 0)
        if nothing and name.startswith(beginnings):
            values[name] = Signal(None, signal.unit, reason=reason, lost=True)
