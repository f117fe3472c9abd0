"""fit-conv-bias-bn."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, place
from trainprof.rules.rule import Candidate, Case, Rule


class ConvBiasBn(Rule):
    """A convolution adds a bias that the BatchNorm behind it takes away again.

    ## What it finds
    Convolutions with a bias whose next sibling is a BatchNorm, in most convolutions of a model.

    ## Why it costs time
    BatchNorm subtracts the mean of each channel, and with it the bias: it has no influence on the
    result and its gradient is rounding noise. The backward still sums the gradient over all samples
    and positions for it, and the optimizer updates it. That is little: without the biases three
    small networks took 0.97 to 1.03 times the CPU time less (torch 2.13, one thread, alternating,
    median of 60), so no gain is promised and this is never more than a note. On an accelerator it
    is one small kernel for each layer.

    ## Evidence needed
    - At least half of the convolutions carry a bias and are followed by a BatchNorm of as many
      features. What is defined one after the other is taken to be called so.
    - At least four of them.
    - BatchNorm is in training mode: in evaluation mode a bias does count.

    ## Fix
    `nn.Conv2d(..., bias=False)` in front of each BatchNorm.

    ## Fix safety
    Numerics: the same function, rounded in another way. Old state dicts hold a `bias` that the new
    model does not know (`strict=False`, or fold it into the running mean).

    ## When it is wrong
    Where the order of definition is not the order of calls. Weights that were trained with a bias
    have a running mean that counts on it.

    ## References
    - PyTorch performance tuning guide, "Disable bias for convolutions directly followed by a batch
      norm": https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - Ioffe and Szegedy, Batch Normalization, section 3.2: https://arxiv.org/abs/1502.03167
    """

    id = "fit-conv-bias-bn"
    title = "Biases without effect in front of BatchNorm"
    needs = ("model.biases_before_norm", "model.convolutions", "model.batch_norms")
    can_warn = False
    fires_on = (
        Case(
            "every convolution of a small network",
            {
                "model.biases_before_norm": 6,
                "model.convolutions": 6,
                "model.batch_norms": 6,
                "model.where": {"file": "train.py", "line": 12},
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "bias=False, as it should be",
            {"model.biases_before_norm": 0, "model.convolutions": 53, "model.batch_norms": 53},
        ),
        Case(
            "one of many",
            {"model.biases_before_norm": 1, "model.convolutions": 20, "model.batch_norms": 20},
        ),
        Case(
            "BatchNorm in evaluation mode",
            {"model.biases_before_norm": 8, "model.convolutions": 8, "model.batch_norms": 0},
        ),
    )

    min_biases = 4
    """Fewer are not worth a note (a starting value)."""
    min_part = 0.5
    """Of the convolutions (a starting value)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the number of such biases with that of the convolutions."""
        biases = needed(signals, "model.biases_before_norm")
        convolutions = needed(signals, "model.convolutions")
        if biases < self.min_biases or biases < self.min_part * convolutions:
            return
        if not number(signals, "model.batch_norms"):
            return
        yield Candidate(
            summary=f"{biases:.0f} of {convolutions:.0f} convolutions have a bias that the "
            "BatchNorm behind them removes.",
            evidence=(
                *observed(signals, "model.biases_before_norm", self.min_biases),
                *observed(signals, "model.convolutions"),
                *observed(signals, "model.batch_norms"),
            ),
            where=place(signals, "model.where"),
            fixes=(
                FixAdvice(
                    fix="conv-without-bias",
                    params={},
                    safety="numerics",
                    text="Pass bias=False to each convolution in front of a BatchNorm.",
                    code="nn.Conv2d(…, bias=False)",
                ),
            ),
            confidence="medium",
            severity="info",
            timeless=True,
        )
