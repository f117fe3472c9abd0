"""xfer-frozen-grad."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import gain, high, low, needed, number, observed, percent, place, text
from trainprof.rules.rule import Candidate, Case, Rule

MODULES_NAMED = 3


class FrozenGrad(Rule):
    """Layers that nothing trains still ask for gradients, and each backward computes them.

    ## What it finds
    Parameters that require a gradient although no optimizer moves them: they are in no parameter
    group, or only in groups with a learning rate of zero, and their values stay the same. Typical
    is `optim.SGD(model.head.parameters())` on a pretrained model that was never frozen.

    ## Why it costs time
    The backward of a layer costs about twice its forward: one product for the gradient of its
    weights, one for that of its input. If the layers nearest to the input are not trained, nothing
    needs either of them, and the forward need not keep its activations. Torch cannot know that as
    long as `requires_grad` is set. Head-only training with the gradients of the backbone switched
    off was 3.1 times faster than with them (95 % interval 3.0 to 3.4, CPU, one thread).

    ## Evidence needed
    - Parameters that require gradients and that no optimizer moves.
    - Their values did not change over at least 20 updates, so that nobody updates them by hand.
    - On sampled backwards at least 3 % of the step passed after the last gradient that an optimizer
      uses had been computed. Layers behind which trained ones lie (adapters, prompts) need the
      gradient of their input and do not count: the measured time ends where the last trained
      parameter gets its own.

    On an accelerator the host's clock does not tell how long a backward takes. There the rule says
    what it saw as a note, without a prediction.

    The expected gain is Amdahl's bound on that time; the lower end assumes that a fifth of it
    stays. What the forward saves comes on top and is not predicted.

    ## Fix
    `model.encoder.requires_grad_(False)` before the optimizer is made, and where nothing before it
    is trained, `with torch.no_grad():` around its forward.

    ## Fix safety
    Safe: every update stays the same, to the last bit. One exception: a norm clipped or logged
    over all of `model.parameters()` no longer contains the gradients of these layers, so clip those
    of the trained ones and tune the limit again. BatchNorm and Dropout of a frozen part go on as
    before; whether they should (`.eval()`) is another question.

    ## When it is wrong
    Gradients that the script reads itself (saliency, penalties, their statistics) are not known to
    it. A schedule that unfreezes layers later needs them from then on. Silent where values change
    by hand, where torch.compile runs the backward as one piece, and where the time is small.

    ## References
    - Autograd mechanics, "Setting requires_grad":
      https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad
    - Transfer learning tutorial, "ConvNet as fixed feature extractor":
      https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html
    - Backward costs twice the forward:
      https://github.com/stas00/ml-engineering/blob/master/training/performance/README.md
    """

    id = "xfer-frozen-grad"
    title = "Gradients are computed for layers nobody trains"
    needs = ("untrained.parameter_share",)
    fires_on = (
        Case(
            "the optimizer holds the head only, the backward walks through the whole encoder",
            {
                "untrained.parameter_share": 0.95,
                "untrained.parameter_count": 468_480,
                "untrained.modules": "encoder",
                "untrained.changed": False,
                "untrained.backward_share": (0.9, 0.87, 0.93),
                "untrained.step_share": (0.45, 0.42, 0.48),
                "optimizer.where": {"file": "train.py", "line": 39},
            },
            severity="critical",
            gain=(1.4, 2.0),
        ),
        Case(
            "a stem with a learning rate of zero",
            {
                "untrained.parameter_share": 0.02,
                "untrained.modules": "stem",
                "untrained.changed": False,
                "untrained.backward_share": (0.3, 0.25, 0.35),
                "untrained.step_share": (0.13, 0.11, 0.15),
            },
            severity="warn",
            gain=(1.05, 1.2),
        ),
        Case(
            "on an accelerator, where the backward cannot be timed by the host",
            {"untrained.parameter_share": 0.9, "untrained.modules": "backbone"},
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "everything is trained, or frozen as it should be", {"untrained.parameter_share": 0.0}
        ),
        Case(
            "updated by hand, without an optimizer",
            {
                "untrained.parameter_share": 0.5,
                "untrained.changed": True,
                "untrained.step_share": (0.3, 0.28, 0.32),
            },
        ),
        Case(
            "adapters at the input: the gradient has to pass through what is not trained",
            {
                "untrained.parameter_share": 0.99,
                "untrained.changed": False,
                "untrained.backward_share": (0.01, 0.005, 0.015),
                "untrained.step_share": (0.005, 0.003, 0.008),
            },
        ),
        Case(
            "an unused head that never gets a gradient",
            {
                "untrained.parameter_share": 0.1,
                "untrained.changed": False,
                "untrained.backward_share": (0.03, 0.02, 0.04),
                "untrained.step_share": (0.012, 0.01, 0.02),
            },
        ),
        Case(
            "a few parameters on an accelerator",
            {"untrained.parameter_share": 0.02, "untrained.modules": "scale"},
        ),
    )

    min_step_share = 0.03
    """Time after the last useful gradient; the same as the engine's gate for a note."""
    remaining = 0.2
    """Part of that time that may stay, for the lower end of the gain (a starting value)."""
    min_parameter_share = 0.1
    """For a note without timing: fewer elements are not worth one (a starting value)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Prefers the measured time; without any, tells only what it saw."""
        parameters = needed(signals, "untrained.parameter_share")
        if parameters <= 0.0 or signals.get("untrained.changed").value is True:
            return
        share = number(signals, "untrained.step_share")
        proven = signals.get("untrained.changed").value is False
        if share is not None and (share < self.min_step_share or not proven):
            return
        if share is None and parameters < self.min_parameter_share:
            return
        names = (text(signals, "untrained.modules") or "").split(", ")
        what = ", ".join(name for name in names[:MODULES_NAMED] if name) or "some layers"
        evidence = (
            *observed(signals, "untrained.step_share", self.min_step_share),
            *observed(signals, "untrained.backward_share"),
            *observed(signals, "untrained.parameter_share"),
            *observed(signals, "untrained.modules"),
            *observed(signals, "untrained.changed"),
        )
        advice = FixAdvice(
            fix="freeze-untrained",
            params={"modules": names},
            safety="safe",
            text=f"Switch off the gradients of {what} before the optimizer is made.",
            code=f"model.{names[0]}.requires_grad_(False)" if names[0] else None,
        )
        no_use = f"No optimizer moves {what} ({percent(parameters)} of the trainable parameters)"
        if share is None:
            yield Candidate(
                summary=f"{no_use}, yet gradients are asked for them.",
                evidence=evidence,
                where=place(signals, "optimizer.where"),
                fixes=(advice,),
                confidence="low",
                severity="info",
            )
            return
        share_low = low(signals, "untrained.step_share") or 0.0
        share_high = high(signals, "untrained.step_share") or share
        yield Candidate(
            summary=f"{no_use}, yet {percent(share)} of the step computes gradients for them.",
            evidence=evidence,
            share=share,
            share_low=share_low,
            gain=gain(share_low, share_high, 1.0 / self.remaining),
            where=place(signals, "optimizer.where"),
            fixes=(advice,),
            confidence="high",
        )
