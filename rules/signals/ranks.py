"""The ranks that train together: how many, and whether one holds the others up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.run import ProcessRecord
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training
from trainprof.rules.statistics.intervals import Floats, ratio_intervals, unit_edges, unit_sums

LEAST_COMMON_STEPS = 20
"""Steps that all ranks have, for a comparison step by step."""

SHARED_ROWS = 4
"""Rows of a rank's first batch that have to be readable for a comparison."""

DISTINCT = 0.9
"""Part of them that has to differ: rows that are all alike tell nothing."""

DESCRIPTIONS = (
    Description("distributed.world_size", "count", "Ranks that train together."),
    Description("distributed.ranks_seen", "count", "Ranks that wrote records."),
    Description("distributed.host_count", "count", "Machines that these ranks run on."),
    Description("distributed.backend", "text", "Backend of the process group."),
    Description("distributed.ddp", "mapping", "How DistributedDataParallel was set up."),
    Description(
        "distributed.synced_share", "share", "Backwards after which DDP averaged the gradients."
    ),
    Description("distributed.bucket_count", "count", "Buckets in which DDP averages gradients."),
    Description("distributed.gradient_bytes", "bytes", "Gradients that it averages."),
    Description(
        "distributed.same_rows_share",
        "share",
        "Part of the first batch's rows that another rank had in its first batch as well.",
    ),
    Description(
        "distributed.same_length", "bool", "The data sets of all ranks hold as many samples."
    ),
    Description("distributed.sharded", "bool", "The sampler gives each rank a part."),
    Description("distributed.sampler_epoch", "count", "What set_epoch() said last."),
    Description(
        "distributed.rank_spread_share", "share", "(slowest - fastest) / slowest mean step."
    ),
    Description(
        "distributed.own_spread_share",
        "share",
        "The same for the time outside communication: what one rank makes the others wait for.",
    ),
    Description("distributed.slowest_rank", "count", "The rank with the most time of its own."),
    Description(
        "distributed.imbalance_share",
        "share",
        "Step by step: time of the latest rank outside communication, less the mean of all ranks.",
    ),
    Description(
        "distributed.straggler_share",
        "share",
        "The same for the rank with the most time of its own over all steps.",
    ),
    Description(
        "distributed.straggler_steps_share", "share", "Steps in which that rank was the latest."
    ),
    Description(
        "distributed.straggler_phase", "text", "The phase that rank is longer in than the others."
    ),
    Description(
        "distributed.straggler_phase_share", "share", "Part of its lateness in that phase."
    ),
    Description(
        "distributed.transfer_share",
        "share",
        "Part of the step in exposed communication on the rank that waits the least.",
    ),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals distributed.*."""
    sheet = Sheet(DESCRIPTIONS)
    trainers = training.session.trainers
    fact = training.trainer.latest_facts("distributed").get("group")
    data = fact.data if fact is not None else {}
    world = data.get("world_size") or training.trainer.info.world_size or len(trainers)
    sheet.put("distributed.world_size", int(world))
    sheet.put("distributed.ranks_seen", len(trainers))
    sheet.put("distributed.host_count", len({trainer.info.host for trainer in trainers}))
    sheet.put("distributed.backend", data.get("backend"), reason="there is no process group")
    _ddp(data, sheet)
    sampler = training.loader.fact
    sheet.put("distributed.sharded", sampler.get("sharded"), reason="a class of the user's decides")
    epoch = sampler.get("sampler_epoch")
    sheet.put("distributed.sampler_epoch", epoch, reason="the sampler has no set_epoch()")
    timed = [(trainer, mean) for trainer in trainers if (mean := mean_step_ns(trainer)) is not None]
    if len(timed) < 2:
        return sheet.finish("there is only one rank to look at")
    _data_sets(trainers, sheet)
    walls = [mean for _, mean in timed]
    sheet.put("distributed.rank_spread_share", (max(walls) - min(walls)) / max(walls))
    own = [mean - (mean_step_ns(trainer, "comm_exposed_ns") or 0.0) for trainer, mean in timed]
    sheet.put("distributed.own_spread_share", (max(own) - min(own)) / max(walls))
    slowest = timed[own.index(max(own))][0]
    rank = slowest.info.rank
    sheet.put("distributed.slowest_rank", rank, reason="the ranks have no numbers")
    if training.has_window and "comm_exposed" not in training.unmeasured:
        _step_by_step(training, [trainer for trainer, _ in timed], sheet)
    return sheet.finish("the ranks have too few steps in common")


def _ddp(data: Mapping[str, Any], sheet: Sheet) -> None:
    ddp = data.get("ddp")
    none = "no DistributedDataParallel was seen"
    sheet.put("distributed.ddp", ddp, reason=none)
    backwards = int(data.get("backwards") or 0)
    synced = int(data.get("synced_backwards") or 0)
    sheet.put("distributed.synced_share", synced / backwards if backwards else None, reason=none)
    ddp = ddp or {}
    sizes = str(ddp.get("logging_rebuilt_bucket_sizes") or ddp.get("logging_bucket_sizes") or "")
    buckets = len([one for one in sizes.replace(",", " ").split() if one.isdigit()])
    sheet.put("distributed.bucket_count", buckets or None, reason=none)
    gradient_bytes = ddp.get("logging_total_parameter_size_bytes")
    sheet.put("distributed.gradient_bytes", gradient_bytes, reason=none)


def _data_sets(trainers: Sequence[ProcessRecord], sheet: Sheet) -> None:
    """Whether ranks read data sets of one length, and began with the same rows."""
    loaders = [_training_loader(trainer) for trainer in trainers]
    lengths = [fact.get("dataset_length") for _, fact in loaders]
    known = None not in lengths
    sheet.put("distributed.same_length", len(set(lengths)) == 1 if known else None)
    batches = [
        trainer.latest_facts("batch").get(key)
        for trainer, (key, _) in zip(trainers, loaders, strict=True)
    ]
    listed = [list(batch.data.get("rows") or ()) if batch is not None else [] for batch in batches]
    rows = [set(one) for one in listed]
    readable = all(
        len(one) >= SHARED_ROWS and len(distinct) >= DISTINCT * len(one)
        for one, distinct in zip(listed, rows, strict=True)
    )
    first, *others = rows
    shares = [len(first & other) / min(len(first), len(other)) for other in others if readable]
    reason = "the rows of the first batches could not be compared"
    sheet.put("distributed.same_rows_share", max(shares, default=None), reason=reason)


def _training_loader(trainer: ProcessRecord) -> tuple[str, Mapping[str, Any]]:
    facts = trainer.latest_facts("loader")
    training = [(key, f.data) for key, f in facts.items() if f.data.get("role") == "training"]
    return training[0] if training else ("", {})


def _step_by_step(training: Training, trainers: Sequence[ProcessRecord], sheet: Sheet) -> None:
    """Joins the ranks by the number of the step: in each, all wait for the one that is latest."""
    first, stop = training.window.first, training.window.stop
    stop = min([stop, *(len(trainer.steps) for trainer in trainers)])
    if stop - first < LEAST_COMMON_STEPS:
        return

    def column(name: str) -> Floats:
        columns = [np.frombuffer(t.steps.columns[name], dtype=np.int64) for t in trainers]
        return np.array([one[first:stop] for one in columns], dtype=np.float64)

    wall, communication = column("wall_ns"), column("comm_exposed_ns")
    own = wall - communication
    late = int(own.sum(axis=1).argmax())
    edges = unit_edges(stop - first)
    numerators = [
        own.max(axis=0) - own.mean(axis=0),
        own[late] - own.mean(axis=0),
        communication.min(axis=0),
    ]
    shares = ratio_intervals(
        [unit_sums(one, edges) for one in numerators],
        unit_sums(wall.mean(axis=0), edges),
        training.block,
    )
    names = ("imbalance_share", "straggler_share", "transfer_share")
    steps = stop - first
    for name, share in zip(names, shares, strict=True):
        sheet.put_interval(f"distributed.{name}", share, method="step by step", samples=steps)
    latest = float((own.argmax(axis=0) == late).mean())
    sheet.put("distributed.straggler_steps_share", latest, samples=steps)
    excess = {
        phase: float((values[late] - np.delete(values, late, axis=0).mean(axis=0)).sum())
        for phase in PHASES
        if phase != "comm_exposed" and (values := column(f"{phase}_ns")).any()
    }
    total = float((own[late] - np.delete(own, late, axis=0).mean(axis=0)).sum())
    if excess and total > 0:
        phase = max(excess, key=lambda one: excess[one])
        sheet.put("distributed.straggler_phase", phase)
        sheet.put("distributed.straggler_phase_share", min(excess[phase] / total, 1.0))


def mean_step_ns(trainer: ProcessRecord, column: str = "wall_ns") -> float | None:
    """Mean of a column over a rank's steps; the first fifth, at most 100 steps, is left out."""
    if not len(trainer.steps):
        return None
    values = np.frombuffer(trainer.steps.columns[column], dtype=np.int64)
    return float(values[min(len(values) // 5, 100) :].mean())
