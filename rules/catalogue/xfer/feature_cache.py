"""xfer-feature-cache."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    high,
    low,
    needed,
    number,
    observed,
    percent,
    place,
    size,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule

MODULES_NAMED = 3


class FeatureCache(Rule):
    """Frozen layers compute for each sample what they computed for it in the epoch before.

    ## What it finds
    A frozen backbone, encoder or teacher in front of what is trained, over a data set whose samples
    come unchanged in each epoch. What it gives for a sample is always the same.

    ## Why it costs time
    The forward of the frozen part is often most of the step, and all of it after the first epoch is
    repetition. With the features kept only the head is left: a head of a few layers on cached
    features was up to 60 times faster than behind its backbone (CPU, a toy; an upper bound).

    ## Evidence needed
    - Modules of which no parameter requires a gradient, whose input depends on nothing trained, and
      whose values do not change. Sampled steps time them from one backward to the next: at least
      20 % of the step.
    - None of their layers is random in training mode (Dropout, BatchNorm).
    - Two epochs or more.
    - The rows of their input come again. A few elements of each row of a sampled batch are compared
      with rows of earlier epochs; among *n* compared pairs of a data set of *N* samples *n / N* are
      expected to be equal if nothing random precedes the frozen part. At least 40 are expected, and
      at least 75 % of them found. Random flips alone leave half.
    - The features of all samples fit into half of the memory that is free.

    Where rows could not be compared (an accelerator, too few sampled steps) the finding is a note
    of low confidence, unless the data set itself was seen to give the same sample twice.

    The expected gain: Amdahl's bound on the frozen share above; below, times (E - 1) / E for the E
    epochs seen, as the first has to compute the features once.

    ## Fix
    Compute the features of all samples once, under `torch.no_grad()` and `.eval()`, and train on a
    `TensorDataset` of them.

    ## Fix safety
    Safe where the input is the same in each epoch, which is what was observed; semantics as soon as
    random augmentation is added, which a cache would freeze.

    ## When it is wrong
    A backbone that is to be unfrozen later needs its input then. Silent for random input, layers in
    training mode, features that depend on something trained (a discriminator or a perceptual loss
    on generated images), one epoch, and features that do not fit.

    ## References
    - Transfer learning tutorial, "ConvNet as fixed feature extractor":
      https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html
    - Keras guide, features computed once and reused:
      https://keras.io/guides/transfer_learning/
    """

    id = "xfer-feature-cache"
    title = "Frozen layers compute the same in each epoch"
    needs = ("frozen.step_share",)
    fires_on = (
        Case(
            "a frozen backbone before a linear probe, no augmentation",
            {
                "frozen.step_share": (0.7, 0.65, 0.75),
                "frozen.modules": "backbone",
                "frozen.changed": False,
                "frozen.feature_bytes": 192,
                "frozen.rows_expected": 97.0,
                "frozen.rows_known_share": 1.0,
                "loader.epochs": 8,
                "loader.dataset_length": 1600,
                "host.memory_available_bytes": 8 * 2**30,
                "model.where": {"file": "train.py", "line": 34},
            },
            severity="critical",
            gain=(2.0, 4.0),
        ),
        Case(
            "rows could not be compared: a note",
            {
                "frozen.step_share": (0.6, 0.55, 0.65),
                "frozen.modules": "encoder",
                "frozen.changed": False,
                "frozen.rows_expected": 3.0,
                "frozen.rows_known_share": 1.0,
                "loader.epochs": 2,
            },
            severity="info",
        ),
        Case(
            "rows could not be compared, but the data set gave each sample twice",
            {
                "frozen.step_share": (0.3, 0.28, 0.32),
                "frozen.modules": "encoder",
                "frozen.changed": False,
                "dataset.deterministic": True,
                "loader.epochs": 4,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "random flips: half of the rows come again",
            {
                "frozen.step_share": (0.7, 0.65, 0.75),
                "frozen.changed": False,
                "frozen.rows_expected": 200.0,
                "frozen.rows_known_share": 0.5,
                "loader.epochs": 8,
            },
        ),
        Case(
            "random augmentation",
            {
                "frozen.step_share": (0.7, 0.65, 0.75),
                "frozen.changed": False,
                "dataset.deterministic": False,
                "loader.epochs": 8,
            },
        ),
        Case(
            "BatchNorm of the frozen part goes on learning",
            {
                "frozen.step_share": (0.7, 0.65, 0.75),
                "frozen.changed": False,
                "frozen.random_layers": "BatchNorm2d",
                "frozen.rows_expected": 200.0,
                "frozen.rows_known_share": 1.0,
                "loader.epochs": 8,
            },
        ),
        Case(
            "one epoch",
            {"frozen.step_share": (0.7, 0.65, 0.75), "frozen.changed": False, "loader.epochs": 1},
        ),
        Case(
            "a moving average of the trained model: it has no gradient, but it changes",
            {
                "frozen.step_share": (0.3, 0.28, 0.32),
                "frozen.changed": True,
                "frozen.rows_expected": 200.0,
                "frozen.rows_known_share": 1.0,
                "loader.epochs": 8,
            },
        ),
        Case(
            "features larger than the memory",
            {
                "frozen.step_share": (0.5, 0.48, 0.52),
                "frozen.changed": False,
                "frozen.feature_bytes": 2**20,
                "frozen.rows_expected": 200.0,
                "frozen.rows_known_share": 1.0,
                "loader.epochs": 8,
                "loader.dataset_length": 100_000,
                "host.memory_available_bytes": 8 * 2**30,
            },
        ),
        Case(
            "a small frozen embedding",
            {"frozen.step_share": (0.04, 0.03, 0.05), "frozen.changed": False, "loader.epochs": 9},
        ),
    )

    min_step_share = 0.20
    """Below it the second store and its upkeep are not worth it (a starting value)."""
    min_epochs = 2
    """Epochs begun; the first one fills the cache."""
    min_rows_expected = 40.0
    """Rows; with half of them found by chance the 75 % below are two and a half standard deviations
    away."""
    min_rows_known_share = 0.75
    """Part of the expected rows; random flips leave 0.5, two random variants of crops less."""
    max_memory_share = 0.5
    """Of the memory that is free, for the features (a starting value)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks for a reason not to; without proof of equal input it is a note."""
        share = needed(signals, "frozen.step_share")
        epochs = number(signals, "loader.epochs") or 0.0
        if share < self.min_step_share or epochs < self.min_epochs:
            return
        if signals.get("frozen.changed").value is not False:
            return
        if text(signals, "frozen.random_layers") or not self._fits(signals):
            return
        repeats = self._repeats(signals)
        declared = signals.get("dataset.deterministic").value
        if repeats is False or declared is False:
            return
        names = (text(signals, "frozen.modules") or "").split(", ")
        what = ", ".join(name for name in names[:MODULES_NAMED] if name) or "some layers"
        share_low = low(signals, "frozen.step_share") or 0.0
        share_high = high(signals, "frozen.step_share") or share
        known = "what it computed before" if repeats else "what it may have computed before"
        yield Candidate(
            summary=f"{percent(share)} of the step goes through {what}, which is frozen: from the "
            f"second of {epochs:.0f} epochs on it computes {known}.",
            evidence=(
                *observed(signals, "frozen.step_share", self.min_step_share),
                *observed(signals, "frozen.modules"),
                *observed(signals, "frozen.rows_expected", self.min_rows_expected),
                *observed(signals, "frozen.rows_known_share", self.min_rows_known_share),
                *observed(signals, "frozen.feature_bytes"),
                *observed(signals, "dataset.deterministic"),
                *observed(signals, "loader.epochs", self.min_epochs),
            ),
            share=share,
            share_low=share_low,
            gain=Gain(amdahl(share_low * (epochs - 1) / epochs), amdahl(share_high)),
            where=place(signals, "model.where"),
            fixes=(self._advice(signals, what, proven=repeats is True),),
            confidence="medium" if repeats else "low",
            max_severity="critical" if repeats else "info",
        )

    def _repeats(self, signals: Signals) -> bool | None:
        """Whether rows come again, None where too few were compared."""
        expected = number(signals, "frozen.rows_expected") or 0.0
        known = number(signals, "frozen.rows_known_share")
        if expected < self.min_rows_expected or known is None:
            return None
        return known >= self.min_rows_known_share

    def _fits(self, signals: Signals) -> bool:
        """False only where it is known that the features do not fit."""
        needed_bytes = _feature_bytes(signals)
        available = number(signals, "host.memory_available_bytes")
        if needed_bytes is None or available is None:
            return True
        return needed_bytes <= self.max_memory_share * available

    @staticmethod
    def _advice(signals: Signals, what: str, *, proven: bool) -> FixAdvice:
        total = _feature_bytes(signals)
        room = f" ({size(total)} for all samples)" if total else ""
        check = "" if proven else " if the samples come without random augmentation"
        return FixAdvice(
            fix="feature-cache",
            params={},
            safety="safe" if proven else "semantics",
            text=f"Compute the features of {what} once{room} and train on them{check}.",
            code="features = torch.cat([backbone(x) for x, _ in DataLoader(data, batch_size=256)])",
        )


def _feature_bytes(signals: Signals) -> float | None:
    """Bytes of the features of all samples."""
    one, samples = number(signals, "frozen.feature_bytes"), number(signals, "loader.dataset_length")
    return None if one is None or samples is None else one * samples
