"""dist-exposed-comm."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    has_several_ranks,
    high,
    is_on,
    low,
    needed,
    number,
    observed,
    percent,
    size,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule


class ExposedComm(Rule):
    """The step waits for the exchange of gradients, which no computation hides.

    ## What it finds
    Communication between ranks that goes on when there is nothing left to compute, on all of them:
    not because one is late (that is another rule), but because the transfer takes its time.

    ## Why it costs time
    DDP sends gradients in buckets while the backward still computes others. What is sent after the
    last gradient, and every collective that the script calls itself, is waited for. It grows with
    the gradients and not with the batch, so small batches suffer most.

    ## Evidence needed
    - Two ranks or more with 20 steady steps in common.
    - In each step the exposed communication of the rank that waits the least is taken: the others
      wait for that rank as well. At least 5 % of the steady step (TraceLens reports from 5 %).

    The expected gain is Amdahl's bound on that time above; below, a quarter of it.

    ## Fix
    In this order: a larger batch per rank, or gradient accumulation under `no_sync()`; a faster
    link; gradients sent as bfloat16
    (`model.register_comm_hook(None, default_hooks.bf16_compress_hook)`), which halves the bytes;
    `gradient_as_bucket_view=True` and `static_graph=True`, which save copies.

    ## Fix safety
    Semantics for a larger batch, numerics for compressed gradients, safe for the two flags.

    ## When it is wrong
    The gloo backend computes on the same cores as the training, and between processes of one machine
    the link is memory: part of this time is work, and threads that come too late. With gloo on one
    machine, or on one that other programs keep busy, the finding is a note. NCCL's overlap on GPUs
    cannot be seen from the host's clock: there this is the host's wait only.

    ## References
    - torch.nn.parallel.DistributedDataParallel, internal design:
      https://docs.pytorch.org/docs/stable/notes/ddp.html
    - DDP communication hooks: https://docs.pytorch.org/docs/stable/ddp_comm_hooks.html
    - TraceLens: https://github.com/AMD-AGI/TraceLens
    """

    id = "dist-exposed-comm"
    title = "Exchange of gradients is waited for"
    needs = ("distributed.transfer_share", "distributed.world_size")
    fires_on = (
        Case(
            "a large embedding and a small batch",
            {
                "distributed.transfer_share": (0.4, 0.37, 0.43),
                "distributed.world_size": 2,
                "distributed.gradient_bytes": 8_000_000,
                "step.comm_exposed_share": (0.45, 0.42, 0.48),
            },
            severity="critical",
            gain=(1.1, 1.6),
        ),
        Case(
            "a tenth of the step",
            {"distributed.transfer_share": (0.09, 0.08, 0.1), "distributed.world_size": 8},
            severity="info",
        ),
        Case(
            "gloo between two processes of one machine: a note",
            {
                "distributed.transfer_share": (0.4, 0.37, 0.43),
                "distributed.world_size": 2,
                "distributed.backend": "gloo",
                "distributed.host_count": 1,
            },
            severity="info",
        ),
        Case(
            "gloo on cores that other programs keep busy: a note",
            {
                "distributed.transfer_share": (0.4, 0.37, 0.43),
                "distributed.world_size": 2,
                "distributed.backend": "gloo",
                "host.contended": True,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "all of the wait is for a late rank",
            {
                "distributed.transfer_share": (0.01, 0.008, 0.012),
                "distributed.world_size": 2,
                "step.comm_exposed_share": (0.3, 0.28, 0.32),
            },
        ),
        Case(
            "hidden behind the backward",
            {"distributed.transfer_share": (0.02, 0.01, 0.03), "distributed.world_size": 8},
        ),
    )

    min_transfer_share = 0.05
    """Part of the step (TraceLens reports exposed communication from 5 %)."""
    least_removable = 0.25
    """Part of it, for the lower end of the gain (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """More than one rank trains."""
        return has_several_ranks(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at what even the latest rank has to wait for."""
        share = needed(signals, "distributed.transfer_share")
        if share < self.min_transfer_share or needed(signals, "distributed.world_size") < 2:
            return
        shared = text(signals, "distributed.backend") == "gloo" and (
            number(signals, "distributed.host_count") == 1 or is_on(signals, "host.contended")
        )
        share_low = low(signals, "distributed.transfer_share") or 0.0
        share_high = high(signals, "distributed.transfer_share") or share
        sent = number(signals, "distributed.gradient_bytes")
        what = f" for {size(sent)} of gradients" if sent else ""
        yield Candidate(
            summary=f"{percent(share)} of the step waits for communication{what} "
            "when nothing is left to compute.",
            evidence=(
                *observed(signals, "distributed.transfer_share", self.min_transfer_share),
                *observed(signals, "step.comm_exposed_share"),
                *observed(signals, "distributed.gradient_bytes"),
                *observed(signals, "distributed.bucket_count"),
                *observed(signals, "distributed.backend"),
                *observed(signals, "distributed.host_count"),
                *observed(signals, "distributed.world_size"),
            ),
            share=share,
            share_low=share_low,
            gain=Gain(amdahl(share_low * self.least_removable), amdahl(share_high)),
            fixes=(
                FixAdvice(
                    fix="gradient-compression",
                    params={},
                    safety="numerics",
                    text="Send fewer bytes less often: larger batches, accumulation under "
                    "no_sync(), or gradients as bfloat16.",
                    code="model.register_comm_hook(None, default_hooks.bf16_compress_hook)",
                ),
            ),
            confidence="medium",
            max_severity="info" if shared else "critical",
        )
