"""prec-scaler-skip."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import is_on, needed, number, observed, percent
from trainprof.rules.rule import Candidate, Case, Rule

_SKIPS = {"scaler.batches": 1_000.0, "scaler.skipped": 120.0, "scaler.skipped_share": 0.12}


class ScalerSkip(Rule):
    """Many updates are skipped because the scaled gradients overflow.

    ## What it finds
    A training with a `GradScaler` that skips updates again and again, also once it has found a
    scale that works.

    ## Why it costs time
    The batch of a skipped update is loaded, computed forward and backward, and thrown away.

    ## Evidence needed
    - At least 2 % of the batches of the window, and 20 of them, had their update skipped after the
      first one that was not. A scaler looks for its scale by halving: from 65,536 down to 1 takes
      16 skips. One skip every 2,000 updates, when it doubles its scale again, is how it works.
    - The optimizer is one whose step the scaler leaves out. A fused one skips inside its kernel,
      which is not read, as that would wait for the device: then nothing is said.

    The expected gain is 1 / (1 - share): what is trained per update counts as a step here, skipped
    batches included. Half of it at the lower end, as some gradients may be infinite in any format.

    ## Fix
    bfloat16 has the range of float32 and needs no scaler: `torch.autocast(..., dtype=
    torch.bfloat16)` where the device supports it. Else find the layer whose gradients overflow (a
    loss that sums instead of averaging, a division by almost nothing), or batches with infinities.

    ## Fix safety
    Numerics: bfloat16 rounds more coarsely than float16.

    ## When it is wrong
    A script that skips on purpose by giving the scaler infinite gradients.

    ## References
    - Automatic mixed precision, gradient scaling: https://docs.pytorch.org/docs/stable/amp.html
    - Micikevicius et al., Mixed precision training: https://arxiv.org/abs/1710.03740
    """

    id = "prec-scaler-skip"
    title = "Updates are skipped for overflow"
    needs = ("scaler.skipped_share", "scaler.skipped", "scaler.batches")
    fires_on = (
        Case("every eighth batch overflows", _SKIPS, severity="warn", gain=(1.08, 1.14)),
        Case(
            "every fourth",
            {**_SKIPS, "scaler.skipped": 250.0, "scaler.skipped_share": 0.25},
            severity="critical",
        ),
        Case(
            "one in twenty",
            {**_SKIPS, "scaler.skipped": 50.0, "scaler.skipped_share": 0.05},
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "one skip every 2,000 updates",
            {"scaler.batches": 10_000.0, "scaler.skipped": 5.0, "scaler.skipped_share": 0.0005},
        ),
        Case(
            "a scale is still looked for",
            {"scaler.batches": 100.0, "scaler.skipped": 14.0, "scaler.skipped_share": 0.14},
        ),
    )

    min_share = 0.02
    """Of the batches (a starting value)."""
    min_skipped = 20
    """More than it takes from the first scale, 65,536, down to 1."""
    least_saved = 0.5
    """Part of the gain, for its lower end (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """A GradScaler was at work."""
        return is_on(signals, "flags.grad_scaler") or number(signals, "scaler.batches") is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Counts what was thrown away."""
        share, skipped = needed(signals, "scaler.skipped_share"), needed(signals, "scaler.skipped")
        if share < self.min_share or skipped < self.min_skipped:
            return
        whole = 1.0 / (1.0 - min(share, 0.99))
        batches = needed(signals, "scaler.batches")
        yield Candidate(
            summary=f"The GradScaler skipped the update of {skipped:,.0f} of {batches:,.0f} batches"
            f" ({percent(share)}): their work was thrown away.",
            evidence=(
                *observed(signals, "scaler.skipped_share", self.min_share),
                *observed(signals, "scaler.skipped", self.min_skipped),
                *observed(signals, "scaler.batches"),
            ),
            share=share,
            gain=Gain(1.0 + self.least_saved * (whole - 1.0), whole),
            fixes=(
                FixAdvice(
                    fix="bf16-instead",
                    params={"dtype": "bfloat16"},
                    safety="numerics",
                    text="Use bfloat16, which needs no scaler, or find what overflows.",
                    code='with torch.autocast("cuda", dtype=torch.bfloat16): ...',
                ),
            ),
            confidence="high",
            phases=("forward", "backward"),
        )
