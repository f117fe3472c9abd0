"""loop-residual."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import low, needed, observed, percent, place
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

    It is a note, however large the share: only its author can tell whether the work is needed. No
    gain is predicted for the same reason.

    ## Fix
    None that is known from outside. Work that need not be done in each step goes into every n-th,
    work on numbers of the whole epoch behind the epoch, Python loops into tensor operations.

    ## Fix safety
    Nothing is changed.

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
    can_warn = False
    fires_on = (
        Case(
            "quantiles of all values so far, sorted in each step",
            {
                "step.residual_share": (0.51, 0.49, 0.53),
                "step.residual_s": 0.0044,
                "stacks.residual_where": {"file": "train.py", "line": 4, "function": "quantiles"},
                "stacks.residual_where_share": 0.66,
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

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """The share, and the function in which most of it is spent."""
        share = needed(signals, "step.residual_share")
        least = low(signals, "step.residual_share")
        if least is None or least < self.min_residual_share:
            return
        where = place(signals, "stacks.residual_where")
        inside = needed(signals, "stacks.residual_where_share")
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
            max_severity="info",
        )
