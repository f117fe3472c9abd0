"""The DataLoader that feeds the training: how it is set up, what a batch costs, who waits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trainprof.profiler.model.phases import PHASE_INDEX
from trainprof.profiler.model.records import EPOCH_BOUNDARY, Event
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.loader_workers import (
    MOST_READ,
    memory_readings,
    queued_per_cpu_s,
    steady_fetches,
    worker_failure,
)
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.steps import phase_states, read_steps
from trainprof.rules.signals.training import Training, evenly, location
from trainprof.rules.statistics.intervals import (
    Floats,
    Interval,
    mean_interval,
    ratio_intervals,
)

REPRESENTATIVE = 0.5
"""Mean wait of the steps with readings over the mean of all; below, they missed the long ones."""

TAIL_FROM_MEDIANS = 3.0
"""Of a batch's time; what is beyond belongs to the tail (as data-long-tail's gate)."""

LEAST_FOR_P99 = 50
"""Batches; of fewer the 99th percentile is the largest."""

SETTINGS = (
    Description("loader.num_workers", "count", "Worker processes of the training's loader."),
    Description("loader.batch_size", "count", "Samples in a batch, as the loader was told."),
    Description("loader.persistent_workers", "bool", "Workers live on between epochs."),
    Description("loader.prefetch_factor", "count", "Batches that each worker prepares ahead."),
    Description("loader.pin_memory", "bool", "Batches are copied to page-locked memory."),
    Description("loader.iterable", "bool", "The data set is an IterableDataset."),
    Description("loader.shuffle", "bool", "The order of samples is drawn at random."),
    Description("loader.drop_last", "bool", "An incomplete last batch is left out."),
    Description("loader.in_order", "bool", "Batches are delivered in the sampler's order."),
    Description("loader.multiprocessing_context", "text", "How workers are started."),
    Description("loader.sampler", "text", "Class of the sampler."),
    Description("loader.collate", "text", "Function that makes a batch of samples."),
    Description("loader.dataset_type", "text", "Class of the data set."),
    Description("loader.dataset_length", "count", "Samples in the data set."),
    Description(
        "loader.dataset_objects", "count", "Python objects in its large lists, sets and dicts."
    ),
    Description("loader.dataset_objects_bytes", "bytes", "Memory of them, from a sample."),
    Description("loader.batches", "count", "Batches of one epoch, as the loader says."),
    Description("loader.loaders_made", "count", "DataLoader objects made for this data set."),
    Description("loader.iterators_made", "count", "Iterators made: epochs begun."),
)
"""Signals that are keys of the fact "loader"."""

DESCRIPTIONS = (
    *SETTINGS,
    Description("loader.key", "text", 'The loader\'s key in the facts, "l0", "l1" ...'),
    Description("loader.where", "place", "Where the loader was made."),
    Description("loader.dataset_where", "place", "Where the data set's class is defined."),
    Description("loader.epochs", "count", "Epochs begun."),
    Description("loader.batches_per_epoch", "count", "Batches between two starts of an epoch."),
    Description("loader.wait_s", "s", "Mean wait of the loop for a batch."),
    Description(
        "loader.producer_wall_s",
        "s",
        "Wall time of a batch in one worker; without workers, the loop's wait for it.",
    ),
    Description("loader.producer_cpu_s", "s", "CPU time of the same."),
    Description(
        "loader.producer_queued_s",
        "s",
        "Time per batch in which its producer was ready but got no CPU.",
    ),
    Description("loader.producer_median_s", "s", "Wall time of the median batch in its producer."),
    Description("loader.producer_p99_s", "s", "Of 99 % of batches it was no longer than this."),
    Description(
        "loader.producer_tail_part",
        "share",
        "Part of the making of batches that is beyond three times the median batch.",
    ),
    Description("loader.consumer_s", "s", "Time of the loop per batch, without the wait for it."),
    Description(
        "loader.wait_cpu_s", "s", "CPU time of the training thread in one wait for a batch."
    ),
    Description(
        "loader.consumer_cpu_s",
        "s",
        "CPU time of the training process per batch, all threads, making the batch left out.",
    ),
    Description("loader.ready_mean", "count", "Batches ready when the loop asked."),
    Description("loader.starved_share", "share", "Asks that found no batch ready."),
    Description("loader.start_s", "s", "Mean time from iter() to the first batch of an epoch."),
    Description(
        "loader.start_share",
        "share",
        "Part of the window spent on starts of epochs, a usual wait for each batch left out.",
    ),
    Description("loader.worker_count_seen", "count", "Worker numbers that wrote records."),
    Description(
        "loader.worker_pss_bytes", "bytes", "Memory of all workers, shared pages counted in part."
    ),
    Description(
        "loader.worker_pss_growth_bytes_per_step",
        "bytes",
        "Growth of it between first and last reading, over the steps between.",
    ),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals loader.*."""
    sheet = Sheet(DESCRIPTIONS)
    loader = training.loader
    if loader.key is None:
        return sheet.finish("no DataLoader was iterated")
    sheet.put("loader.key", loader.key)
    for setting in SETTINGS:
        key = setting.name.partition(".")[2]
        sheet.put(setting.name, loader.fact.get(key), reason="the loader does not say")
    for key in ("where", "dataset_where"):
        place = location(loader.fact.get(key))
        sheet.put(f"loader.{key}", place, reason="it was not made in the user's own source")
    sheet.put("loader.epochs", loader.fact.get("iterators_made"), reason="it was not counted")
    if training.has_window and "data_wait" not in training.unmeasured:
        _consumer(training, sheet)
        _producer(training, sheet)
        _queue(training, sheet)
        _starts(training, sheet)
        _worker_memory(training, sheet)
    return sheet.finish("no steady step asked the loader")


def _consumer(training: Training, sheet: Sheet) -> None:
    """Waiting and working, per batch."""
    batches = training.sums("micro_batches")
    wait, wall = training.sums("data_wait_ns") / 1e9, training.sums("wall_ns") / 1e9
    count = int(batches.sum())
    waiting, working = ratio_intervals([wait, wall - wait], batches, training.block)
    sheet.put_interval("loader.wait_s", waiting, method="sum over the window", samples=count)
    sheet.put_interval("loader.consumer_s", working, method="sum over the window", samples=count)
    sheet.put(
        "loader.batches_per_epoch",
        _batches_per_epoch(training),
        reason="the run was over before an epoch was",
    )
    cpu_s = process_cpu_s_per_ns(training)
    method = "CPU time of the process, less that of the wait"
    making_s = _cpu_s_of_wait(training, waiting.mean)
    reason = "no step carried CPU readings of its phases"
    sheet.put("loader.wait_cpu_s", making_s, reason=reason)
    if cpu_s is None:
        reason = "the training process was sampled fewer than twice in the window"
        sheet.miss("loader.consumer_cpu_s", reason)
    else:
        per_batch = cpu_s * training.wall_s * 1e9 / count
        sheet.put(
            "loader.consumer_cpu_s",
            max(per_batch - (making_s or 0.0), 0.0),
            method=method,
            samples=count,
        )


def process_cpu_s_per_ns(training: Training) -> float | None:
    """CPU seconds of the training process over time, None with fewer than two samples of it."""
    start, end = training.span_ns
    pid = training.trainer.info.pid
    seen = [
        (sample.at_ns, process.cpu_total_s)
        for sample in training.run.samples
        if start <= sample.at_ns <= end
        for process in sample.processes
        if process.pid == pid
    ]
    if len(seen) < 2 or seen[-1][0] == seen[0][0]:
        return None
    return (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])


def _cpu_s_of_wait(training: Training, wait_s: float) -> float | None:
    """CPU time of the training thread in one wait: making the batch, where there are no workers.

    From the CPU times themselves, not as a part of the wall time: one preemption makes a wait ten
    times as long, and costs no CPU time. Where the steps with readings met hardly any of the long
    waits, what the thread used in all, less the other phases, tells more.
    """
    found = read_steps(training)
    at = np.array([position for _, position in found], dtype=np.int64)
    batches = int(training.steady("micro_batches")[at].sum()) if len(at) else 0
    if not batches:
        return None
    place = PHASE_INDEX["data_wait"]
    cpu_s = sum(state.cpu_ns[place] for state, _ in found) / batches / 1e9
    met_s = float(training.steady("data_wait_ns")[at].sum()) / batches / 1e9
    if met_s < REPRESENTATIVE * wait_s:
        others_ns = sum(sum(state.cpu_ns) - state.cpu_ns[place] for state, _ in found) / len(found)
        cpu_s = max(cpu_s, _cpu_s_beside(training, others_ns) or 0.0)
    return min(cpu_s, wait_s)


def _cpu_s_beside(training: Training, others_ns: float) -> float | None:
    """CPU time of the training thread per batch, less `others_ns` of each step."""
    cpu_ns = training.steady("cpu_ns")
    readings = np.flatnonzero(cpu_ns >= 0)
    if len(readings) < 2:
        return None
    first, last = int(readings[0]) + 1, int(readings[-1]) + 1
    batches = int(training.steady("micro_batches")[first:last].sum())
    used_ns = float(cpu_ns[readings[1:]].sum()) - others_ns * (last - first)
    return max(used_ns, 0.0) / batches / 1e9 if batches else None


def _batches_per_epoch(training: Training) -> float | None:
    batches = training.columns["micro_batches"]
    starts = np.flatnonzero(training.columns["flags"] & EPOCH_BOUNDARY)
    if len(starts) >= 2:
        total = int(batches[starts[0] : starts[-1]].sum())
        return total / (len(starts) - 1)
    made = training.loader.fact.get("batches")
    return float(made) if isinstance(made, int) else None


def _producer(training: Training, sheet: Sheet) -> None:
    names = (
        "loader.producer_wall_s",
        "loader.producer_cpu_s",
        "loader.producer_median_s",
        "loader.producer_p99_s",
        "loader.producer_tail_part",
        "loader.producer_queued_s",
        "loader.worker_count_seen",
    )
    if training.loader.workers == 0:
        _loop_as_producer(training, sheet)
        return
    fetches = steady_fetches(training)
    if not fetches:
        failed = worker_failure(training)
        for name in names:
            reason = failed or "no worker wrote down what it made"
            sheet.miss(name, reason, lost=failed is not None)
        return
    count = len(fetches)
    for name, times in (
        (names[0], [fetch.wall_ns for fetch in fetches]),
        (names[1], [fetch.cpu_ns for fetch in fetches]),
    ):
        interval = mean_interval(np.array(times, dtype=np.float64) / 1e9)
        sheet.put_interval(name, interval, method="timed in the workers", samples=count)
    _spread(np.array([fetch.wall_ns for fetch in fetches], dtype=np.float64) / 1e9, sheet)
    queued = queued_per_cpu_s(training)
    cpu_s = sheet.value("loader.producer_cpu_s")
    assert isinstance(cpu_s, float)
    sheet.put(
        "loader.producer_queued_s",
        None if queued is None else queued * cpu_s,
        method="the workers' queueing per CPU second",
        reason="no worker was sampled twice, or this system has no /proc/*/schedstat",
    )
    sheet.put("loader.worker_count_seen", len({fetch.worker for fetch in fetches}))


def _loop_as_producer(training: Training, sheet: Sheet) -> None:
    """Without workers the training thread makes each batch while the loop waits for it."""
    wait_s = sheet.value("loader.wait_s")
    assert isinstance(wait_s, float)
    method = "no workers: the loop's wait per batch"
    sheet.put("loader.producer_wall_s", wait_s, method=method)
    cpu_s = _cpu_s_of_wait(training, wait_s)
    reason = "no step carried CPU readings of its phases"
    sheet.put("loader.producer_cpu_s", cpu_s, reason=reason)
    state = phase_states(training).get("data_wait")
    queued = None if state is None else state[1]
    sheet.put(
        "loader.producer_queued_s", None if queued is None else queued * wait_s, reason=reason
    )
    batches = training.steady("micro_batches")
    asked = batches > 0
    _spread(training.steady("data_wait_ns")[asked] / batches[asked] / 1e9, sheet)
    sheet.put("loader.worker_count_seen", 0)


def _spread(seconds: Floats, sheet: Sheet) -> None:
    if not len(seconds):
        return
    median_s = float(np.median(seconds))
    sheet.put("loader.producer_median_s", median_s, samples=len(seconds))
    beyond_s = float(np.maximum(seconds - TAIL_FROM_MEDIANS * median_s, 0.0).sum())
    total_s = float(seconds.sum())
    part = beyond_s / total_s if total_s > 0 else None
    sheet.put("loader.producer_tail_part", part, samples=len(seconds), reason="it took no time")
    enough = len(seconds) >= LEAST_FOR_P99
    p99_s = float(np.quantile(seconds, 0.99)) if enough else None
    reason = f"fewer than {LEAST_FOR_P99} batches were timed"
    sheet.put("loader.producer_p99_s", p99_s, samples=len(seconds), reason=reason)


def _queue(training: Training, sheet: Sheet) -> None:
    names = ("loader.ready_mean", "loader.starved_share")
    if training.loader.workers == 0:
        for name in names:
            sheet.miss(name, "there are no workers: a batch is made when it is asked for")
        return
    queue = training.trainer.queue
    first = int(training.steady("index")[0])
    depths = [
        depth.ready
        for depth in (queue[place] for place in evenly(len(queue), MOST_READ))
        if depth.loader == training.loader.key and depth.step >= first and depth.ready is not None
    ]
    if not depths:
        for name in names:
            sheet.miss(name, "no ask of a steady step read the queue")
        return
    ready = np.array(depths, dtype=np.float64)
    method = "read at one ask in 16"
    sheet.put_interval(names[0], mean_interval(ready), method=method, samples=len(ready))
    starved = mean_interval((ready == 0).astype(np.float64))
    sheet.put_interval(names[1], starved, method=method, samples=len(ready))


def _starts(training: Training, sheet: Sheet) -> None:
    key = training.loader.key
    every = [e for e in training.events("loader_start") if e.data.get("loader") == key]
    start, end = training.span_ns
    inside = [event for event in every if start <= event.start_ns < end]
    if not every:
        for name in ("loader.start_s", "loader.start_share"):
            sheet.miss(name, "no start of an epoch was seen")
        return
    seconds = [event.duration_ns / 1e9 for event in inside or every]
    sheet.put("loader.start_s", sum(seconds) / len(seconds), samples=len(seconds))
    wait_share = training.phase_shares["data_wait"].mean
    interval = _start_share(training, inside)
    sheet.put(
        "loader.start_share",
        min(interval.mean, wait_share),
        method="starts inside the window over its time",
        samples=len(inside),
        low=None if interval.low is None else min(interval.low, wait_share),
        high=None if interval.high is None else min(interval.high, 1.0),
    )


def _worker_memory(training: Training, sheet: Sheet) -> None:
    """Proportional memory of the workers of one epoch: those that live at the last reading."""
    names = ("loader.worker_pss_bytes", "loader.worker_pss_growth_bytes_per_step")
    readings = memory_readings(training) if training.loader.workers else []
    if not readings:
        for name in names:
            sheet.miss(name, "no worker lived long enough for its memory to be read")
        return
    last_ns, last = readings[-1]
    sheet.put(names[0], sum(last.values()), samples=len(readings))
    alike = [(at_ns, sum(held.values())) for at_ns, held in readings if held.keys() == last.keys()]
    first_ns, first_bytes = alike[0]
    steps = training.position_of(last_ns) - training.position_of(first_ns)
    growth = (alike[-1][1] - first_bytes) / steps if len(alike) > 1 and steps > 0 else None
    sheet.put(names[1], growth, reason="it was read once only", samples=len(alike))


def _start_share(training: Training, starts: Sequence[Event]) -> Interval:
    """The part of the window that starts took beyond a usual wait, with an interval over epochs."""
    begin, end = training.span_ns
    usual_ns = _usual_wait_ns(training)
    extra = np.array([max(event.duration_ns - usual_ns, 0.0) for event in starts])
    if len(starts) < 2:
        return Interval(float(extra.sum()) / (end - begin), None, None)
    # An epoch reaches from its start to the next one; what came before the first start is added to
    # the last epoch, so that the parts are the whole.
    times = np.array([event.start_ns for event in starts], dtype=np.float64)
    lengths = np.diff(np.append(times, end))
    lengths[-1] += times[0] - begin
    return ratio_intervals([extra], lengths, 1)[0]


def _usual_wait_ns(training: Training) -> float:
    """The mean wait for a batch in steps that begin no epoch."""
    usual = (training.steady("flags") & EPOCH_BOUNDARY) == 0
    batches = int(training.steady("micro_batches")[usual].sum())
    return float(training.steady("data_wait_ns")[usual].sum()) / batches if batches else 0.0
