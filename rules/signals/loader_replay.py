"""The loader replayed: what the times of single batches give with its settings, and with others."""

# A mean hides bursts and stragglers. So the batches that were timed are handed out again, in
# torch's own order of events (rules/statistics/loader_simulation.py).

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.loader_workers import loader_workers
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training
from trainprof.rules.statistics.intervals import Floats
from trainprof.rules.statistics.loader_simulation import simulate_loader

LEAST_BATCHES = 50
"""Fewer show neither bursts nor stragglers."""

MOST_BATCHES = 2_000
"""A replay of so many takes a few milliseconds."""

READY_QUANTILE = 0.10
"""A tenth of the waits are taken to be handing over alone: their batch was ready."""

EVEN_QUANTILE = 0.95
"""What lies above is cut to it where the replay asks what slow batches cost."""

MOST_WORKERS, BATCHES_OF_WORKERS = 16, 400
"""Numbers of workers that are tried, and batches that each of them is given: 10 ms in all."""

DESCRIPTIONS = (
    Description(
        "loader.unevenness",
        "mapping",
        "By number of workers: time per batch, replayed, over what the means alone would give.",
    ),
    Description("loader.replay_s", "s", "Time per batch with the loader's settings, replayed."),
    Description(
        "loader.replay_prefetch4_s", "s", "The same, were prefetch_factor 4: more batches ahead."
    ),
    Description("loader.replay_prefetch8_s", "s", "The same, were prefetch_factor 8."),
    Description(
        "loader.replay_even_s",
        "s",
        "The same, did no batch take its worker longer than 95 % of them do.",
    ),
    Description(
        "loader.supply_ratio",
        "ratio",
        "Batches that the workers could make in the time in which the loop uses one.",
    ),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals loader.replay_*."""
    sheet = Sheet(DESCRIPTIONS)
    loader = training.loader
    if not training.has_window or "data_wait" in training.unmeasured:
        return sheet.finish("no steady step asked the loader")
    consume = _consumed(training)
    produce = _produced(training) if loader.workers else _waits(training)
    if min(len(produce), len(consume)) >= LEAST_BATCHES:
        sheet.put("loader.unevenness", _unevenness(produce, consume))
    if loader.workers == 0:
        return sheet.finish("there are no workers: a batch is made when it is asked for")
    count = min(len(produce), len(consume), MOST_BATCHES)
    if count < LEAST_BATCHES:
        return sheet.finish(f"fewer than {LEAST_BATCHES} batches were timed in the workers")
    produce, consume = produce[:count], consume[:count]
    handover_s = float(np.quantile(_waits(training), READY_QUANTILE))

    def replay(times: Floats, prefetch_factor: int) -> float:
        return simulate_loader(
            times.tolist(), consume.tolist(), loader.workers, prefetch_factor, handover_s
        )

    factor = loader.prefetch_factor
    even = np.minimum(produce, np.quantile(produce, EVEN_QUANTILE))
    for name, seconds in (
        ("loader.replay_s", replay(produce, factor)),
        ("loader.replay_prefetch4_s", replay(produce, max(factor, 4))),
        ("loader.replay_prefetch8_s", replay(produce, max(factor, 8))),
        ("loader.replay_even_s", replay(even, factor)),
    ):
        sheet.put(name, seconds, method="replay in the order of events of torch", samples=count)
    used, made = float(consume.mean()), float(produce.mean()) / loader.workers
    sheet.put("loader.supply_ratio", used / made if made > 0 else None, samples=count)
    return sheet.finish("it was not measured")


def _unevenness(produce: Floats, consume: Floats) -> dict[int, float]:
    """What bursts and stragglers add to the pace that the means of both sides would allow."""
    count = min(len(produce), len(consume), BATCHES_OF_WORKERS)
    produce, consume = produce[:count], consume[:count]
    made, used = produce.tolist(), consume.tolist()
    ratios = {}
    for workers in range(1, MOST_WORKERS + 1):
        means = max(float(consume.mean()), float(produce.mean()) / workers)
        replayed = simulate_loader(made, used, workers)
        ratios[workers] = max(replayed / means, 1.0) if means > 0 else 1.0
    return ratios


def _produced(training: Training) -> Floats:
    """Seconds that each batch of the window took its worker, in the order in which they began."""
    start, end = training.span_ns
    begun = sorted(
        (fetch.start_ns, fetch.wall_ns)
        for worker in loader_workers(training)
        for fetch in worker.fetches
        if start <= fetch.start_ns < end
    )
    return np.array([wall_ns for _, wall_ns in begun], dtype=np.float64) / 1e9


def _consumed(training: Training) -> Floats:
    """Seconds in which the loop used each batch, one after the other."""
    batches = training.steady("micro_batches")
    working = training.steady("wall_ns") - training.steady("data_wait_ns")
    each = working / np.maximum(batches, 1) / 1e9
    repeated: Floats = np.repeat(each, batches)
    return repeated


def _waits(training: Training) -> Floats:
    batches = training.steady("micro_batches")
    asked = batches > 0
    waits: Floats = training.steady("data_wait_ns")[asked] / batches[asked] / 1e9
    return waits
