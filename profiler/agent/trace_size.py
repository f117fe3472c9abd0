"""How many steps a trace may hold, so that neither memory nor disk feel it."""

from __future__ import annotations

from dataclasses import dataclass

MOST_EVENTS = 100_000
"""Of a window. Measured on the CPU, an event takes 4 KB of the training's memory when the profiler
stops, 10 to 30 us to stop, and 440 bytes of JSON: some 400 MB, two seconds and 44 MB."""
EVENTS_PER_TENSOR = 60
"""Of one forward and backward, for each parameter, where no step was looked at before. Measured on
the CPU: 5 for 20,000 single parameters, 100 for the twelve of a transformer's layer."""
MOST_TENSORS = 5_000
"""Up to so many a step is traced although it may hold more events than that."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a step does.

    Attributes:
        events: Of one that the profiler has looked at; None where there was none.
        micro_batches: Its backwards.
    """

    events: int | None = None
    micro_batches: int = 1


def fitting_steps(steps: int, tensors: int, load: Load) -> int:
    """So many of the steps that their trace stays small; 0 where one would be too large.

    Args:
        steps: That are wanted.
        tensors: Parameters of the model.
        load: What a step does.
    """
    if load.events is not None:
        return min(steps, MOST_EVENTS // max(load.events, 1))
    guess = EVENTS_PER_TENSOR * tensors * load.micro_batches
    fits = min(steps, MOST_EVENTS // max(guess, 1))
    return max(fits, 1) if tensors <= MOST_TENSORS else fits
