"""dist-naive-mp."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, uses_gpu
from trainprof.rules.rule import Candidate, Case, Rule

_TURNS = {
    "gpu.devices": "0, 1",
    "gpu.count": 2,
    "gpu.utilization_sum": 0.97,
    "model.devices": {"cuda:0": 5_000_000, "cuda:1": 5_000_000},
    "distributed.world_size": 1,
    "cost.waiting_share": 0.03,
}


class NaiveMp(Rule):
    """Layers are spread over several GPUs, which work one after the other.

    ## What it finds
    One process whose model has parameters on several GPUs, of which about one is busy at a time.

    ## Why it costs time
    A batch goes through the layers in order: while the GPU of the last layers works, that of the
    first ones waits, and the other way round in the backward. n GPUs do the work of one.

    ## Evidence needed
    - Parameters of what one rank trains lie on two CUDA devices or more.
    - Their utilisations add up to 1.2 at most, and to 0.6 at least: less would be a training that
      something else holds up. The host waits for other things in less than a tenth of the step.

    The gain is at most the number of GPUs (all busy all the time). Pipelines of few parts and
    exchanges take from that, so the lower end is none. A utilisation counts any kernel: the sum
    errs towards silence. confirmed on: synthetic records only.

    A trace of such a training tells it kernel by kernel (`dist-taking-turns`); of both findings a
    report shows one.

    ## Fix
    Data parallelism, if the model fits into one GPU (`torchrun`, DistributedDataParallel); FSDP if
    it does not; or a pipeline with several micro-batches (`torch.distributed.pipelining`).

    ## Fix safety
    Semantics: with data parallelism the batch of an update grows with the ranks, unless each gets a
    part of it. A pipeline only sums the gradients of micro-batches in another order.

    ## When it is wrong
    A model that just fits into several GPUs and is evaluated rather than trained.

    ## References
    - PyTorch, pipeline parallelism: https://docs.pytorch.org/docs/stable/distributed.pipelining.html
    - Huang et al., GPipe: https://arxiv.org/abs/1811.06965
    """

    id = "dist-naive-mp"
    title = "Several GPUs take turns"
    needs = ("gpu.count", "gpu.utilization_sum", "model.devices", "distributed.world_size")
    fires_on = (
        Case("two halves of a model", _TURNS, severity="warn", gain=(1.2, 1.7)),
        Case(
            "four quarters",
            {
                **_TURNS,
                "gpu.count": 4,
                "gpu.utilization_sum": 1.05,
                "model.devices": {f"cuda:{index}": 1_000 for index in range(4)},
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case("a pipeline that fills both", {**_TURNS, "gpu.utilization_sum": 1.7}),
        Case("ranks with a GPU each", {**_TURNS, "distributed.world_size": 2}),
        Case("a model on one GPU", {**_TURNS, "model.devices": {"cuda:0": 1_000}}),
        Case("held up by something else", {**_TURNS, "gpu.utilization_sum": 0.3}),
        Case("it waits for batches", {**_TURNS, "cost.waiting_share": 0.3}),
        Case("replicas of DataParallel", {**_TURNS, "devices.data_parallel": 2}),
    )

    min_devices = 2
    """That hold parameters."""
    max_busy, min_busy = 1.2, 0.6
    """Sum of the utilisations: about one GPU at a time (starting values)."""
    max_waiting = 0.10
    """Part of the step in which the host waits (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """The training uses GPUs."""
        return uses_gpu(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Adds up how busy the GPUs of one process are."""
        devices = signals.get("model.devices").value
        names = list(devices) if isinstance(devices, Mapping) else []
        count = sum(str(name).startswith("cuda") for name in names)
        busy = needed(signals, "gpu.utilization_sum")
        if count < self.min_devices or needed(signals, "gpu.count") < count:
            return
        if needed(signals, "distributed.world_size") > 1 or number(
            signals, "devices.data_parallel"
        ):
            return
        waits = (number(signals, "cost.waiting_share") or 0.0) >= self.max_waiting
        if waits or not self.min_busy <= busy <= self.max_busy:
            return
        gain = Gain(1.0, float(count))
        yield Candidate(
            summary=f"The layers of one process lie on {count} GPUs, of which {busy:.2g} are busy "
            "at a time.",
            evidence=(
                *observed(signals, "gpu.count", self.min_devices),
                *observed(signals, "gpu.utilization_sum", self.max_busy),
                *observed(signals, "cost.waiting_share", self.max_waiting),
                *observed(signals, "gpu.known_by"),
            ),
            share=1.0 - 1.0 / gain.middle,
            gain=gain,
            fixes=(
                FixAdvice(
                    fix="data-parallel",
                    params={"ranks": count},
                    safety="semantics",
                    text="Use one process for each GPU where the model fits into one, FSDP where "
                    "it does not, or a pipeline with several micro-batches.",
                    code=f"torchrun --nproc_per_node={count} train.py",
                ),
            ),
            max_severity="warn",
        )
