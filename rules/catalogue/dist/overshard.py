"""dist-overshard."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import Evidence, FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, size, text
from trainprof.rules.rule import Candidate, Case, Rule

_FULL = {
    "sharding.gathers": 320,
    "sharding.gathers_per_reduction": 2.0,
    "sharding.again_share": 0.5,
    "sharding.exposed_share": 0.24,
    "sharding.bytes_per_step": 8e9,
    "collectives.waited_share": 0.02,
    "device_memory.total_bytes": 80_000_000_000,
    "device_memory.most_reserved_bytes": 40_000_000_000,
    "timeline.window": "5 whole steps",
}


class Overshard(Rule):
    """FSDP gathers parameters twice a step, though the device has room to keep them.

    ## What it finds
    In a trace: `fully_shard` or `FullyShardedDataParallel` that gives parameters back after the
    forward and gathers them again for the backward, on a device that waits for it and has memory
    to spare.

    ## Why it costs time
    Sharded parameters are gathered before each use. Those that are kept from the forward to the
    backward are gathered once a step in place of twice. Gradients and optimizer state stay sharded
    either way.

    ## Evidence needed
    - FSDP by torch's own names for what it does; all-gathers and reduce-scatters launched inside of
      these. Others may be tensor parallelism.
    - At least 1.5 all-gathers for each reduce-scatter, and a third of them for the backward.
    - In at least 10 % of the window parameters are gathered and nothing is computed. What other
      ranks were waited for is taken off, where their traces are given; one trace alone does not
      tell it: the finding has low confidence and is never critical.
    - The device has more memory free than one step gathers: what it has (`deviceProperties`) less
      the most that the allocator reserved (`profile_memory=True`). Parameters that are gathered
      twice are counted twice, so that room is left.

    The expected gain: the part of the exposed all-gathers that is for the backward (half of them,
    mostly) above; below, half of that.

    ## Fix
    `fully_shard(..., reshard_after_forward=False)`; `ShardingStrategy.SHARD_GRAD_OP` of the class.
    Over several machines, `HYBRID_SHARD` or a mesh of two dimensions gathers within each of them.

    ## Fix safety
    Safe for results. It takes memory: all parameters are whole from the forward to the backward.

    ## When it is wrong
    A trace of short inputs, where others of the training need the memory. Memory that NCCL and
    other processes hold is not the allocator's, and counts as free.

    ## References
    - fully_shard, `reshard_after_forward`:
      https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
    - FullyShardedDataParallel, `ShardingStrategy`: https://docs.pytorch.org/docs/stable/fsdp.html
    - Zhao et al., PyTorch FSDP: https://arxiv.org/abs/2304.11277
    """

    id = "dist-overshard"
    title = "Parameters are gathered again for the backward"
    needs = (
        "sharding.gathers_per_reduction",
        "sharding.again_share",
        "sharding.exposed_share",
        "sharding.bytes_per_step",
        "device_memory.total_bytes",
        "device_memory.most_reserved_bytes",
        "timeline.window",
    )
    suppresses = ("dist-comm-unhidden",)
    fires_on = (
        Case("half of the memory is free", _FULL, severity="critical", gain=(1.05, 1.15)),
        Case(
            "one trace alone",
            {**{name: one for name, one in _FULL.items() if name != "collectives.waited_share"}},
            severity="warn",
            gain=(1.05, 1.15),
        ),
    )
    silent_on = (
        Case(
            "parameters are kept until the backward",
            {**_FULL, "sharding.gathers_per_reduction": 1.0, "sharding.again_share": 0.0},
        ),
        Case(
            "four micro-batches under set_requires_gradient_sync(False), parameters kept",
            {**_FULL, "sharding.gathers_per_reduction": 4.0, "sharding.again_share": 0.0},
        ),
        Case("computation hides the all-gathers", {**_FULL, "sharding.exposed_share": 0.04}),
        Case("a late rank is waited for", {**_FULL, "collectives.waited_share": 0.2}),
        Case(
            "no memory is left",
            {**_FULL, "device_memory.most_reserved_bytes": 76_000_000_000},
        ),
    )

    min_ratio = 1.5
    """All-gathers by reduce-scatters: 2 where all is gathered twice (a starting value)."""
    min_again = 1 / 3
    """Of the all-gathers: as many of 1.5 are beyond the first (a starting value)."""
    min_share = 0.10
    """Of the window."""
    least_removable = 0.5
    """Of those for the backward, for the lower end of the gain (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """The trace holds all-gathers of FSDP."""
        return number(signals, "sharding.gathers") is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Counts what is gathered, and looks whether it fits."""
        ratio = needed(signals, "sharding.gathers_per_reduction")
        again = needed(signals, "sharding.again_share")
        gathered = needed(signals, "sharding.bytes_per_step")
        free = needed(signals, "device_memory.total_bytes") - needed(
            signals, "device_memory.most_reserved_bytes"
        )
        waited = number(signals, "collectives.waited_share")
        exposed = max(needed(signals, "sharding.exposed_share") - (waited or 0.0), 0.0)
        if ratio < self.min_ratio or again < self.min_again:
            return
        if exposed < self.min_share or free <= gathered:
            return
        removable = exposed * again
        unknown = "; waiting for other ranks is in it" if waited is None else ""
        yield Candidate(
            summary=(
                f"In {percent(exposed)} of {text(signals, 'timeline.window')} the device only "
                f"gathered parameters, {percent(again)} of them again for the backward, though "
                f"{size(free)} of its memory are free and a step gathers {size(gathered)}{unknown}."
            ),
            evidence=(
                *observed(signals, "sharding.exposed_share", self.min_share),
                *observed(signals, "sharding.gathers_per_reduction", self.min_ratio),
                *observed(signals, "sharding.again_share", self.min_again),
                *observed(signals, "sharding.bytes_per_step"),
                *observed(signals, "collectives.waited_share"),
                Evidence("free memory of the device", free, "bytes"),
            ),
            share=exposed,
            gain=Gain(amdahl(removable * self.least_removable), amdahl(removable)),
            fixes=(
                FixAdvice(
                    fix="keep-gathered",
                    params={},
                    safety="safe",
                    text="Keep the parameters from the forward to the backward "
                    "(SHARD_GRAD_OP of FullyShardedDataParallel); over several machines shard "
                    "within each of them (HYBRID_SHARD).",
                    code="fully_shard(layer, reshard_after_forward=False)",
                ),
            ),
            confidence="low" if waited is None else "medium",
            max_severity="warn" if waited is None else "critical",
        )
