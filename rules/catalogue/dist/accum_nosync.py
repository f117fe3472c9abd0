"""dist-accum-nosync."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    has_several_ranks,
    high,
    low,
    needed,
    number,
    observed,
    percent,
    place,
)
from trainprof.rules.rule import Candidate, Case, Rule


class AccumNosync(Rule):
    """Gradients are averaged over the ranks after each micro-batch, and used after the last only.

    ## What it finds
    Gradient accumulation under DistributedDataParallel without `no_sync()`.

    ## Why it costs time
    DDP averages all gradients in each backward. With k micro-batches per update k - 1 of these
    exchanges are for nothing: the sum of the averages is the average of the sums. Between machines
    that can make a step more than twice as long (Accelerate's guide).

    ## Evidence needed
    - Two micro-batches or more in each update, two ranks or more.
    - DDP averaged gradients after more backwards than updates need: at least half of them too many.
      Its flag `require_backward_grad_sync` is read at the end of each backward.
    - In a trace: forwards of DistributedDataParallel by their name, updates by the name of the
      optimizer's step, and after how many forwards gradients are sent.
    - Communication that no computation hides takes at least 5 % of the step.

    The expected gain: (k - 1) / k of the exposed communication above; below, half of that, as what
    is left of it may be waiting for a late rank.

    ## Fix
    `with model.no_sync():` around forward and backward of all micro-batches but the last; in
    Accelerate `with accelerator.accumulate(model):`.

    ## Fix safety
    Numerics: the same sum in another order. Gradients are kept in full between the micro-batches,
    which costs no more memory under DDP (it does under FSDP).

    ## When it is wrong
    Under FSDP and ZeRO, where not to exchange means to hold full gradients, the rule is silent: it
    looks at DDP only. Where the exchange hides behind the backward there is nothing to gain.

    ## References
    - torch.nn.parallel.DistributedDataParallel.no_sync:
      https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
    - Accelerate, "Gradient synchronization":
      https://huggingface.co/docs/accelerate/concept_guides/gradient_synchronization
    - SpeechBrain, 10 to 20 % faster with no_sync:
      https://github.com/speechbrain/speechbrain/pull/1449
    """

    id = "dist-accum-nosync"
    title = "Gradients are exchanged after each micro-batch"
    needs = ("distributed.synced_share", "step.micro_batches", "step.comm_exposed_share")
    suppresses = ("dist-exposed-comm", "dist-bucket", "dist-comm-unhidden")
    on_traces = True
    fires_on = (
        Case(
            "eight micro-batches, all of them exchanged",
            {
                "distributed.synced_share": 1.0,
                "distributed.world_size": 2,
                "step.micro_batches": 8.0,
                "step.comm_exposed_share": (0.4, 0.37, 0.43),
            },
            severity="critical",
            gain=(1.2, 1.6),
        ),
        Case(
            "four micro-batches",
            {
                "distributed.synced_share": 1.0,
                "distributed.world_size": 8,
                "step.micro_batches": 4.0,
                "step.comm_exposed_share": (0.16, 0.15, 0.17),
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case(
            "no_sync() around all but the last",
            {
                "distributed.synced_share": 0.125,
                "distributed.world_size": 2,
                "step.micro_batches": 8.0,
                "step.comm_exposed_share": (0.2, 0.18, 0.22),
            },
        ),
        Case(
            "one batch per update",
            {
                "distributed.synced_share": 1.0,
                "distributed.world_size": 2,
                "step.micro_batches": 1.0,
                "step.comm_exposed_share": (0.4, 0.37, 0.43),
            },
        ),
        Case(
            "accumulation whose exchange hides behind the backward",
            {
                "distributed.synced_share": 1.0,
                "distributed.world_size": 2,
                "step.micro_batches": 8.0,
                "step.comm_exposed_share": (0.02, 0.01, 0.03),
            },
        ),
        Case(
            "a single rank",
            {
                "distributed.synced_share": 1.0,
                "distributed.world_size": 1,
                "step.micro_batches": 8.0,
                "step.comm_exposed_share": (0.1, 0.09, 0.11),
            },
        ),
    )

    min_micro_batches = 1.9
    """In each update in the mean; an epoch's last one may have fewer."""
    min_exposed_share = 0.05
    """Part of the step (TraceLens reports exposed communication from 5 %)."""
    min_needless = 0.5
    """Exchanges beyond one per update, as a part of the micro-batches that need none."""

    def applies(self, signals: Signals) -> bool:
        """More than one rank trains; a trace names updates and forwards of DDP."""
        traced = signals.get("timeline.window").value is not None
        told = not traced or number(signals, "distributed.synced_share") is not None
        return told and has_several_ranks(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Counts exchanges per update."""
        groups = needed(signals, "step.micro_batches")
        synced = needed(signals, "distributed.synced_share") * groups
        exposed = needed(signals, "step.comm_exposed_share")
        world = number(signals, "distributed.world_size") or 1.0
        if groups < self.min_micro_batches or world < 2 or exposed < self.min_exposed_share:
            return
        if synced - 1.0 < self.min_needless * (groups - 1.0):
            return
        part = (synced - 1.0) / synced
        share_low = (low(signals, "step.comm_exposed_share") or 0.0) * part
        share_high = (high(signals, "step.comm_exposed_share") or exposed) * part
        yield Candidate(
            summary=f"Gradients are averaged {synced:.2g} times per update, though once is enough; "
            f"{percent(exposed)} of the step waits for it.",
            evidence=(
                *observed(signals, "step.comm_exposed_share", self.min_exposed_share),
                *observed(signals, "step.micro_batches", self.min_micro_batches),
                *observed(signals, "distributed.synced_share"),
                *observed(signals, "distributed.world_size"),
            ),
            share=exposed * part,
            share_low=share_low,
            gain=Gain(amdahl(share_low / 2), amdahl(share_high)),
            where=place(signals, "optimizer.where"),
            fixes=(
                FixAdvice(
                    fix="no-sync",
                    params={},
                    safety="numerics",
                    text="Put all micro-batches but the last of an update under no_sync().",
                    code="with contextlib.nullcontext() if last else model.no_sync():",
                ),
            ),
            confidence="medium",
        )
