"""dist-taking-turns."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, text
from trainprof.rules.rule import Candidate, Case, Rule


class TakingTurns(Rule):
    """Several devices of one process compute one after the other.

    ## What it finds
    In a trace: kernels on two devices or more, of which hardly two compute at the same time, as
    where the layers of a model are spread over devices.

    ## Why it costs time
    A batch goes through the layers in order: while the device of the last layers works, that of the
    first ones waits, and the other way round in the backward. n devices do the work of one.

    ## Evidence needed
    - One trace, and so one process, with kernels on two devices or more. A device counts from 5 %
      of
      the busiest one's time; kernels of collectives do not.
    - While any of them computes, 1.2 do so on the average at most.
    - `nn.DataParallel` was not seen: that is another finding.

    In a run `dist-naive-mp` tells the same from how busy the GPUs are over all steps: where it
    warns, its finding is shown and this one is not; where it is a note, it goes under this one.

    The expected gain: at most, all devices compute all the time (n / concurrency on the time in
    which any does). With a pipeline of m micro-batches over n devices (n - 1) / (m + n - 1) of it
    stays idle; the lower end is that of m = n.

    ## Fix
    Data parallelism, if the model fits into one device (`torchrun`, DistributedDataParallel); FSDP
    if it does not; or a pipeline with several micro-batches (`torch.distributed.pipelining`).

    ## Fix safety
    Semantics: with data parallelism the batch of an update grows with the ranks, unless each gets a
    part of it. A pipeline only sums the gradients of micro-batches in another order.

    ## When it is wrong
    A model that just fits into several devices and is evaluated rather than trained.

    ## References
    - PyTorch, pipeline parallelism:
      https://docs.pytorch.org/docs/stable/distributed.pipelining.html
    - Huang et al., GPipe: https://arxiv.org/abs/1811.06965
    """

    id = "dist-taking-turns"
    title = "Devices compute one after the other"
    needs = ("several_devices.concurrency", "several_devices.computing_share", "timeline.window")
    yields_to = ("dist-naive-mp",)
    suppresses = ("kern-launch-bound", "dist-naive-mp")
    fires_on = (
        Case(
            "two halves of a model",
            {
                "several_devices.count": 2,
                "several_devices.concurrency": 1.02,
                "several_devices.computing_share": 0.9,
                "devices.data_parallel": 0,
                "timeline.window": "5 whole steps",
            },
            severity="critical",
            gain=(1.2, 1.9),
        ),
    )
    silent_on = (
        Case(
            "a pipeline that fills both",
            {
                "several_devices.count": 2,
                "several_devices.concurrency": 1.6,
                "several_devices.computing_share": 0.9,
                "timeline.window": "5 whole steps",
            },
        ),
        Case(
            "replicas of DataParallel",
            {
                "several_devices.count": 2,
                "several_devices.concurrency": 1.1,
                "several_devices.computing_share": 0.9,
                "devices.data_parallel": 2,
                "timeline.window": "5 whole steps",
            },
        ),
    )

    max_concurrency = 1.2
    """Devices that compute at a time (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """Several devices compute in a trace."""
        return number(signals, "several_devices.count") is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at how many devices compute at a time."""
        concurrency = needed(signals, "several_devices.concurrency")
        if concurrency > self.max_concurrency or number(signals, "devices.data_parallel"):
            return
        count = max(int(number(signals, "several_devices.count") or 2), 2)
        computing = needed(signals, "several_devices.computing_share")
        window = text(signals, "timeline.window")
        share = computing * (1.0 - concurrency / count)
        bubble = (count - 1) / (2 * count - 1)
        piped = computing * max(1.0 - concurrency / (count * (1.0 - bubble)), 0.0)
        yield Candidate(
            summary=(
                f"{count} devices of one process take turns: {concurrency:.2g} compute at a time, "
                f"in {percent(computing)} of {window}."
            ),
            evidence=(
                *observed(signals, "several_devices.concurrency", self.max_concurrency),
                *observed(signals, "several_devices.count"),
                *observed(signals, "several_devices.computing_share"),
            ),
            share=share,
            gain=Gain(amdahl(piped), amdahl(share)),
            fixes=(
                FixAdvice(
                    fix="data-parallel",
                    params={"ranks": count},
                    safety="semantics",
                    text="Use one process for each device where the model fits into one, FSDP "
                    "where it does not, or a pipeline with several micro-batches.",
                    code=f"torchrun --nproc_per_node={count} train.py",
                ),
            ),
            confidence="medium",
        )
