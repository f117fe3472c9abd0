"""opt-py-loops."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    gain,
    is_on,
    largest_phase,
    needed,
    number,
    observed,
    percent,
    place,
)
from trainprof.rules.rule import Candidate, Case, Rule


class PyLoops(Rule):
    """Weights or gradients are gone over one by one in a Python loop beside the optimizer.

    ## What it finds
    Moving averages of the weights, clipping, norms for a log and copies to a target network that
    are written as `for p in model.parameters(): ...` and run at every step.

    ## Why it costs time
    Each tensor costs a few operators, and each operator the price of Python and of the dispatcher,
    whatever its size. Torch has the same operations on whole lists of tensors. A value read with
    `.item()` for each tensor makes an accelerator wait each time.

    ## Evidence needed
    - One step under torch's profiler shows, between a backward and the update or after the update,
      ten or more turns of the same operators, each on another parameter or gradient.
    - The operators are called from the user's own lines, not from a library.
    - They take at least 5 % of the step.

    The expected gain is Amdahl's bound on that share. Lists against loops on a CPU (torch 2.13, one
    thread, 20 to 100 tensors of 64 to 16,000 values): moving averages 3.1 to 8.0 times faster,
    clipping with `.item()` 1.3 to 1.7 times. So the ratios are 3 to 8, and 1.3 to 1.7 with
    `.item()`.

    ## Fix
    `torch._foreach_lerp_(averages, weights, 1 - decay)`, or `torch.optim.swa_utils.AveragedModel`
    with `get_ema_multi_avg_fn`; `torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=True)`
    for clipping; `torch._foreach_norm(gradients)` for norms, read once. Or do it every few steps.

    ## Fix safety
    Numerics. The same values up to rounding.

    ## When it is wrong
    With few large tensors the loop costs what the lists cost, and stays below ten turns. Loops
    inside of an optimizer's step are the matter of opt-unfused. Where the calling lines were not
    seen (a debugger, torch.compile) nothing is said.

    ## References
    - torch.optim.swa_utils:
      https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema
    - torch.nn.utils.clip_grad_norm_:
      https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
    """

    id = "opt-py-loops"
    title = "Python loop over the parameters"
    needs = ("operators.parameter_loop_share",)
    suppresses = ("loop-residual",)
    fires_on = (
        Case(
            "a moving average over 76 tensors takes a quarter of the step",
            {
                "operators.parameter_loop_share": 0.25,
                "operators.parameter_loop_tensors": 76,
                "operators.parameter_loop_item": False,
                "operators.parameter_loop_where": {"file": "train.py", "line": 33},
            },
            severity="warn",
            gain=(1.2, 1.3),
        ),
        Case(
            "clipping reads a norm of each gradient",
            {
                "operators.parameter_loop_share": 0.2,
                "operators.parameter_loop_tensors": 60,
                "operators.parameter_loop_item": True,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case("lists of tensors", {"operators.parameter_loop_share": 0.0}),
        Case(
            "a loop that takes 4 % of the step",
            {
                "operators.parameter_loop_share": 0.04,
                "operators.parameter_loop_tensors": 20,
                "operators.parameter_loop_item": False,
            },
        ),
    )

    min_share = 0.05
    """Part of the step (a starting value)."""
    list_speedup_low, list_speedup_high = 3.0, 8.0
    """Of averages and copies (measured, see the page)."""
    item_speedup_low, item_speedup_high = 1.3, 1.7
    """Of clipping that reads each norm (measured, see the page)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the share of the loops."""
        share = needed(signals, "operators.parameter_loop_share")
        if share < self.min_share:
            return
        reads = is_on(signals, "operators.parameter_loop_item")
        least = self.item_speedup_low if reads else self.list_speedup_low
        most = self.item_speedup_high if reads else self.list_speedup_high
        typical = (least * most) ** 0.5
        tensors = number(signals, "operators.parameter_loop_tensors") or 0
        reading = ", and reads values one by one" if reads else ""
        yield Candidate(
            summary=(
                f"A Python loop over {tensors:.0f} parameter tensors runs at each step{reading}; "
                f"it takes {percent(share)} of it."
            ),
            evidence=(
                *observed(signals, "operators.parameter_loop_share", self.min_share),
                *observed(signals, "operators.parameter_loop_tensors", 10),
                *observed(signals, "operators.parameter_loop_item"),
            ),
            share=share * (1 - 1 / typical),
            gain=gain(share, share, least, most),
            where=place(signals, "operators.parameter_loop_where"),
            fixes=(
                FixAdvice(
                    fix="foreach-lists",
                    params={},
                    safety="numerics",
                    text=(
                        "Use torch's operations on lists of tensors, and read a value once."
                        if reads
                        else "Use torch's operations on lists of tensors."
                    ),
                    code=(
                        "torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=True)"
                        if reads
                        else "torch._foreach_lerp_(averages, weights, 1 - decay)"
                    ),
                ),
            ),
            confidence="medium",
            next_bottleneck=largest_phase(signals),
        )
