"""opt-ckpt-needless."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import gain, high, low, needed, number, observed, percent, place, rate
from trainprof.rules.rule import Candidate, Case, Rule


class CkptNeedless(Rule):
    """Activations are thrown away and computed again, although there is memory to keep them.

    ## What it finds
    Activation checkpointing (`torch.utils.checkpoint`, gradient checkpointing in libraries) in a
    training whose memory would hold the activations as well.

    ## Why it costs time
    A checkpointed block keeps its input only. In the backward its forward runs a second time to get
    the activations back. Where every block is checkpointed a step of one forward and a backward of
    twice its cost becomes four thirds as long; with all blocks of a transformer checkpointed a CPU
    step took 1.49 times as long (95 % interval 1.46 to 1.53, torch 2.13, one thread).

    ## Evidence needed
    - The second runs take at least 5 % of the steady step. They are timed where the backward calls
      the checkpointed function again.
    - An upper bound of the memory without checkpointing stays below 80 % of what there is. All that
      is not a parameter, a gradient or optimizer state counts as the activations of one block, and
      that times the number of blocks: far more than will be used. Where that bound is not met
      nobody knows without a try, and the finding stays a note; with half of the memory in use
      already there is none.

    On an accelerator the host's clock does not tell how long the second runs take, so there it is a
    note without a prediction.

    The expected gain is Amdahl's bound on the measured time; the lower end assumes that a fifth of
    it stays, for memory that is now allocated and walked through.

    ## Fix
    Call the block itself instead of `checkpoint(block, ...)`; in transformers
    `model.gradient_checkpointing_disable()`. Checkpointing every second block is a middle way.

    ## Fix safety
    Safe: the same operations on the same values. With `preserve_rng_state=False` dropout drew
    other numbers in the second run, and the gradients become correct rather than equal.

    ## When it is wrong
    Where it makes room for a larger batch or longer sequences that are still to come, it does what
    it is for. Memory that other programs will want is not known. Silent where the second runs take
    little, and under torch.compile, which decides by itself what to compute again.

    ## References
    - torch.utils.checkpoint: https://docs.pytorch.org/docs/stable/checkpoint.html
    - Chen et al., Training deep nets with sublinear memory cost: https://arxiv.org/abs/1604.06174
    - Transformers, gradient checkpointing slows training by about 20 %:
      https://huggingface.co/docs/transformers/perf_train_gpu_one
    """

    id = "opt-ckpt-needless"
    title = "Activations are computed twice without need"
    needs = ("recompute.calls_per_step",)
    fires_on = (
        Case(
            "every block checkpointed on a machine with plenty of memory",
            {
                "recompute.calls_per_step": 4.0,
                "recompute.share": (0.23, 0.21, 0.25),
                "recompute.memory_share_without": 0.2,
                "recompute.where": {"file": "train.py", "line": 42},
            },
            severity="critical",
            gain=(1.2, 1.35),
        ),
        Case(
            "memory may be short without it",
            {
                "recompute.calls_per_step": 24.0,
                "recompute.share": (0.24, 0.22, 0.26),
                "recompute.memory_share": 0.2,
                "recompute.memory_share_without": 3.0,
            },
            severity="info",
        ),
        Case(
            "on an accelerator with a tenth of its memory in use",
            {"recompute.calls_per_step": 12.0, "recompute.memory_share_without": 0.6},
            severity="info",
        ),
    )
    silent_on = (
        Case("not in use", {"recompute.calls_per_step": 0.0}),
        Case(
            "one small block is checkpointed",
            {
                "recompute.calls_per_step": 1.0,
                "recompute.share": (0.03, 0.02, 0.04),
                "recompute.memory_share_without": 0.2,
            },
        ),
        Case(
            "needed: an accelerator that would overflow without it",
            {"recompute.calls_per_step": 24.0, "recompute.memory_share_without": 4.0},
        ),
        Case(
            "memory is nearly full as it is",
            {
                "recompute.calls_per_step": 24.0,
                "recompute.share": (0.24, 0.22, 0.26),
                "recompute.memory_share": 0.8,
                "recompute.memory_share_without": 15.0,
            },
        ),
    )

    min_recompute_share = 0.05
    """Part of the step in second runs (a starting value)."""
    max_memory_share = 0.80
    """Of the memory there is; leaves a fifth for what was not seen (a starting value)."""
    max_memory_share_now = 0.50
    """With more in use already, checkpointing does what it is for (a starting value)."""
    remaining = 0.2
    """Part of the time that may stay, for the lower end of the gain (a starting value)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Weighs the measured time against a bound of the memory."""
        calls = needed(signals, "recompute.calls_per_step")
        if calls <= 0.0:
            return
        share = number(signals, "recompute.share")
        memory = number(signals, "recompute.memory_share_without")
        fits = memory is not None and memory <= self.max_memory_share
        if share is None and not fits:
            return
        if (number(signals, "recompute.memory_share") or 0.0) > self.max_memory_share_now:
            return
        if share is not None and share < self.min_recompute_share:
            return
        evidence = (
            *observed(signals, "recompute.share", self.min_recompute_share),
            *observed(signals, "recompute.calls_per_step"),
            *observed(signals, "recompute.memory_share_without", self.max_memory_share),
        )
        often = rate(calls, "checkpointed call")
        where = place(signals, "recompute.where")
        room = "memory would hold the activations" if fits else "memory might hold the activations"
        if share is None:
            yield Candidate(
                summary=f"There are {often}, though {room}.",
                evidence=evidence,
                where=where,
                fixes=(self._advice(),),
                confidence="low",
                severity="info",
            )
            return
        share_low = low(signals, "recompute.share") or 0.0
        yield Candidate(
            summary=f"{percent(share)} of the step repeats forwards ({often}), though {room}.",
            evidence=evidence,
            share=share,
            share_low=share_low,
            gain=gain(share_low, high(signals, "recompute.share") or share, 1.0 / self.remaining),
            where=where,
            fixes=(self._advice(),),
            confidence="high" if fits else "low",
            max_severity="critical" if fits else "info",
            next_bottleneck="backward",
        )

    @staticmethod
    def _advice() -> FixAdvice:
        return FixAdvice(
            fix="checkpointing-off",
            params={},
            safety="safe",
            text="Call the block itself instead of checkpointing it, and watch the memory once.",
            code="x = block(x)",
        )
