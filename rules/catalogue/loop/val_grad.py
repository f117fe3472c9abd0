"""loop-val-grad."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import gain, low, needed, observed, percent, place
from trainprof.rules.rule import Candidate, Case, Rule


class ValGrad(Rule):
    """Validation records a graph for a backward that never comes.

    ## What it finds
    Validation that calls the model in evaluation mode but with gradients enabled: `model.eval()`
    without `torch.no_grad()`.

    ## Why it costs time
    Every operation writes down what its backward would need, and keeps the activations for it
    until the outputs are dropped. That is memory for nothing, as much as a training step holds,
    and it keeps torch from its faster inference paths.

    ## Evidence needed
    - At least 3 % of the steady steps' time in validation.
    - Nine of ten of its forwards in evaluation mode ran with gradients enabled, and no backward
      came before the training went on.

    The interval: a forward with gradients took 1.1 (wide layers) to 1.9 (convolutions with
    BatchNorm, a transformer's fast path) times as long as one under `torch.no_grad()`, on one CPU
    thread with torch 2.13. The validation's share shrinks by these.

    ## Fix
    `@torch.inference_mode()` on the function that validates, or `with torch.no_grad():` around it.

    ## Fix safety
    Safe for results that are only read. A tensor made under `inference_mode` cannot enter a later
    graph; where that is needed use `no_grad`.

    ## When it is wrong
    Some evaluations need gradients of the inputs: adversarial accuracy, saliency, energies whose
    forces are derivatives. They call `torch.autograd.grad`, which is no backward to us where it is
    not taken for one: then ignore it on the loader's line.

    ## References
    - Tuning guide, "Disable gradient calculation for validation or inference":
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - Inference mode: https://docs.pytorch.org/docs/stable/notes/autograd.html#inference-mode
    """

    id = "loop-val-grad"
    title = "Validation records a graph that nobody uses"
    needs = ("step.validation_share", "validation.grad_share")
    fires_on = (
        Case(
            "model.eval() without no_grad, a quarter of the time",
            {
                "step.validation_share": (0.25, 0.22, 0.28),
                "validation.grad_share": 1.0,
                "validation.count": 12,
                "validation.where": {"file": "train.py", "line": 20},
            },
            severity="info",
            gain=(1.03, 1.15),
        ),
        Case(
            "most of the time is validation",
            {
                "step.validation_share": (0.7, 0.66, 0.74),
                "validation.grad_share": 1.0,
                "validation.count": 40,
            },
            severity="warn",
            gain=(1.1, 1.6),
        ),
    )
    silent_on = (
        Case(
            "under no_grad",
            {"step.validation_share": (0.3, 0.27, 0.33), "validation.grad_share": 0.0},
        ),
        Case(
            "with gradients, but hardly any of it",
            {"step.validation_share": (0.01, 0.005, 0.02), "validation.grad_share": 1.0},
        ),
        Case(
            "a part of the evaluation needs gradients",
            {"step.validation_share": (0.3, 0.27, 0.33), "validation.grad_share": 0.5},
        ),
    )

    min_share = 0.03
    """Share of the step; the same as the engine's gate for a note."""
    min_grad_share = 0.9
    """Part of the forwards; the rest may be a sanity check made otherwise (a starting value)."""
    slowdown_low, slowdown_high = 1.1, 1.9
    """A forward with gradients against one without (measured, above)."""
    warn_share = 0.3
    """Share of validation from which it may be a warning: below, the gain stays under a tenth."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Reports forwards that keep what nobody will ask for."""
        share = needed(signals, "step.validation_share")
        if share < self.min_share:
            return
        if needed(signals, "validation.grad_share") < self.min_grad_share:
            return
        share_low = low(signals, "step.validation_share") or 0.0
        typical = (self.slowdown_low * self.slowdown_high) ** 0.5
        affected = share * (1 - 1 / typical)
        yield Candidate(
            summary=f"Validation ({percent(share)} of the time) runs with gradients enabled and "
            "keeps activations for a backward that never comes.",
            evidence=(
                *observed(signals, "validation.grad_share", self.min_grad_share),
                *observed(signals, "step.validation_share", self.min_share),
                *observed(signals, "validation.count"),
            ),
            share=affected,
            share_low=share_low * (1 - 1 / typical),
            gain=gain(share_low, share, self.slowdown_low, self.slowdown_high),
            where=place(signals, "validation.where"),
            fixes=(self._advice(),),
            severity="warn" if affected >= 0.1 and share >= self.warn_share else "info",
        )

    @staticmethod
    def _advice() -> FixAdvice:
        return FixAdvice(
            fix="validation-inference-mode",
            params={},
            safety="safe",
            text="Validate under torch.inference_mode(), or torch.no_grad() where the outputs "
            "enter a graph later.",
            code="@torch.inference_mode()  # above the function that validates",
        )
