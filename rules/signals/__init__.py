"""From a recorded training to its signals: one file per topic, pure functions."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.signals import steps
from trainprof.rules.signals.training import Training

TOPICS = (steps,)
"""Each has `DESCRIPTIONS` and `measure(training)`."""


def measure(training: Training) -> Signals:
    """Every signal of a training; those that could not be measured are missing with a reason."""
    values: dict[str, Signal] = {}
    for topic in TOPICS:
        values.update(topic.measure(training))
    return Signals(values)
