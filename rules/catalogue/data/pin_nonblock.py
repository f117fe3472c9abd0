"""data-pin-nonblock."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    is_on,
    low,
    needed,
    observed,
    percent,
    place,
    text,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule


class PinNonblock(Rule):
    """Batches are copied to the device from ordinary memory, and the training waits for each copy.

    ## What it finds
    A training on an accelerator that spends time copying batches to it, with a loader that does not
    put them into page-locked memory (`pin_memory=False`, the default).

    ## Why it costs time
    A device reads memory by itself only where the system promises not to move it. From ordinary
    memory the driver first copies each piece into a page-locked buffer of its own, with the
    processor, and the call returns when it is done: the device waits, and the host cannot run ahead
    of it.

    ## Evidence needed
    - The model is on an accelerator, and copies to it take at least 5 % of the step.
    - The training's loader says `pin_memory=False`.

    Gain: at the upper end all of the copying is hidden behind computing (Amdahl); at the lower end
    half of it stays. One measurement of others, on an A100: 1.41 times faster with both changes,
    1.24 with page-locked memory alone, none with `non_blocking` alone.

    Not confirmed on a GPU by trainprof's own tests: they use made-up signals.

    ## Fix
    `DataLoader(..., pin_memory=True)` and `batch.to(device, non_blocking=True)`; both, as
    `non_blocking` without page-locked memory changes nothing.

    ## Fix safety
    Safe for copies to the device: the stream keeps the order. Copies *from* the device that are
    read at once must stay blocking.

    ## When it is wrong
    - Page-locked memory cannot be swapped or used by others: where memory is short, the system
      suffers.
    - Batches of an own class are pinned only if it has a method `pin_memory`.
    - Batches that the data set already makes on the device need no copy: silent, as none is seen.

    ## References
    - Tuning guide, "Avoid unnecessary CPU-GPU synchronization":
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - pin_memory and non_blocking, a tutorial:
      https://docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html
    - Machine Learning Engineering, DataLoader:
      https://github.com/stas00/ml-engineering/tree/master/training/performance
    """

    id = "data-pin-nonblock"
    title = "Copies to the device start from ordinary memory"
    needs = ("step.h2d_share", "loader.pin_memory")
    fires_on = (
        Case(
            "large images, a small model on a GPU",
            {
                "step.h2d_share": (0.22, 0.21, 0.24),
                "loader.pin_memory": False,
                "flags.accelerator": "cuda",
                "model.devices": {"cuda:0": 1_000_000},
                "loader.where": {"file": "train.py", "line": 30},
            },
            severity="critical",
            gain=(1.1, 1.3),
        ),
    )
    silent_on = (
        Case(
            "pinned already",
            {
                "step.h2d_share": (0.22, 0.21, 0.24),
                "loader.pin_memory": True,
                "flags.accelerator": "cuda",
                "model.devices": {"cuda:0": 1_000_000},
            },
        ),
        Case(
            "the model is on the CPU of a machine with an accelerator",
            {
                "step.h2d_share": (0.22, 0.21, 0.24),
                "loader.pin_memory": False,
                "flags.accelerator": "cuda",
                "model.devices": {"cpu": 1_000_000},
            },
        ),
        Case(
            "copies that take next to nothing",
            {
                "step.h2d_share": (0.02, 0.018, 0.022),
                "loader.pin_memory": False,
                "flags.accelerator": "cuda",
                "model.devices": {"cuda:0": 1_000_000},
            },
        ),
        Case(
            "a machine without accelerator",
            {"step.h2d_share": (0.06, 0.05, 0.07), "loader.pin_memory": False},
        ),
    )

    min_copy_share = 0.05
    """Share of the step; TraceLens reports copies from 5 %."""
    remaining = 0.5
    """Part of the copying that may stay, for the lower end of the gain (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """The training is not on the CPU."""
        return not trains_on_cpu(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Weighs the copies of a training on an accelerator."""
        share = needed(signals, "step.h2d_share")
        if share < self.min_copy_share or is_on(signals, "loader.pin_memory"):
            return
        if trains_on_cpu(signals) or text(signals, "flags.accelerator") is None:
            return
        share_low = low(signals, "step.h2d_share") or 0.0
        yield Candidate(
            summary=(
                f"Copying batches to the device takes {percent(share)} of the step, and the loader "
                "does not put them into page-locked memory."
            ),
            evidence=(
                *observed(signals, "step.h2d_share", self.min_copy_share, "TraceLens"),
                *observed(signals, "loader.pin_memory", True),
                *observed(signals, "flags.accelerator"),
            ),
            share=share,
            share_low=share_low,
            gain=Gain(amdahl(share_low * (1.0 - self.remaining)), amdahl(share)),
            where=place(signals, "loader.where"),
            fixes=(
                FixAdvice(
                    fix="loader-pinned",
                    params={"pin_memory": True, "non_blocking": True},
                    safety="safe",
                    text="Pin the loader's batches and copy them without blocking.",
                    code="DataLoader(…, pin_memory=True); batch.to(device, non_blocking=True)",
                ),
            ),
            confidence="low",
        )
