"""The course of a run: quantities over time, in few enough buckets to be drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from trainprof.profiler.model.diagnosis import Bucket, Series
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import GpuSample, Sample
from trainprof.rules.signals.training import Training
from trainprof.rules.statistics.intervals import Floats, unit_edges

MOST_BUCKETS = 500
"""Buckets of one series: a report draws no more columns (at most 2,000 may be given)."""

LEAST_PHASE_SHARE = 0.005
"""A phase that never reaches this share in any bucket is not worth a series."""


def build_series(training: Training) -> tuple[Series, ...]:
    """All series of a training; what was not measured has none."""
    return (*_of_steps(training), *_of_losses(training), *_of_memory(training), *_of_host(training))


def _of_steps(training: Training) -> Iterator[Series]:
    """Step time, throughput and the shares of the phases, over all steps, warm-up included."""
    columns = training.columns
    count = len(columns["index"])
    if not count:
        return
    edges = unit_edges(count, MOST_BUCKETS)
    t_s = _seconds(training, columns["start_ns"][edges])
    wall = columns["wall_ns"]
    yield _bucketed("step_s", "s", t_s, edges, wall / 1e9)
    wall_sums = np.add.reduceat(wall, edges).astype(np.float64)
    samples = np.add.reduceat(np.maximum(columns["samples"], 0), edges)
    if samples.any():
        yield _plain("samples_per_s", "samples/s", t_s, samples / wall_sums * 1e9)
    for phase in PHASES:
        if phase in training.unmeasured:
            continue
        shares = np.add.reduceat(columns[f"{phase}_ns"], edges) / wall_sums
        if shares.max() >= LEAST_PHASE_SHARE:
            yield _plain(f"{phase}_share", "share", t_s, shares)


def _of_losses(training: Training) -> Iterator[Series]:
    losses = training.losses
    losses = losses[np.isfinite(losses["value"])]
    index = training.columns["index"]
    if not len(losses) or not len(index):
        return
    positions = np.minimum(np.searchsorted(index, losses["step"]), len(index) - 1)
    edges = unit_edges(len(losses), MOST_BUCKETS)
    t_s = _seconds(training, training.columns["start_ns"][positions[edges]])
    yield _bucketed("loss", "", t_s, edges, losses["value"])


def _of_memory(training: Training) -> Iterator[Series]:
    memory = training.trainer.memory
    at_ns = np.fromiter((point.at_ns for point in memory), np.int64, len(memory))
    values = np.fromiter((point.rss_bytes for point in memory), np.float64, len(memory))
    yield from _sampled(training, "rss_bytes", "bytes", at_ns, values)


def _of_host(training: Training) -> Iterator[Series]:
    yield from _read(training, "cpu_busy_share", "share", lambda s: s.machine.cpu_busy_share)
    yield from _read(
        training,
        "memory_available_bytes",
        "bytes",
        lambda sample: sample.machine.memory_available_bytes,
    )
    gpus = {gpu.index for sample in training.run.samples for gpu in sample.gpus}
    for index in sorted(gpus):
        for attribute, unit in (("utilization_share", "share"), ("memory_used_bytes", "bytes")):
            name = f"gpu{index}.{attribute}"
            yield from _read(training, name, unit, _gpu_reader(index, attribute))


def _gpu_reader(index: int, attribute: str) -> Callable[[Sample], float | None]:
    def read(sample: Sample) -> float | None:
        gpu: GpuSample | None = next((one for one in sample.gpus if one.index == index), None)
        value: float | None = getattr(gpu, attribute, None)
        return value

    return read


def _read(
    training: Training, name: str, unit: str, read: Callable[[Sample], float | None]
) -> Iterator[Series]:
    seen = [
        (sample.at_ns, float(value))
        for sample in training.run.samples
        if (value := read(sample)) is not None
    ]
    at_ns = np.array([at for at, _ in seen], dtype=np.int64)
    yield from _sampled(training, name, unit, at_ns, np.array([value for _, value in seen]))


def _sampled(
    training: Training, name: str, unit: str, at_ns: NDArray[np.int64], values: Floats
) -> Iterator[Series]:
    """A series of readings; at least two, or there is no course."""
    if len(values) >= 2:
        edges = unit_edges(len(values), MOST_BUCKETS)
        yield _bucketed(name, unit, _seconds(training, at_ns[edges]), edges, values)


def _seconds(training: Training, at_ns: NDArray[np.int64]) -> Floats:
    """Times as seconds since the training process started."""
    seconds: Floats = (at_ns - training.trainer.info.started_ns) / 1e9
    return seconds


def _bucketed(
    name: str, unit: str, t_s: Floats, edges: NDArray[np.int64], values: Floats
) -> Series:
    lengths = np.diff(np.append(edges, len(values)))
    columns = (
        t_s,
        np.minimum.reduceat(values, edges),
        np.add.reduceat(values, edges) / lengths,
        np.maximum.reduceat(values, edges),
    )
    return Series(name, unit, tuple(map(Bucket, *(column.tolist() for column in columns))))


def _plain(name: str, unit: str, t_s: Floats, means: Floats) -> Series:
    """A series of ratios of sums, which have no smallest and largest value of single steps."""
    values = means.tolist()
    return Series(name, unit, tuple(map(Bucket, t_s.tolist(), values, values, values)))
