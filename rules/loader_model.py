"""How long a batch takes with W loader workers: the closed form of the in-order loader.

A batch costs one worker `produce_s`, the consumer `consume_s`. Without workers both follow each
other; with W workers the slowest of three paces decides: the consumer's, that of W producers, and
the machine's, which has to do the CPU work of both on the cores it has. Each batch further costs
`HANDOVER_S` for its way from process to process. Where batches come unevenly, a replay of their
measured times says how far the workers fall behind the pace of the means.

Held against fresh measurements (40 steps, one to four workers, waiting and computing items), the
predictions were 3 to 23 % too short, never too long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainprof.profiler.model.diagnosis import Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, low, needed, number, trains_on_cpu

HANDOVER_S, HANDOVER_LEAST_S = 1e-3, 0.5e-3
"""Time to hand one small batch from worker to consumer: 0.5 to 1 ms measured."""

WORST_UNDERESTIMATE = 1.25
"""Measured time over predicted time in the worst case met, rounded up."""

MOST_TO_OTHERS = 0.5
"""Part of the cores that other programs keep: the scheduler is fair, so that more processes of ours
take back what theirs have beyond that."""

CROWDED = 0.10
"""Time queued for a CPU over runnable time of the training thread; as loop-contention's."""

QUEUED_TOO_LONG = 0.20
"""Part of a batch's time in which its worker queued for a CPU (a starting value)."""

REPLAY_FITS = 2.0
"""A replay whose waiting is further off than this factor does not explain what was measured."""

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
        cores: Cores that this rank can use: without those that other programs fill, divided by the
            ranks of this machine.
        crowded: Queueing for a CPU was taken out of the times.
        unevenness: By number of workers, what bursts and stragglers add to the pace of the means,
            as a factor; 1 for a number that is not named.
    """

    produce_s: float
    produce_cpu_s: float
    consume_s: float
    consume_cpu_s: float
    cores: float
    crowded: bool = False
    unevenness: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, signals: Signals) -> LoaderTimes:
        """The times of a run's training loader.

        Where threads queue for a CPU, the queueing is taken out of both times, and all usable cores
        count: what is left is what the script would do on a quiet machine.

        Where CPU time was not measured, items count as computing all the time, and so does a
        consumer on the CPU: that errs towards fewer workers.
        """
        produce_s = needed(signals, "loader.producer_wall_s")
        consume_s = needed(signals, "loader.consumer_s")
        usable = needed(signals, "host.usable_cores")
        others = min(number(signals, "host.other_cores") or 0.0, usable * MOST_TO_OTHERS)
        queued = queued_part(signals)
        running = 1.0 - queued
        produce_cpu_s = number(signals, "loader.producer_cpu_s")
        consume_cpu_s = number(signals, "loader.consumer_cpu_s")
        if produce_cpu_s is None:
            produce_cpu_s = produce_s * running
        if consume_cpu_s is None:
            consume_cpu_s = consume_s * running if trains_on_cpu(signals) else 0.0
        if queued >= CROWDED:
            produce_s = _producing_undisturbed(signals, produce_s, produce_cpu_s, queued)
            consume_s = _without_queueing(consume_s, consume_cpu_s, queued)
            others = 0.0
        crowded = queued >= CROWDED
        uneven = {} if crowded else _unevenness(signals)
        cores = (usable - others) / ranks_here(signals)
        return cls(produce_s, produce_cpu_s, consume_s, consume_cpu_s, cores, crowded, uneven)

    def batch_s(self, workers: int, handover_s: float = HANDOVER_S) -> float:
        """Predicted wall time per batch."""
        if workers <= 0:
            return self.consume_s + self.produce_s
        cpu_s = (self.consume_cpu_s + self.produce_cpu_s) / max(self.cores, 0.1)
        pace_s = max(self.consume_s, self.produce_s / workers)
        return max(pace_s * self.unevenness.get(workers, 1.0), cpu_s) + handover_s

    def best_workers(self, most: int) -> int:
        """The smallest number of workers, 0 to `most`, within 5 % of the best pace."""
        paces = [self.batch_s(workers) for workers in range(max(most, 0) + 1)]
        limit = min(paces) * CLOSE_ENOUGH
        return next(workers for workers, pace in enumerate(paces) if pace <= limit)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The waiting for batches that is the script's own: no epoch starts, no queueing for a CPU.

    Attributes:
        share, share_low: Of the step's wall time; the lower bound of the 90 % interval.
        per_batch_s: Seconds per batch.
    """

    share: float
    share_low: float
    per_batch_s: float

    @classmethod
    def of_run(cls, signals: Signals) -> Waiting:
        """The waiting of a run."""
        return cls.of(signals, LoaderTimes.of(signals))

    @classmethod
    def of(cls, signals: Signals, times: LoaderTimes) -> Waiting:
        """The waiting of a run; where threads queue for a CPU, what the model says is left."""
        share = needed(signals, "step.data_wait_share")
        share_low = low(signals, "step.data_wait_share") or 0.0
        at_start = number(signals, "loader.start_share") or 0.0
        steady = max(share - at_start, 0.0)
        per_batch_s = needed(signals, "loader.consumer_s") * steady / max(1.0 - share, 0.01)
        most = 1.0
        if times.crowded:
            pace_s = times.batch_s(int(needed(signals, "loader.num_workers")), handover_s=0.0)
            per_batch_s = pace_s - times.consume_s
            most = per_batch_s / pace_s if pace_s else 0.0
        return cls(min(steady, most), min(max(share_low - at_start, 0.0), most), per_batch_s)


def predicted_gain(times: LoaderTimes, wait: Waiting, workers: int) -> Gain:
    """The speed-up by so many workers, from the waiting that would remain, most and least."""

    def speedup(share: float, batch_s: float) -> float:
        left_s = max(batch_s - times.consume_s, 0.0)
        if left_s >= wait.per_batch_s:
            return 1.0
        return amdahl(share * (1.0 - left_s / wait.per_batch_s))

    return Gain(
        speedup(wait.share_low, times.batch_s(workers) * WORST_UNDERESTIMATE),
        speedup(wait.share, times.batch_s(workers, handover_s=HANDOVER_LEAST_S)),
    )


def ranks_here(signals: Signals) -> float:
    """Ranks of this training on one machine; 1 where it has none."""
    ranks = number(signals, "distributed.world_size") or 1.0
    return max(ranks / (number(signals, "distributed.host_count") or 1.0), 1.0)


def queued_part(signals: Signals) -> float:
    """Part of its runnable time that the training thread queued for a CPU; 0 if not measured."""
    queued = number(signals, "step.run_queue_share")
    running = number(signals, "step.cpu_share")
    if queued is None or running is None or queued + running <= 0:
        return 0.0
    return min(queued / (queued + running), 0.99)


def _unevenness(signals: Signals) -> dict[int, float]:
    ratios = signals.get("loader.unevenness").value
    return dict(ratios) if isinstance(ratios, Mapping) else {}


def _producing_undisturbed(signals: Signals, wall_s: float, cpu_s: float, queued: float) -> float:
    """What a batch would take its producer on a quiet machine.

    Its own queueing is taken out where it was read, else as much as the training thread shows (the
    scheduler treats workers alike). What is left still holds waits that the queueing of others
    causes, such as for the interpreter's lock: a few preempted batches make a mean, so no more than
    the median batch counts.
    """
    own_s = number(signals, "loader.producer_queued_s")
    busy_s = min(cpu_s, wall_s)
    quiet_s = _without_queueing(wall_s, cpu_s, queued)
    if own_s is not None:
        quiet_s = min(quiet_s, wall_s - own_s)
    median_s = number(signals, "loader.producer_median_s")
    if median_s is not None:
        quiet_s = min(quiet_s, median_s)
    return max(busy_s, quiet_s)


def _without_queueing(wall_s: float, cpu_s: float, queued: float) -> float:
    """A wall time less the queueing that goes with its CPU time; never below that CPU time."""
    busy_s = min(cpu_s, wall_s)
    return max(busy_s, wall_s - busy_s * queued / (1.0 - queued))


def queued_by_the_machine(signals: Signals) -> bool:
    """True where a fifth of a batch's time is its producer's queueing for a CPU.

    Bursts and stragglers may then be the scheduler's.
    """
    queued_s = number(signals, "loader.producer_queued_s")
    wall_s = number(signals, "loader.producer_wall_s")
    if queued_s is None or not wall_s:
        return False
    return queued_s >= QUEUED_TOO_LONG * wall_s


def replayed_share(signals: Signals, other: str) -> float:
    """Share of the step that the replay `other` saves against the one with the loader's settings.

    At most what the training waits in mid epoch; 0 where the replay shows less than half of that
    waiting, or more than twice of it, and so does not explain it.
    """
    now_s, then_s = needed(signals, "loader.replay_s"), needed(signals, other)
    at_start = number(signals, "loader.start_share") or 0.0
    wait = max(needed(signals, "step.data_wait_share") - at_start, 0.0)
    consume_s = number(signals, "loader.consumer_s")
    if consume_s is not None:
        replayed = max(1.0 - consume_s / now_s, 0.0)
        if not wait / REPLAY_FITS <= replayed <= wait * REPLAY_FITS:
            return 0.0
    return min(max(1.0 - then_s / now_s, 0.0), wait)


def io_part(signals: Signals) -> float:
    """Part of a batch's undisturbed time in which its producer does not compute: it waits, 0..1.

    0 where its CPU time was not measured: then nothing is known of waiting.
    """
    if number(signals, "loader.producer_cpu_s") is None:
        return 0.0
    times = LoaderTimes.of(signals)
    undisturbed_s = times.produce_s
    if not times.crowded:
        undisturbed_s -= number(signals, "loader.producer_queued_s") or 0.0
    if undisturbed_s <= 0.0:
        return 0.0
    return max(1.0 - times.produce_cpu_s / undisturbed_s, 0.0)
