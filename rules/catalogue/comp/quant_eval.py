"""comp-quant-eval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, high, needed, observed, percent, place
from trainprof.rules.rule import Candidate, Case, Rule


class QuantEval(Rule):
    """Validation takes long and runs in full precision.

    ## What it finds
    A training that spends at least 15 % of its time in validation, with a model in single precision
    and without autocast.

    ## Why it costs time
    A validation is inference: it needs no gradients and stands lower precision better than the
    training does. In bfloat16 under autocast, or with the linear layers in 8-bit integers, the
    forward is often 1.5 to 2 times faster where the hardware has instructions for it. That the
    validation is frequent or long at all is another rule's matter.

    ## Evidence needed
    - Validation of at least 15 % of the steady step.
    - All parameters in single precision, autocast seen nowhere.

    Whether this machine's kernels are faster in lower precision was not measured, so it is a note;
    the interval goes from nothing to twice as fast.

    ## Fix
    `with torch.autocast(device, dtype=torch.bfloat16):` around the validation.

    ## Fix safety
    Numerics, of the metric only: compare it once with the full one.

    ## When it is wrong
    CPUs without AMX or AVX-512 BF16 are slower in bfloat16. Metrics may be compared across runs in
    their last digits. Silent under autocast.

    ## References
    - torch.amp: https://docs.pytorch.org/docs/stable/amp.html
    - torchao, quantised inference: https://github.com/pytorch/ao
    """

    id = "comp-quant-eval"
    title = "Long validation in full precision"
    needs = ("step.validation_share", "model.dtypes")
    can_warn = False
    fires_on = (
        Case(
            "a fifth of the time",
            {
                "step.validation_share": (0.22, 0.2, 0.24),
                "model.dtypes": {"float32": 1_000_000},
                "flags.autocast": {},
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "short validation",
            {"step.validation_share": (0.05, 0.04, 0.06), "model.dtypes": {"float32": 10}},
        ),
        Case(
            "under autocast",
            {
                "step.validation_share": (0.3, 0.28, 0.32),
                "model.dtypes": {"float32": 10},
                "flags.autocast": {"cuda": "bfloat16"},
            },
        ),
        Case(
            "a model in bfloat16",
            {"step.validation_share": (0.3, 0.28, 0.32), "model.dtypes": {"bfloat16": 10}},
        ),
    )

    min_validation_share = 0.15
    """Part of the step (a starting value)."""
    speedup_high = 2.0
    """Of the validation, at best (torchao reports 1.9 for one model's inference)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Validation, precision, autocast."""
        share = needed(signals, "step.validation_share")
        dtypes = signals.get("model.dtypes").value
        if share < self.min_validation_share or not isinstance(dtypes, Mapping):
            return
        if (
            any("float32" not in str(name) for name in dtypes)
            or signals.get("flags.autocast").value
        ):
            return
        most = high(signals, "step.validation_share") or share
        yield Candidate(
            summary=f"{percent(share)} of the time is validation, in float32.",
            evidence=(
                *observed(signals, "step.validation_share", self.min_validation_share),
                *observed(signals, "validation.batch_size"),
            ),
            share=share / 2,
            gain=Gain(1.0, amdahl(most, self.speedup_high)),
            where=place(signals, "validation.where"),
            fixes=(
                FixAdvice(
                    fix="validation-autocast",
                    params={"dtype": "bfloat16"},
                    safety="numerics",
                    text="Use autocast in the validation, and compare its metric once.",
                    code="with torch.inference_mode(), torch.autocast(device, torch.bfloat16):",
                ),
            ),
            confidence="low",
            max_severity="info",
        )
