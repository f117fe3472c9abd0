"""loop-residual."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, low, needed, observed, percent, place
from trainprof.rules.rule import Candidate, Case, Rule


class Residual(Rule):
    """A function of the script's own takes time in the loop, beside all phases of the training.

    ## What it finds
    Code between the steps' own phases: metrics computed in Python, sorting, copying, book-keeping
    of the loop. No hook sees it; sampled stacks name the function.

    ## Why it costs time
    It runs in the training thread, so the model stands still meanwhile.

    ## Evidence needed
    - At least 10 % of the steady step was attributed to no phase.
    - Sampled stacks show where: the function of the script's own in which most of it is spent, from
      20 looks at it on. Where they do not, the share is a remark of the report, and no finding.

    Below 40 % of the step it is a note without a predicted gain: only its author can tell whether
    the work is needed. From there on, where one function holds most of it, that function is what
    bounds the training, and the finding a warning. Its gain lies between nothing and the end of all
    time in that function.

    ## Fix
    Work that need not be done in each step goes into every n-th,
    work on numbers of the whole epoch behind the epoch, Python loops into tensor operations.

    ## Fix safety
    Numerics at most: the training's own operations stay as they are, unless that function makes
    its data.

    ## When it is wrong
    - A loop that makes its batches itself, without a DataLoader: then the function makes the data.
    - What frames do not tell from the loop (the loss in plain functions, copies to a device) was
      taken for it. The rule is silent unless the rest is larger than all of these together.

    ## References
    - docs/stacks.md: how stacks are sampled, and how a phase is told by its frames.
    - TraceML, where 10 % of unexplained time is worth a word:
      https://github.com/traceopt-ai/traceml
    """

    id = "loop-residual"
    title = "The loop's own code takes time"
    needs = ("step.residual_share", "stacks.residual_where", "stacks.residual_where_share")
    fires_on = (
        Case(
            "quantiles of all values so far, sorted in each step",
            {
                "step.residual_share": (0.51, 0.49, 0.53),
                "step.residual_s": 0.0044,
                "stacks.residual_where": {"file": "train.py", "line": 4, "function": "quantiles"},
                "stacks.residual_where_share": 0.66,
            },
            severity="warn",
            gain=(1.0, 1.5),
        ),
        Case(
            "a metric in Python that takes a fifth of the step",
            {
                "step.residual_share": (0.2, 0.19, 0.21),
                "step.residual_s": 0.0012,
                "stacks.residual_where": {"file": "train.py", "line": 4, "function": "ranks"},
                "stacks.residual_where_share": 0.9,
            },
            severity="info",
        ),
        Case(
            "half of the step, spread over many functions",
            {
                "step.residual_share": (0.5, 0.48, 0.52),
                "step.residual_s": 0.004,
                "stacks.residual_where": {"file": "train.py", "line": 4, "function": "ranks"},
                "stacks.residual_where_share": 0.3,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "a tenth that cannot be told from noise",
            {
                "step.residual_share": (0.11, 0.08, 0.14),
                "stacks.residual_where": {"file": "train.py", "line": 4},
                "stacks.residual_where_share": 0.9,
            },
        ),
        Case(
            "a lean loop",
            {
                "step.residual_share": (0.02, 0.01, 0.03),
                "stacks.residual_where": {"file": "train.py", "line": 4},
                "stacks.residual_where_share": 0.9,
            },
        ),
    )

    min_residual_share = 0.10
    """Share of the step; TraceML's gate for unexplained time."""
    min_warned_share = 0.40
    """Share of the step; from there on the loop's own code is what bounds the training, if most of
    it is one function's (a starting value)."""
    min_inside = 0.50
    """Part of that code's time in the function that is named."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """The share, and the function in which most of it is spent."""
        share = needed(signals, "step.residual_share")
        least = low(signals, "step.residual_share")
        if least is None or least < self.min_residual_share:
            return
        where = place(signals, "stacks.residual_where")
        inside = needed(signals, "stacks.residual_where_share")
        grave = least >= self.min_warned_share and inside >= self.min_inside
        function = "one function" if where is None or where.function is None else where.function
        yield Candidate(
            summary=(
                f"{percent(share)} of the step lies in the loop's own code, outside of all phases; "
                f"{percent(inside)} of that is spent in {function}."
            ),
            evidence=(
                *observed(signals, "step.residual_share", self.min_residual_share, "TraceML"),
                *observed(signals, "step.residual_s"),
            ),
            share=share,
            share_low=least,
            where=where,
            fixes=(
                FixAdvice(
                    fix="loop-code-cheaper",
                    params={},
                    safety="numerics",
                    text="Do what need not be done in each step in every n-th or after the epoch, "
                    "prepare once what comes out the same, and turn loops over numbers into tensor "
                    "operations.",
                ),
            ),
            gain=Gain(1.0, amdahl(share * inside)) if grave else None,
            max_severity="warn" if grave else "info",
        )
