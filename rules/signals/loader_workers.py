"""The worker processes of the training's loader: which they are, what they made and held."""

from __future__ import annotations

from bisect import bisect_left

from trainprof.profiler.model.records import Fetch, ProcessSample
from trainprof.profiler.model.run import ProcessRecord
from trainprof.rules.signals.training import Training, evenly

MOST_READ = 4_000
"""Records of one kind that are looked at; a longer series is read at even distances."""


def loader_workers(training: Training) -> list[ProcessRecord]:
    """The processes that worked for the training's loader.

    A worker does not know its loader: it belongs to the iterator that was begun last before it.
    """
    key = training.loader.key
    starts = sorted(training.events("loader_start"), key=lambda event: event.start_ns)
    times = [event.start_ns for event in starts]
    workers = []
    for worker in training.session.workers:
        place = bisect_left(times, worker.info.started_ns) - 1
        if place < 0 or starts[place].data.get("loader") == key:
            workers.append(worker)
    return workers


def steady_fetches(training: Training) -> list[Fetch]:
    """Batches that the workers began inside the window; of long series some at even distances."""
    return [fetch for worker in loader_workers(training) for fetch in _of_one(training, worker)]


def _of_one(training: Training, worker: ProcessRecord) -> list[Fetch]:
    fetches = worker.fetches
    start, end = training.span_ns
    first = bisect_left(fetches, start, key=lambda fetch: fetch.start_ns)
    stop = bisect_left(fetches, end, key=lambda fetch: fetch.start_ns)
    if first == stop:
        return []
    share = max(MOST_READ // max(len(training.session.workers), 1), 50)
    return [fetches[first + place] for place in evenly(stop - first, share)]


def worker_failure(training: Training) -> str | None:
    """Why a worker could not time its batches, of the first that says so."""
    for worker in training.session.workers:
        for event in worker.events:
            if event.kind == "collector_failed":
                return f"timing in the workers failed ({event.data.get('error')})"
    return None


def queued_per_cpu_s(training: Training) -> float | None:
    """Seconds that the workers queued for a CPU, per second that they had one."""
    pids = {worker.info.pid for worker in loader_workers(training)}
    start, end = training.span_ns
    first: dict[int, ProcessSample] = {}
    last: dict[int, ProcessSample] = {}
    for sample in training.run.samples:
        if not start <= sample.at_ns <= end:
            continue
        for process in sample.processes:
            if process.pid in pids and process.run_delay_total_ns is not None:
                first.setdefault(process.pid, process)
                last[process.pid] = process
    cpu_s = sum(last[pid].cpu_total_s - first[pid].cpu_total_s for pid in first)
    queued_ns = sum(
        (last[pid].run_delay_total_ns or 0) - (first[pid].run_delay_total_ns or 0) for pid in first
    )
    return queued_ns / 1e9 / cpu_s if cpu_s > 0 else None


def memory_readings(training: Training) -> list[tuple[int, dict[int, int]]]:
    """When the workers' memory was read, in ns, and the bytes by process that they held then."""
    pids = {worker.info.pid for worker in loader_workers(training)}
    readings = []
    for sample in training.run.samples:
        held = {p.pid: p.pss_bytes for p in sample.processes if p.pid in pids and p.pss_bytes}
        if held:
            readings.append((sample.at_ns, held))
    return readings
