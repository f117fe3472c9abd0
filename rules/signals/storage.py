"""The storage that the loader reads: what lies on it, how much is read, who waits for a disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainprof.profiler.model.records import ProcessSample
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.loader_workers import loader_workers
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

LEAST_READ_BYTES = 1 << 20
"""Less than this in the whole window is no reading of data: a share of it means nothing."""

DISK_SLEEP = "disk-sleep"
"""psutil's word for the state D: uninterruptible, as a rule waiting for a disk."""

DESCRIPTIONS = (
    Description("storage.path", "text", "A path that the data set holds."),
    Description("storage.file_system", "text", "Kind of the file system that it lies on."),
    Description(
        "storage.asked_bytes_per_batch", "bytes", "Bytes that its producers read, per batch."
    ),
    Description("storage.disk_bytes_per_batch", "bytes", "Bytes of these that came from a disk."),
    Description("storage.disk_bytes_per_s", "bytes/s", "The same, per second."),
    Description(
        "storage.miss_share",
        "share",
        "Part of the bytes read that came from a disk, not from memory (page cache).",
    ),
    Description(
        "storage.reread_miss_share", "share", "The same from the second epoch on: read once before."
    ),
    Description(
        "storage.disk_wait_share", "share", "Looks at a producer that found it waiting for a disk."
    ),
    Description(
        "storage.major_faults_per_batch", "count", "Pages of mapped files fetched from a disk."
    ),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals storage.*."""
    sheet = Sheet(DESCRIPTIONS)
    paths = training.loader.fact.get("dataset_paths")
    path, kind = next(iter(paths.items()), (None, None)) if isinstance(paths, dict) else (None,) * 2
    reason = "the data set holds no path, as far as its attributes show"
    sheet.put("storage.path", path, reason=reason)
    sheet.put("storage.file_system", kind, reason=reason)
    if not training.has_window or "data_wait" in training.unmeasured:
        return sheet.finish("no steady step asked the loader")
    window = _traffic(training, *training.span_ns)
    if window is None:
        return sheet.finish("the loader's processes were sampled fewer than twice, or show no IO")
    batches = max(int(training.steady("micro_batches").sum()), 1)
    sheet.put("storage.asked_bytes_per_batch", window.asked_bytes / batches)
    sheet.put("storage.disk_bytes_per_batch", window.disk_bytes / batches)
    sheet.put("storage.disk_bytes_per_s", window.disk_bytes / window.seconds)
    sheet.put("storage.miss_share", window.miss_share, reason="hardly anything was read")
    sheet.put("storage.disk_wait_share", window.disk_wait_share, samples=window.looks)
    sheet.put("storage.major_faults_per_batch", window.major_faults / batches)
    _rereading(training, sheet)
    return sheet.finish("it was not measured")


def _rereading(training: Training, sheet: Sheet) -> None:
    starts = sorted(
        event.start_ns
        for event in training.events("loader_start")
        if event.data.get("loader") == training.loader.key
    )
    if len(starts) < 2:
        sheet.miss("storage.reread_miss_share", "there was one epoch only")
        return
    again = _traffic(training, starts[1], training.span_ns[1])
    few = "hardly anything was read, or sampled, after the first epoch"
    sheet.put("storage.reread_miss_share", again.miss_share if again else None, reason=few)


@dataclass(frozen=True, slots=True)
class _Traffic:
    """What the producers of batches did over a time."""

    seconds: float
    asked_bytes: int
    disk_bytes: int
    major_faults: int
    looks: int
    disk_wait_share: float

    @property
    def miss_share(self) -> float | None:
        """Mapped files are read without a call: then the disk's bytes are all that is known."""
        asked = max(self.asked_bytes, self.disk_bytes)
        return self.disk_bytes / asked if asked >= LEAST_READ_BYTES else None


def _traffic(training: Training, start_ns: int, end_ns: int) -> _Traffic | None:
    """Growth of the counters of workers, or without any of the training process."""
    workers = loader_workers(training) if training.loader.workers else [training.trainer]
    pids = {worker.info.pid for worker in workers}
    seen: dict[int, list[ProcessSample]] = {}
    times = []
    for sample in training.run.samples:
        if start_ns <= sample.at_ns <= end_ns:
            times.append(sample.at_ns)
            for process in sample.processes:
                if process.pid in pids:
                    seen.setdefault(process.pid, []).append(process)
    looks = [one for series in seen.values() for one in series]
    counted = [series for series in seen.values() if series[0].read_total_bytes is not None]
    if len(times) < 2 or not counted:
        return None
    return _Traffic(
        seconds=(times[-1] - times[0]) / 1e9,
        asked_bytes=_grown(counted, "read_calls_total_bytes"),
        disk_bytes=_grown(counted, "read_total_bytes"),
        major_faults=_grown(counted, "major_faults_total"),
        looks=len(looks),
        disk_wait_share=sum(one.status == DISK_SLEEP for one in looks) / len(looks),
    )


def _grown(series: Sequence[Sequence[ProcessSample]], counter: str) -> int:
    return sum((getattr(one[-1], counter) or 0) - (getattr(one[0], counter) or 0) for one in series)
