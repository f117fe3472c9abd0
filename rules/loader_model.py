"""How long a batch takes with W loader workers: the closed form of the in-order loader.

A batch costs one worker `produce_s`, the consumer `consume_s`. Without workers both follow each
other; with W workers the slowest of three paces decides: the consumer's, that of W producers, and
the machine's, which has to do the CPU work of both on the cores it has. Each batch further costs
`HANDOVER_S` for its way from process to process.

Held against fresh measurements (40 steps, one to four workers, waiting and computing items), the
predictions were 3 to 23 % too short, never too long.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, trains_on_cpu

HANDOVER_S, HANDOVER_LEAST_S = 1e-3, 0.5e-3
"""Time to hand one small batch from worker to consumer: 0.5 to 1 ms measured."""

WORST_UNDERESTIMATE = 1.25
"""Measured time over predicted time in the worst case met, rounded up."""

MOST_TO_OTHERS = 0.5
"""Part of the cores that other programs keep: the scheduler is fair, so that more processes of ours
take back what theirs have beyond that."""

CLOSE_ENOUGH = 1.05
"""The recommended number of workers is the smallest within 5 % of the best pace."""


@dataclass(frozen=True, slots=True)
class LoaderTimes:
    """What one batch costs.

    Attributes:
        produce_s: Wall time of one batch in one worker (or in the loop, without workers).
        produce_cpu_s: CPU time of the same.
        consume_s: Wall time of the training loop per batch, without the wait for it.
        consume_cpu_s: CPU time of the same, all threads.
        cores: Cores that this training can use, those that other programs fill not counted.
    """

    produce_s: float
    produce_cpu_s: float
    consume_s: float
    consume_cpu_s: float
    cores: float

    @classmethod
    def of(cls, signals: Signals) -> LoaderTimes:
        """The times of a run's training loader.

        Where CPU time was not measured, items count as computing all the time, and so does a
        consumer on the CPU: that errs towards fewer workers.
        """
        produce_s = needed(signals, "loader.producer_wall_s")
        consume_s = needed(signals, "loader.consumer_s")
        produce_cpu_s = number(signals, "loader.producer_cpu_s")
        consume_cpu_s = number(signals, "loader.consumer_cpu_s")
        busy_s = consume_s if trains_on_cpu(signals) else 0.0
        usable = needed(signals, "host.usable_cores")
        others = min(number(signals, "host.other_cores") or 0.0, usable * MOST_TO_OTHERS)
        return cls(
            produce_s=produce_s,
            produce_cpu_s=produce_s if produce_cpu_s is None else produce_cpu_s,
            consume_s=consume_s,
            consume_cpu_s=busy_s if consume_cpu_s is None else consume_cpu_s,
            cores=usable - others,
        )

    def batch_s(self, workers: int, handover_s: float = HANDOVER_S) -> float:
        """Predicted wall time per batch."""
        if workers <= 0:
            return self.consume_s + self.produce_s
        cpu_s = (self.consume_cpu_s + self.produce_cpu_s) / max(self.cores, 0.1)
        return max(self.consume_s, self.produce_s / workers, cpu_s) + handover_s

    def best_workers(self, most: int) -> int:
        """The smallest number of workers, 0 to `most`, within 5 % of the best pace."""
        paces = [self.batch_s(workers) for workers in range(max(most, 0) + 1)]
        limit = min(paces) * CLOSE_ENOUGH
        return next(workers for workers, pace in enumerate(paces) if pace <= limit)
