"""dist-unbucketed."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, duration, needed, number, observed, percent, size, text
from trainprof.rules.rule import Candidate, Case, Rule


class Unbucketed(Rule):
    """Many small collectives run one after another, and nothing is computed meanwhile.

    ## What it finds
    In a trace: collectives between which next to nothing is computed, by the dozen in each step, as
    where a script averages its gradients parameter by parameter after the backward.

    ## Why it costs time
    Each collective has a cost of its own, however little it sends: the call, the launch, the latency
    of the link. And what is sent when the backward is over hides behind nothing.
    DistributedDataParallel gathers gradients in buckets of 25 MiB and sends a bucket while the
    backward still computes others.

    ## Evidence needed
    - At least 20 collectives a step before which no more than two kernels ran since the last one.
    - While these ran nothing was computed, or the device waited for the next of them, for at least
      5 % of the window (TraceLens reports exposed communication from 5 %).

    The idle time between these collectives is theirs: no rule that speaks of launches counts it again.
    The expected gain: that idle time goes at the lower end (a few large collectives need few
    launches), and all of it with the exposed time at the upper one, where it hides behind the
    backward.

    ## Fix
    Wrap the model in `DistributedDataParallel`, which sends buckets during the backward, instead of
    calling `all_reduce` for each parameter. Under FSDP wrap larger parts of the model. Where the
    script has to call collectives itself: one for a flat tensor
    (`torch._utils._flatten_dense_tensors`), or `dist.all_reduce_coalesced`.

    ## Fix safety
    Numerics: sums are taken in another order.

    ## When it is wrong
    A trace of one rank does not tell how much of the time is waiting for others. With a very small
    model a step is short whatever is done.

    ## References
    - torch.nn.parallel.DistributedDataParallel, internal design:
      https://docs.pytorch.org/docs/stable/notes/ddp.html
    - Li et al., PyTorch Distributed, section 3.2: https://arxiv.org/abs/2006.15704
    - TraceLens: https://github.com/AMD-AGI/TraceLens
    """

    id = "dist-unbucketed"
    title = "Many small collectives one after another"
    what_if = "bucketed-communication"
    needs = ("collectives.in_rows_per_step", "collectives.in_rows_share", "timeline.window")
    suppresses = ("dist-comm-unhidden",)
    fires_on = (
        Case(
            "404 all-reduces a step after the backward",
            {
                "collectives.count": 2020,
                "collectives.per_step": 404.0,
                "collectives.main_kind": "all-reduce",
                "collectives.in_rows_per_step": 403.0,
                "collectives.in_rows_share": 0.347,
                "collectives.idle_share": 0.142,
                "collectives.overlap_share": 0.0,
                "collectives.median_s": 1.1e-5,
                "timeline.window": "5 whole steps",
            },
            severity="critical",
            gain=(1.15, 1.55),
        ),
    )
    silent_on = (
        Case(
            "eight buckets that follow each other at the end",
            {
                "collectives.in_rows_per_step": 7.0,
                "collectives.in_rows_share": 0.12,
                "timeline.window": "5 whole steps",
            },
        ),
        Case(
            "sixty, in next to no time",
            {
                "collectives.in_rows_per_step": 60.0,
                "collectives.in_rows_share": 0.03,
                "timeline.window": "5 whole steps",
            },
        ),
    )

    min_count = 20
    """In each step (as many buckets are many)."""
    min_share = 0.05
    """Of the window (TraceLens)."""

    def applies(self, signals: Signals) -> bool:
        """The trace holds collectives of a device."""
        return number(signals, "collectives.in_rows_per_step") is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Counts collectives that follow each other, and adds up what they cost."""
        count = needed(signals, "collectives.in_rows_per_step")
        share = needed(signals, "collectives.in_rows_share")
        if count < self.min_count or share < self.min_share:
            return
        idle = min(number(signals, "collectives.idle_share") or 0.0, share)
        kind = text(signals, "collectives.main_kind") or "collective"
        each = number(signals, "collectives.median_bytes")
        length = number(signals, "collectives.median_s")
        median = f"half of them send less than {size(each)}" if each else ""
        if not median and length:
            median = f"half of them take less than {duration(length)}"
        hidden = number(signals, "collectives.overlap_share")
        none = "none of them hides" if not hidden else f"{percent(hidden)} of their time hides"
        gradients = kind == "all-reduce"
        told = f"{count:.0f} {kind}s a step"
        told = f"Gradients are averaged one by one: {told}" if gradients else told
        yield Candidate(
            summary=(
                f"{told} follow each other with nothing computed in between, in {percent(share)} of "
                f"{text(signals, 'timeline.window')}; {none} behind computation"
                f"{'; ' + median if median else ''}."
            ),
            evidence=(
                *observed(signals, "collectives.in_rows_per_step", self.min_count),
                *observed(signals, "collectives.in_rows_share", self.min_share, "TraceLens"),
                *observed(signals, "collectives.idle_share"),
                *observed(signals, "collectives.overlap_share"),
                *observed(signals, "timeline.exposed_communication_share"),
                *observed(signals, "collectives.median_s"),
                *observed(signals, "collectives.median_bytes"),
                *observed(signals, "collectives.waited_share"),
            ),
            share=share,
            gain=Gain(amdahl(idle), amdahl(share)),
            fixes=(
                FixAdvice(
                    fix="bucketed-gradients",
                    params={},
                    safety="numerics",
                    text="Let DistributedDataParallel send gradients in buckets during the "
                    "backward, instead of a collective for each parameter."
                    if gradients
                    else "Send more at once: larger buckets, larger wrapped parts of the model.",
                    code="model = DistributedDataParallel(model, device_ids=[local_rank])"
                    if gradients
                    else None,
                ),
            ),
            confidence="medium",
        )
