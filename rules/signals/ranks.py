"""The ranks that train together: how many, and whether one holds the others up."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.run import ProcessRecord
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

DESCRIPTIONS = (
    Description("distributed.world_size", "count", "Ranks that train together."),
    Description("distributed.ranks_seen", "count", "Ranks that wrote records."),
    Description("distributed.backend", "text", "Backend of the process group."),
    Description("distributed.ddp", "mapping", "How DistributedDataParallel was set up."),
    Description(
        "distributed.rank_spread_share", "share", "(slowest - fastest) / slowest mean step."
    ),
    Description(
        "distributed.own_spread_share",
        "share",
        "The same for the time outside communication: what one rank makes the others wait for.",
    ),
    Description("distributed.slowest_rank", "count", "The rank with the most time of its own."),
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
    sheet.put("distributed.backend", data.get("backend"), reason="there is no process group")
    sheet.put("distributed.ddp", data.get("ddp"), reason="no DistributedDataParallel was seen")
    timed = [(trainer, mean) for trainer in trainers if (mean := mean_step_ns(trainer)) is not None]
    if len(timed) < 2:
        return sheet.finish("there is only one rank to look at")
    walls = [mean for _, mean in timed]
    sheet.put("distributed.rank_spread_share", (max(walls) - min(walls)) / max(walls))
    own = [mean - (mean_step_ns(trainer, "comm_exposed_ns") or 0.0) for trainer, mean in timed]
    sheet.put("distributed.own_spread_share", (max(own) - min(own)) / max(walls))
    slowest = timed[own.index(max(own))][0]
    rank = slowest.info.rank
    sheet.put("distributed.slowest_rank", rank, reason="the ranks have no numbers")
    return sheet.finish("it was not measured")


def mean_step_ns(trainer: ProcessRecord, column: str = "wall_ns") -> float | None:
    """Mean of a column over a rank's steps; the first fifth, at most 100 steps, is left out."""
    if not len(trainer.steps):
        return None
    values = np.frombuffer(trainer.steps.columns[column], dtype=np.int64)
    return float(values[min(len(values) // 5, 100) :].mean())
