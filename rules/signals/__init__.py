"""From a recorded training to its signals: one file per topic, pure functions."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.signals import (
    flags,
    host,
    interruptions,
    loader,
    loss,
    memory,
    models,
    ranks,
    steps,
    whole_run,
)
from trainprof.rules.signals.training import SIGNALS_OF_COLLECTOR, Training

TOPICS = (whole_run, steps, loader, models, flags, interruptions, host, memory, loss, ranks)
"""Each has `DESCRIPTIONS` and `measure(training)`."""


def measure(training: Training) -> Signals:
    """Every signal of a training; those that could not be measured are missing with a reason."""
    values: dict[str, Signal] = {}
    for topic in TOPICS:
        values.update(topic.measure(training))
    for collector, reason in training.failures.items():
        beginnings = SIGNALS_OF_COLLECTOR.get(collector, ())
        for name, signal in values.items():
            if name.startswith(beginnings) and not signal.value:
                values[name] = Signal(None, signal.unit, reason=reason, lost=True)
    return Signals(values)
