"""fit-nan-waste."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import is_on, number, observed, percent, plural
from trainprof.rules.rule import Candidate, Case, Rule


class NanWaste(Rule):
    """The loss is no number any more, and the training goes on.

    ## What it finds
    A loss that became NaN or infinite and stayed so: each later step spends its time on a model
    whose parameters are NaN themselves. Also a loss that is no number now and then, in a training
    that recovers by leaving those steps out.

    ## Why it costs time
    NaN spreads: one of it in a gradient makes the parameters NaN at the next update, and from then
    on every output and every loss. All the rest of the run is wasted, and the checkpoints that it
    writes are worthless too.

    ## Evidence needed
    - The last 3 losses read are NaN or infinite (20 with a gradient scaler, which skips updates
      until its scale fits): the run is lost, and the finding critical.
    - Else at least 3 % of the losses: a note.

    No step-time gain is predicted: the steps are not slow, they are for nothing. The evidence says
    which part of the steps' time went into a model that was lost already.

    ## Fix
    Stop the run. Go back to the last checkpoint before the step that is named, repeat the next
    steps under `torch.autograd.detect_anomaly()`, which names the operation, and repair that: a
    lower learning rate or a warm-up, clipped gradients, an epsilon inside `log`, `sqrt` and
    divisions, clean inputs. Let the loop stop by itself: `if not math.isfinite(loss.item()):
    raise ...`.

    ## Fix safety
    Semantics: what repairs the cause changes the course of the training. To stop a lost run is
    safe.

    ## When it is wrong
    An objective whose loss is infinite by design (a masked likelihood with no term left) while the
    gradients are sound. Losses of several backwards in a step are judged together; one of them that
    stays NaN for good alone is reported where it comes last.

    ## References
    - Anomaly detection: https://docs.pytorch.org/docs/stable/autograd.html#anomaly-detection
    - Gradient scaling, skipped steps: https://docs.pytorch.org/docs/stable/amp.html
    - Lightning, `detect_anomaly` and `TerminateOnNaN`-like checks:
      https://lightning.ai/docs/pytorch/stable/debug/debugging_intermediate.html
    """

    id = "fit-nan-waste"
    title = "The loss is no number any more"
    needs = ("loss.finite",)
    fires_on = (
        Case(
            "NaN from step 40 of 400 on",
            {
                "loss.finite": False,
                "loss.count": 400,
                "loss.nonfinite_count": 360,
                "loss.first_nonfinite_step": 40,
                "loss.dead_count": 360,
                "loss.dead_since_step": 40,
                "loss.dead_time_share": 0.9,
            },
            severity="critical",
        ),
        Case(
            "NaN at the last few steps, with the run still going",
            {
                "loss.finite": False,
                "loss.count": 400,
                "loss.nonfinite_count": 3,
                "loss.first_nonfinite_step": 397,
                "loss.dead_count": 3,
                "loss.dead_since_step": 397,
                "loss.dead_time_share": 0.0075,
            },
            severity="critical",
        ),
        Case(
            "a step in ten is NaN and left out",
            {
                "loss.finite": False,
                "loss.count": 400,
                "loss.nonfinite_count": 40,
                "loss.first_nonfinite_step": 9,
                "loss.dead_count": 0,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case("numbers throughout", {"loss.finite": True, "loss.count": 400}),
        Case(
            "one bad batch that was left out",
            {
                "loss.finite": False,
                "loss.count": 400,
                "loss.nonfinite_count": 1,
                "loss.first_nonfinite_step": 200,
                "loss.dead_count": 0,
            },
        ),
        Case(
            "a gradient scaler still looks for its scale",
            {
                "loss.finite": False,
                "loss.count": 400,
                "loss.nonfinite_count": 6,
                "loss.first_nonfinite_step": 394,
                "loss.dead_count": 6,
                "loss.dead_since_step": 394,
                "loss.dead_time_share": 0.015,
                "flags.grad_scaler": True,
            },
        ),
        Case(
            "the script stopped at the first NaN",
            {
                "loss.finite": False,
                "loss.count": 200,
                "loss.nonfinite_count": 1,
                "loss.first_nonfinite_step": 199,
                "loss.dead_count": 1,
                "loss.dead_since_step": 199,
                "loss.dead_time_share": 0.005,
            },
        ),
    )

    min_dead_losses = 3
    """Losses in a row up to the end; a model that skips bad batches gives a number in between."""
    min_dead_losses_scaled = 20
    """The same with a gradient scaler: from 65,536 it halves its scale at most 16 times to 1."""
    min_bad_share = 0.03
    """Part of the losses; the same as the engine's gate for a note."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """A run that is lost, or one that loses a step now and then."""
        if signals.get("loss.finite").value is True:
            return
        dead = int(number(signals, "loss.dead_count") or 0)
        scaled = is_on(signals, "flags.grad_scaler")
        enough = self.min_dead_losses_scaled if scaled else self.min_dead_losses
        if dead >= enough:
            yield self._lost(signals, dead, enough)
            return
        count, bad = number(signals, "loss.count"), number(signals, "loss.nonfinite_count")
        if count and bad and bad > dead and bad / count >= self.min_bad_share:
            yield self._now_and_then(signals, int(bad), bad / count)

    def _lost(self, signals: Signals, dead: int, enough: int) -> Candidate:
        since = number(signals, "loss.dead_since_step")
        share = number(signals, "loss.dead_time_share")
        begin = "" if since is None else f" since step {since:,.0f}"
        cost = "" if share is None else f"; {percent(share)} of the training time came after it"
        return Candidate(
            summary=f"The loss is NaN or infinite{begin} ({dead:,} in a row){cost}.",
            evidence=(
                *observed(signals, "loss.dead_count", enough),
                *observed(signals, "loss.dead_since_step"),
                *observed(signals, "loss.dead_time_share"),
                *observed(signals, "loss.finite"),
            ),
            fixes=(self._stop(),),
            confidence="high",
            severity="critical",
            timeless=True,
        )

    def _now_and_then(self, signals: Signals, bad: int, share: float) -> Candidate:
        losses = plural(bad, "loss") if bad == 1 else f"{bad:,} losses"
        return Candidate(
            title="Some steps have no usable loss",
            summary=f"{losses} ({percent(share)}) are NaN or infinite; their steps taught nothing.",
            evidence=(
                *observed(signals, "loss.nonfinite_count", self.min_bad_share),
                *observed(signals, "loss.count"),
                *observed(signals, "loss.first_nonfinite_step"),
            ),
            fixes=(self._stop(),),
            severity="info",
            timeless=True,
        )

    @staticmethod
    def _stop() -> FixAdvice:
        return FixAdvice(
            fix="nan-stop",
            params={},
            safety="semantics",
            text="Stop at the first loss that is no number, and repeat the step before it under "
            "torch.autograd.detect_anomaly() to find the operation; then lower the learning rate, "
            "clip gradients or guard that operation.",
            code="if not math.isfinite(loss.item()): raise ArithmeticError(f'loss at step {step}')",
        )
