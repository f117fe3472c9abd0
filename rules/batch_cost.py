"""What a cheaper batch would give: the probe's parts of a batch, on the times of the run.

The probe measures apart from the training, so that only the *parts* of a batch's time are taken
from it; the time itself, and what of it the training waits for, come from the run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from trainprof.profiler.model.diagnosis import Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.loader_model import LoaderTimes, Waiting
from trainprof.rules.reading import amdahl, needed, number

NEEDS = (
    "step.data_wait_share",
    "loader.num_workers",
    "loader.producer_wall_s",
    "loader.consumer_s",
    "host.usable_cores",
    "dataset.batch_s",
)
"""Signals without which `BatchCost.of` cannot speak."""

MOST_DISAGREEMENT = 4.0
"""Probe and run may differ by this factor about a batch's time; beyond it they did not do the same
(a cold cache, a busy machine) and nothing follows from the probe (a starting value)."""


@dataclass(frozen=True, slots=True)
class BatchCost:
    """A batch in the run, and what the training waits for it.

    Attributes:
        batch_s: Time of a batch as the probe saw it.
        times, wait: As the run saw it.
        workers: The loader's.
    """

    batch_s: float
    times: LoaderTimes
    wait: Waiting
    workers: int

    @classmethod
    def of(cls, signals: Signals) -> BatchCost | None:
        """None where the probe and the run do not speak of the same thing."""
        batch_s = needed(signals, "dataset.batch_s")
        times = LoaderTimes.of(signals)
        seen = [times.produce_s, times.produce_cpu_s]
        agree = any(
            0 < batch_s < MOST_DISAGREEMENT * one and one < MOST_DISAGREEMENT * batch_s
            for one in seen
        )
        if not agree:
            return None
        workers = int(needed(signals, "loader.num_workers"))
        return cls(batch_s, times, Waiting.of(signals, times), workers)

    def part(self, seconds: float) -> float:
        """What `seconds` of the probe are of a batch, 0 to 1."""
        return min(max(seconds / self.batch_s, 0.0), 1.0)

    @property
    def more_workers_would_help(self) -> bool:
        """Whether the loader model finds a better number of workers on these cores."""
        most = max(2, math.ceil(self.times.cores))
        return self.times.best_workers(most) > self.workers

    def share(self, part: float) -> tuple[float, float]:
        """Share of the step that waiting for this part of a batch takes, and its lower bound."""
        removed = self._removed(part)
        return self.wait.share * removed, self.wait.share_low * removed

    def gain(self, part: float, ratio_low: float, ratio_high: float, repeats: float = 1.0) -> Gain:
        """The speed-up when a part of each batch becomes `ratio` times cheaper.

        Args:
            part: Of the batch's time.
            ratio_low: Old over new time of that part, at least.
            ratio_high: The same, at most.
            repeats: Part of the batches that profit.
        """
        least = self.wait.share_low * self._removed(part * (1.0 - 1.0 / ratio_low))
        most = self.wait.share * self._removed(part * (1.0 - 1.0 / ratio_high))
        low, high = amdahl(least * repeats), amdahl(most * repeats)
        return Gain(min(low, high), max(low, high))

    def _removed(self, part: float) -> float:
        """What of the waiting goes when a batch costs this part less, by the loader model."""
        before, after = self._waits(0.0), self._waits(part)
        return 0.0 if before <= 0.0 else min(max(1.0 - after / before, 0.0), 1.0)

    def _waits(self, less: float) -> float:
        times = replace(
            self.times,
            produce_s=self.times.produce_s * (1.0 - less),
            produce_cpu_s=self.times.produce_cpu_s * (1.0 - less),
        )
        if self.workers == 0:
            return times.produce_s
        return max(times.batch_s(self.workers, handover_s=0.0) - times.consume_s, 0.0)


def free_memory(signals: Signals) -> float | None:
    """Bytes that a cache could use."""
    return number(signals, "host.memory_available_bytes")
