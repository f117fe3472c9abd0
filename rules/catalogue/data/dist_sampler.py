"""data-dist-sampler."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import Evidence, FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    has_several_ranks,
    needed,
    number,
    observed,
    percent,
    place,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule


class DistSampler(Rule):
    """All ranks train on the same samples, or in the same order in each epoch.

    ## What it finds
    A training on several ranks whose loader does not give each rank its own part of the data, and a
    `DistributedSampler` whose `set_epoch()` is never called.

    ## Why it costs time
    Ranks that read the same batches compute the same gradients, and their average is what one rank
    would have found alone: n machines do the work of one. Ranks that each go through the whole data
    set in their own order need n times the time for an epoch. Without `set_epoch()` the sampler
    shuffles alike each time, which teaches less.

    ## Evidence needed
    - Two ranks or more.
    - A few elements of each row of the first batch are compared between ranks: at least half of the
      rows are the same (critical: the gain is up to the number of ranks per epoch). Or
    - the samplers are torch's own, give no parts, and the data sets of all ranks have one length (a
      note: each rank may hold its own part). Or
    - `set_epoch()` has not been called with anything but 0 over two epochs (a note).

    ## Fix
    `sampler = DistributedSampler(dataset)`, `DataLoader(dataset, sampler=sampler)` without
    `shuffle`, and `sampler.set_epoch(epoch)` at the beginning of each epoch.

    ## Fix safety
    Semantics, and meant to be: each step sees n times as many different samples. The learning rate
    may want to grow with it.

    ## When it is wrong
    Ranks that hold parts of their own (files by rank) need no sampler: their rows differ, and all
    they get is a note. Parallelism inside the model (tensor or pipeline) wants the same batches on
    several ranks; the rule does not know of it.

    ## References
    - torch.utils.data.distributed.DistributedSampler:
      https://docs.pytorch.org/docs/stable/data.html#torch.utils.data.distributed.DistributedSampler
    - Distributed data parallel tutorial:
      https://docs.pytorch.org/tutorials/beginner/ddp_series_multigpu.html
    """

    id = "data-dist-sampler"
    title = "Ranks train on the same samples"
    needs = ("distributed.world_size", "distributed.ranks_seen")
    fires_on = (
        Case(
            "the same seed, and no sampler: the same batches",
            {
                "distributed.world_size": 2,
                "distributed.ranks_seen": 2,
                "distributed.same_rows_share": 1.0,
                "distributed.sharded": False,
                "distributed.same_length": True,
                "loader.sampler": "torch.utils.data.sampler.RandomSampler",
                "loader.where": {"file": "train.py", "line": 24},
            },
            severity="critical",
            gain=(1.2, 2.0),
        ),
        Case(
            "other seeds: each rank goes through all of it, unless it holds a part",
            {
                "distributed.world_size": 4,
                "distributed.ranks_seen": 4,
                "distributed.same_rows_share": 0.0,
                "distributed.sharded": False,
                "distributed.same_length": True,
            },
            severity="info",
        ),
        Case(
            "set_epoch() is missing",
            {
                "distributed.world_size": 2,
                "distributed.ranks_seen": 2,
                "distributed.same_rows_share": 0.0,
                "distributed.sharded": True,
                "distributed.sampler_epoch": 0,
                "loader.shuffle": True,
                "loader.epochs": 3,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "a DistributedSampler, and set_epoch()",
            {
                "distributed.world_size": 2,
                "distributed.ranks_seen": 2,
                "distributed.same_rows_share": 0.0,
                "distributed.sharded": True,
                "distributed.sampler_epoch": 2,
                "loader.shuffle": True,
                "loader.epochs": 3,
            },
        ),
        Case(
            "one rank",
            {
                "distributed.world_size": 1,
                "distributed.ranks_seen": 1,
                "distributed.sharded": False,
                "distributed.same_length": True,
            },
        ),
        Case(
            "a sampler of the user's, other rows on each rank",
            {
                "distributed.world_size": 2,
                "distributed.ranks_seen": 2,
                "distributed.same_rows_share": 0.05,
                "distributed.same_length": True,
            },
        ),
        Case(
            "parts of different lengths",
            {
                "distributed.world_size": 2,
                "distributed.ranks_seen": 2,
                "distributed.sharded": False,
                "distributed.same_length": False,
            },
        ),
        Case(
            "one epoch needs no set_epoch(), nor does a sampler that does not shuffle",
            {
                "distributed.world_size": 2,
                "distributed.ranks_seen": 2,
                "distributed.sharded": True,
                "distributed.sampler_epoch": 0,
                "loader.shuffle": True,
                "loader.epochs": 1,
            },
        ),
    )

    min_same_rows_share = 0.5
    """Rows of the first batch that two ranks have in common (a starting value)."""
    min_epochs = 2
    """From the second on the order should be another one."""
    epoch_speedup_low = 1.0
    """Lower end of the gain: samples seen twice do teach a little."""

    def applies(self, signals: Signals) -> bool:
        """More than one rank trains."""
        return has_several_ranks(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """From the strongest evidence to the weakest."""
        world = needed(signals, "distributed.world_size")
        if world < 2 or needed(signals, "distributed.ranks_seen") < 2:
            return
        same = number(signals, "distributed.same_rows_share")
        sharded = signals.get("distributed.sharded").value
        if same is not None and same >= self.min_same_rows_share:
            yield self._same_rows(signals, world, same)
        elif sharded is False and signals.get("distributed.same_length").value is True:
            yield self._note(
                signals,
                f"Each of {world:.0f} ranks draws from a data set of the same length without a "
                "sampler that gives it a part.",
                "Add a DistributedSampler, unless each rank holds its own part of the data.",
            )
        elif (
            sharded is True
            and number(signals, "distributed.sampler_epoch") == 0
            and signals.get("loader.shuffle").value is True
            and (number(signals, "loader.epochs") or 0) >= self.min_epochs
        ):
            yield self._note(
                signals,
                "set_epoch() is not called, so that each epoch has the same order.",
                "Call sampler.set_epoch(epoch) at the beginning of each epoch.",
            )

    def _same_rows(self, signals: Signals, world: float, same: float) -> Candidate:
        sampler = (text(signals, "loader.sampler") or "its sampler").rpartition(".")[2]
        return Candidate(
            summary=f"{percent(same)} of a rank's first batch are rows that another rank had as "
            f"well ({sampler}): {world:.0f} ranks do the work of one.",
            evidence=self._evidence(signals),
            share=1.0 - 1.0 / world,
            gain=Gain(self.epoch_speedup_low, min(world, 100.0)),
            where=place(signals, "loader.where"),
            fixes=(self._advice("Add a DistributedSampler, and call set_epoch() in each epoch."),),
            confidence="high",
            severity="critical",
            timeless=True,
        )

    def _note(self, signals: Signals, summary: str, advice: str) -> Candidate:
        return Candidate(
            summary=summary,
            evidence=self._evidence(signals),
            where=place(signals, "loader.where"),
            fixes=(self._advice(advice),),
            confidence="low",
            severity="info",
            timeless=True,
        )

    def _evidence(self, signals: Signals) -> tuple[Evidence, ...]:
        return (
            *observed(signals, "distributed.same_rows_share", self.min_same_rows_share),
            *observed(signals, "distributed.world_size"),
            *observed(signals, "distributed.sharded"),
            *observed(signals, "distributed.same_length"),
            *observed(signals, "distributed.sampler_epoch"),
            *observed(signals, "loader.sampler"),
        )

    @staticmethod
    def _advice(advice: str) -> FixAdvice:
        return FixAdvice(
            fix="distributed-sampler",
            params={},
            safety="semantics",
            text=advice,
            code="DataLoader(dataset, sampler=DistributedSampler(dataset))",
        )
