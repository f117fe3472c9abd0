"""fit-bn-tiny."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, place, plural, text
from trainprof.rules.rule import Candidate, Case, Rule


class BnTiny(Rule):
    """BatchNorm estimates mean and variance from a handful of samples.

    ## What it finds
    BatchNorm layers in training mode in a model that gets fewer than eight samples at a time, or in
    a frozen part of the model, whose statistics then follow the new data although its weights stay.

    ## Why it costs time
    Not the step gets slower but the training: with few samples the statistics are noisy, and the
    network that is evaluated with their running means is another one than the one that was trained.
    The error of a ResNet-50 on ImageNet rose from 23.6 % at 32 images per device to 34.7 % at two,
    while GroupNorm stayed at 24 % (Wu and He 2018). More epochs do not mend that. Gradient
    accumulation does not help either, as each micro-batch is normalised by itself, and under data
    parallelism each rank uses its own.

    ## Evidence needed
    - BatchNorm layers in training mode, SyncBatchNorm left out, and fewer than 8 samples in each
      forward, or
    - BatchNorm in training mode inside modules of which no parameter requires a gradient.

    No gain is predicted: it is about the result, and a note only.

    ## Fix
    A larger batch per device; GroupNorm or LayerNorm in place of BatchNorm;
    `nn.SyncBatchNorm.convert_sync_batchnorm(model)` under data parallelism. For a frozen part
    `.eval()` after each `model.train()`.

    ## Fix safety
    Semantics: another model, or other statistics. Weights trained with BatchNorm cannot be taken
    over by GroupNorm.

    ## When it is wrong
    In segmentation or detection a few large images hold many positions, and BatchNorm may do well
    enough. Letting the statistics of a frozen network adapt to new data can be on purpose. Silent
    in evaluation mode and for SyncBatchNorm.

    ## References
    - Wu and He, Group Normalization: https://arxiv.org/abs/1803.08494
    - torch.nn.BatchNorm2d: https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html
    - torch.nn.SyncBatchNorm:
      https://docs.pytorch.org/docs/stable/generated/torch.nn.SyncBatchNorm.html
    """

    id = "fit-bn-tiny"
    title = "BatchNorm sees too few samples, or needs none"
    needs = ("model.batch_norms",)
    can_warn = False
    fires_on = (
        Case(
            "twelve layers over four images at a time",
            {
                "model.batch_norms": 12,
                "step.samples": 16.0,
                "step.micro_batches": 4.0,
                "model.where": {"file": "train.py", "line": 9},
            },
            severity="info",
        ),
        Case(
            "a frozen backbone whose statistics go on moving",
            {
                "model.batch_norms": 5,
                "step.samples": 64.0,
                "step.micro_batches": 1.0,
                "frozen.random_layers": "BatchNorm2d, Dropout",
                "frozen.modules": "backbone",
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "32 samples",
            {"model.batch_norms": 12, "step.samples": 32.0, "step.micro_batches": 1.0},
        ),
        Case(
            "eight samples, just enough",
            {"model.batch_norms": 1, "step.samples": 8.0, "step.micro_batches": 1.0},
        ),
        Case(
            "two samples without BatchNorm",
            {"model.batch_norms": 0, "step.samples": 2.0, "step.micro_batches": 1.0},
        ),
        Case(
            "a frozen part with Dropout only",
            {
                "model.batch_norms": 2,
                "step.samples": 64.0,
                "step.micro_batches": 1.0,
                "frozen.random_layers": "Dropout",
            },
        ),
    )

    min_samples = 8.0
    """Samples in a forward; in Wu and He's table the error is a point up at 8, and four at 4."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Counts the samples of a forward, and looks into the frozen part."""
        layers = int(needed(signals, "model.batch_norms"))
        if layers == 0:
            return
        samples = number(signals, "step.samples")
        groups = number(signals, "step.micro_batches") or 1.0
        per_forward = None if samples is None else samples / max(groups, 1.0)
        frozen = "BatchNorm" in (text(signals, "frozen.random_layers") or "")
        if per_forward is not None and per_forward < self.min_samples:
            summary = f"{plural(layers, 'BatchNorm layer')} see {per_forward:.2g} samples at a time"
            advice = "Use GroupNorm, or more samples in each forward."
        elif frozen:
            what = text(signals, "frozen.modules") or "a part"
            summary = f"BatchNorm in {what}, which is frozen, goes on changing its statistics"
            advice = "Call .eval() on the frozen part after each model.train()."
        else:
            return
        yield Candidate(
            summary=f"{summary}.",
            evidence=(
                *observed(signals, "model.batch_norms"),
                *observed(signals, "step.samples"),
                *observed(signals, "step.micro_batches"),
                *observed(signals, "frozen.random_layers"),
            ),
            where=place(signals, "model.where"),
            fixes=(FixAdvice(fix="batch-norm", params={}, safety="semantics", text=advice),),
            confidence="low",
            severity="info",
            timeless=True,
        )
