"""dist-dataparallel."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, place
from trainprof.rules.rule import Candidate, Case, Rule


class Dataparallel(Rule):
    """One process drives several GPUs through `nn.DataParallel`.

    ## What it finds
    A trained model inside `nn.DataParallel` that spreads each batch over two GPUs or more; in a trace
    by the name of its forward, and the devices that compute.

    ## Why it costs time
    In each step the model is copied to all GPUs anew, the batch is scattered and the outputs are
    gathered by one process, whose threads share one interpreter lock; the first GPU holds more than
    the others. DistributedDataParallel runs one process for each GPU, keeps the copies and averages
    gradients while the backward runs. PyTorch's guide calls its performance much better.

    ## Evidence needed
    The wrapper, and that it has two devices or more; on a CPU it does nothing. No gain is predicted,
    as it depends on model and link, and without a timing this is a note. confirmed on: synthetic
    records only.

    ## Fix
    Start with `torchrun --nproc_per_node=N train.py`, call `init_process_group("nccl")`, move the
    model to the GPU of `LOCAL_RANK`, wrap it in `DistributedDataParallel`, and give the loader a
    `DistributedSampler`.

    ## Fix safety
    Semantics, if only a little: BatchNorm and the batch size are those of a rank.

    ## When it is wrong
    A short experiment may not be worth a launcher.

    ## References
    - PyTorch performance tuning guide, "Use DistributedDataParallel":
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - torch.nn.DataParallel: https://docs.pytorch.org/docs/stable/generated/torch.nn.DataParallel.html
    """

    id = "dist-dataparallel"
    title = "One process drives several GPUs"
    needs = ("devices.data_parallel",)
    can_warn = False
    on_traces = True
    fires_on = (
        Case(
            "four GPUs behind one process",
            {"devices.data_parallel": 4, "model.wrapper": "DataParallel"},
            severity="info",
        ),
    )
    silent_on = (
        Case("no DataParallel", {"devices.data_parallel": 0}),
        Case(
            "DataParallel over one GPU does nothing",
            {"devices.data_parallel": 1, "model.wrapper": "DataParallel"},
        ),
    )

    min_devices = 2
    """Over which a batch is spread."""

    def applies(self, signals: Signals) -> bool:
        """Of a trace only where several devices compute."""
        traced = signals.get("timeline.window").value is not None
        return not traced or number(signals, "devices.data_parallel") is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Counts the devices of the wrapper."""
        devices = needed(signals, "devices.data_parallel")
        if devices < self.min_devices:
            return
        yield Candidate(
            summary=f"nn.DataParallel copies the model to {devices:.0f} GPUs in each step.",
            evidence=(
                *observed(signals, "devices.data_parallel", self.min_devices),
                *observed(signals, "model.wrapper"),
            ),
            where=place(signals, "model.where"),
            fixes=(
                FixAdvice(
                    fix="ddp",
                    params={},
                    safety="semantics",
                    text="Use DistributedDataParallel with one process for each GPU.",
                    code=f"torchrun --nproc_per_node={devices:.0f} train.py",
                ),
            ),
            confidence="medium",
            severity="info",
            timeless=True,
        )
