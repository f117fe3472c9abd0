"""opt-batch-headroom."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    duration,
    low,
    needed,
    number,
    observed,
    percent,
    place,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule


class BatchHeadroom(Rule):
    """Most of a step's computing does not depend on the batch: the batch is small for it.

    ## What it finds
    A training whose steps take hardly longer with more samples in them. It is seen where batches
    of several sizes occurred by themselves: a smaller last batch of each epoch, buckets, a schedule
    of sizes. Otherwise the rule is silent; no batch is changed to find out.

    ## Why it costs time
    Each step has a fixed cost: Python, the launch of each operation, the optimizer's pass over the
    weights. With few samples it is most of the step, and the samples are nearly for free.

    ## Evidence needed
    - Two batch sizes, a factor of 1.5 apart, at least 5 steady steps of each.
    - A line T(B) = a + b B through the medians of their computing time (forward, loss, backward,
      optimizer) with a / T of at least 20 %, and the lower end of its 90 % interval above that.

    A batch k times as large gives k (a + b B) / (a + b k B) as many samples a second; the sentence
    names it for k = 4. It is a note without a predicted step time: the steps become *longer*, and
    fewer. Measured: batches of 64 instead of 4 gave 8.5 times the samples a second with a small
    network on a CPU.

    ## Fix
    A larger `batch_size`, with the learning rate adapted and the loss compared over samples seen,
    not steps. Where gradients are accumulated, a larger micro-batch with fewer of them is the same
    batch: try that first.

    ## Fix safety
    Semantics: fewer and less noisy updates per epoch are another trajectory. With accumulation the
    product can stay the same, which is numerics, unless BatchNorm sees the micro-batches.

    ## When it is wrong
    Small batches are often chosen for quality, and a memory limit may leave no room for larger
    ones: silent on a CPU whose memory is nearly used up; of an accelerator's the room is not known.
    The extrapolation to larger batches assumes that the line goes on; caches and cores that fill up
    bend it.

    ## References
    - McCandlish et al., An Empirical Model of Large-Batch Training:
      https://arxiv.org/abs/1812.06162
    - Machine Learning Engineering, batch sizes:
      https://github.com/stas00/ml-engineering/tree/master/training/performance
    """

    id = "opt-batch-headroom"
    title = "The batch is small for the cost of a step"
    needs = ("batch_size.usual", "batch_size.fixed_share")
    can_warn = False
    fires_on = (
        Case(
            "batches of four, a last one of two",
            {
                "batch_size.usual": 4,
                "batch_size.other": 2,
                "batch_size.fixed_share": (0.85, 0.8, 0.9),
                "batch_size.fixed_s": 0.0009,
                "batch_size.per_sample_s": 0.00004,
                "loader.where": {"file": "train.py", "line": 9},
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "time in proportion to the batch",
            {
                "batch_size.usual": 64,
                "batch_size.other": 20,
                "batch_size.fixed_share": (0.08, 0.04, 0.12),
            },
        ),
        Case(
            "too uncertain",
            {
                "batch_size.usual": 64,
                "batch_size.other": 40,
                "batch_size.fixed_share": (0.4, 0.1, 0.7),
            },
        ),
        Case(
            "no memory left for more",
            {
                "batch_size.usual": 4,
                "batch_size.other": 2,
                "batch_size.fixed_share": (0.85, 0.8, 0.9),
                "host.memory_available_bytes": 200e6,
                "host.own_rss_bytes": 15e9,
                "flags.accelerator": None,
            },
        ),
        Case(
            "a batch that is large already",
            {
                "batch_size.usual": 4_096,
                "batch_size.other": 1_000,
                "batch_size.fixed_share": (0.5, 0.45, 0.55),
            },
        ),
    )

    min_fixed_share = 0.20
    """Part of the computing time (a starting value)."""
    max_batch = 1_024
    """Samples; larger batches are rarely small by accident (a starting value)."""
    times_larger = 4.0
    """k of the sentence."""
    min_free_share = 0.15
    """Of the memory in use: a fuller machine has no room (torch's profiler warns at 90 % use)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the fixed part of the step with its whole."""
        share, batch = (
            needed(signals, "batch_size.fixed_share"),
            needed(signals, "batch_size.usual"),
        )
        sure = low(signals, "batch_size.fixed_share") or 0.0
        if min(share, sure) < self.min_fixed_share or batch > self.max_batch:
            return
        if trains_on_cpu(signals) and self._memory_is_full(signals):
            return
        k = self.times_larger
        faster = k / (share + (1 - share) * k)
        fixed_s = number(signals, "batch_size.fixed_s")
        cost = "" if fixed_s is None else f" ({duration(fixed_s)})"
        yield Candidate(
            summary=f"{percent(share)} of the computing of a step{cost} does not depend on its "
            f"{batch:.0f} samples; {k:.0f} times as many would give {faster:.2g} times the "
            "samples a second.",
            evidence=(
                *observed(signals, "batch_size.fixed_share", self.min_fixed_share),
                *observed(signals, "batch_size.fixed_s"),
                *observed(signals, "batch_size.per_sample_s"),
                *observed(signals, "batch_size.usual"),
                *observed(signals, "batch_size.other"),
            ),
            where=place(signals, "loader.where"),
            fixes=(self._advice(signals, batch),),
            severity="info",
        )

    def _memory_is_full(self, signals: Signals) -> bool:
        free = number(signals, "host.memory_available_bytes")
        used = number(signals, "host.own_rss_bytes")
        return free is not None and used is not None and free < self.min_free_share * used

    def _advice(self, signals: Signals, batch: float) -> FixAdvice:
        wanted = int(batch * self.times_larger)
        if (number(signals, "step.micro_batches") or 1.0) > 1.0:
            return FixAdvice(
                fix="micro-batch-larger",
                params={"times": self.times_larger},
                safety="numerics",
                text="Accumulate fewer, larger micro-batches: the global batch stays the same.",
                code=f"batch_size={wanted}, and a {self.times_larger:.0f}th of the micro-batches",
            )
        return FixAdvice(
            fix="batch-larger",
            params={"batch_size": wanted},
            safety="semantics",
            text=f"Try batches of {wanted}, adapt the learning rate, and compare the loss over "
            "samples seen.",
        )
