"""dist-shard-needed."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import Evidence, FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, percent, text, trains_on_cpu
from trainprof.rules.rule import Candidate, Case, Rule

_FULL = {
    "headroom.peak_share": 0.97,
    "headroom.gradients_and_state_share": 0.48,
    "distributed.world_size": 4,
    "model.wrapper": "DistributedDataParallel",
    "model.devices": {"cuda:0": 1_000_000},
}


class ShardNeeded(Rule):
    """Each rank keeps all gradients and all of the optimizer's state in a GPU that is full.

    ## What it finds
    Replicas in `DistributedDataParallel` whose GPU memory is nearly used up, a third of it by
    gradients and optimizer state that every rank holds a copy of.

    ## Why it costs time
    A batch that does not fit is cut, and small batches leave the GPU idle; a little more ends the
    training. Of n ranks each needs an n-th of gradients and state only, where these are sharded.

    ## Evidence needed
    - Two ranks or more, replicated by DistributedDataParallel, with parameters on GPUs.
    - A peak of 95 % of the GPU's memory, and 30 % of it in gradients and state.

    What the room is used for decides what it gives, so no gain is predicted, and it is a note.
    confirmed on: synthetic records only.

    ## Fix
    `ZeroRedundancyOptimizer` shards the state; FSDP (`fully_shard`, at first with
    `reshard_after_forward=False`, which exchanges least) gradients and parameters too.

    ## Fix safety
    Numerics: sums over ranks are taken in another order.

    ## When it is wrong
    Torch's allocator keeps what it once had: with a fragmented pool the peak is no need. Where
    batch and step are as large as they should be, memory in use costs nothing.

    ## References
    - Rajbhandari et al., ZeRO: https://arxiv.org/abs/1910.02054
    - PyTorch, FSDP: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
    """

    id = "dist-shard-needed"
    title = "Replicated state fills the GPUs"
    needs = (
        "headroom.peak_share",
        "headroom.gradients_and_state_share",
        "distributed.world_size",
        "model.wrapper",
    )
    can_warn = False
    fires_on = (Case("four replicas of a model that just fits", _FULL, severity="info"),)
    silent_on = (
        Case("room is left", {**_FULL, "headroom.peak_share": 0.8}),
        Case("activations take it", {**_FULL, "headroom.gradients_and_state_share": 0.1}),
        Case("one rank", {**_FULL, "distributed.world_size": 1}),
        Case("sharded already", {**_FULL, "model.wrapper": "FSDPModule"}),
        Case("ranks on CPUs", {**_FULL, "model.devices": {"cpu": 1_000_000}}),
    )

    min_peak, min_replicated = 0.95, 0.30
    """Parts of the GPU's memory (starting values)."""

    def applies(self, signals: Signals) -> bool:
        """Several ranks train."""
        return (number(signals, "distributed.world_size") or 1) > 1

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """What sharding would free, where memory is short."""
        ranks = needed(signals, "distributed.world_size")
        peak = needed(signals, "headroom.peak_share")
        held = needed(signals, "headroom.gradients_and_state_share")
        replicated = "DistributedDataParallel" in (text(signals, "model.wrapper") or "")
        if ranks < 2 or not replicated or trains_on_cpu(signals):
            return
        if peak < self.min_peak or held < self.min_replicated:
            return
        freed = held * (1.0 - 1.0 / ranks)
        yield Candidate(
            summary=f"{percent(peak)} of the GPU's memory is in use, {percent(held)} by gradients "
            f"and optimizer state that all {ranks:.0f} ranks keep; sharded, they would take "
            f"{percent(held - freed)}.",
            evidence=(
                *observed(signals, "headroom.peak_share", self.min_peak),
                *observed(signals, "headroom.gradients_and_state_share", self.min_replicated),
                *observed(signals, "distributed.world_size"),
                Evidence("memory that sharding frees", freed, "share"),
            ),
            fixes=(
                FixAdvice(
                    fix="shard-state",
                    params={},
                    safety="numerics",
                    text="Shard the optimizer's state over the ranks, or all of it with FSDP.",
                    code="ZeroRedundancyOptimizer(model.parameters(), optimizer_class=AdamW, …)",
                ),
            ),
            severity="info",
            timeless=True,
        )
