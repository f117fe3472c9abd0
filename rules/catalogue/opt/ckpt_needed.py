"""opt-ckpt-needed."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, percent, place, plural
from trainprof.rules.rule import Candidate, Case, Rule


class CkptNeeded(Rule):
    """The device is full, and most of it is activations.

    ## What it finds
    In a memory snapshot, or a trace with the allocator's events: a peak of which at least half was
    allocated in forwards, on a device that has hardly any memory left.

    ## Why it costs time
    The memory bounds the batch, and a small batch uses the device badly. Activations are the part
    that need not be kept: checkpointed blocks keep their inputs only and are computed again in the
    backward, for a fifth to a third more time in each step. That pays where the batch may then
    grow.

    ## Evidence needed
    - At least 50 % of what is in use at the peak was allocated in a forward: by the stacks of the
      snapshot, or, in a trace, by operators in steps that are no part of backward or optimizer.
    - Less than 10 % of the device is free then, or an allocation failed. A snapshot tells the size
      of the device where an allocation has failed.

    What a larger batch gains is not known, so no gain is predicted. confirmed on: built files only.

    ## Fix
    `torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)` for the blocks that repeat
    (`gradient_checkpointing_enable()` in transformers), then a larger batch.

    ## Fix safety
    Safe: the same numbers, random ones included.

    ## When it is wrong
    Where the batch is as large as it should be, and the training runs, nothing is gained.

    ## References
    - torch.utils.checkpoint: https://docs.pytorch.org/docs/stable/checkpoint.html
    - Transformers, gradient checkpointing slows training by about 20 %:
      https://huggingface.co/docs/transformers/perf_train_gpu_one
    - Chen et al., Training Deep Nets with Sublinear Memory Cost: https://arxiv.org/abs/1604.06174
    """

    id = "opt-ckpt-needed"
    title = "Activations fill the device"
    needs = ("device_memory.activations_share", "device_memory.free_share")
    fires_on = (
        Case(
            "three quarters are activations, 4 % are free",
            {
                "device_memory.activations_share": 0.75,
                "device_memory.free_share": 0.04,
                "device_memory.failures": 0,
                "device_memory.largest_where": {"file": "model.py", "line": 39},
            },
            severity="info",
        ),
        Case(
            "out of memory",
            {
                "device_memory.activations_share": 0.6,
                "device_memory.free_share": 0.06,
                "device_memory.failures": 1,
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case(
            "full of optimizer state",
            {"device_memory.activations_share": 0.2, "device_memory.free_share": 0.04},
        ),
        Case(
            "half of the device is free",
            {"device_memory.activations_share": 0.8, "device_memory.free_share": 0.5},
        ),
    )

    min_activations_share = 0.50
    """Of what is in use at the peak (a starting value)."""
    max_free_share = 0.10
    """Of the device (the Kineto plugin warns at 90 % in use)."""

    def applies(self, signals: Signals) -> bool:
        """There is memory of a device, and it is known what holds it."""
        return number(signals, "device_memory.activations_share") is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Weighs what activations take against what is left."""
        activations = needed(signals, "device_memory.activations_share")
        free = needed(signals, "device_memory.free_share")
        failures = int(number(signals, "device_memory.failures") or 0)
        if activations < self.min_activations_share or free >= self.max_free_share:
            return
        failed = f", and {plural(failures, 'allocation')} failed" if failures else ""
        yield Candidate(
            summary=(
                f"Activations are {percent(activations)} of the memory in use at the peak, and "
                f"{percent(free)} of the device is free then{failed}."
            ),
            evidence=(
                *observed(signals, "device_memory.activations_share", self.min_activations_share),
                *observed(signals, "device_memory.free_share", self.max_free_share),
                *observed(signals, "device_memory.failures"),
                *observed(signals, "memory.accelerator_peak_bytes"),
            ),
            where=place(signals, "device_memory.largest_where"),
            fixes=(
                FixAdvice(
                    fix="checkpointing-on",
                    params={},
                    safety="safe",
                    text="Compute the activations of repeated blocks again in the backward, and "
                    "let the batch grow.",
                    code="x = checkpoint(block, x, use_reentrant=False)",
                ),
            ),
            confidence="medium",
            severity="warn" if failures else "info",
            timeless=True,
        )
