"""data-duplicates."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain, Location
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    high,
    is_on,
    low,
    needed,
    number,
    observed,
    percent,
    place,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule

COPIES = {
    "dataset.duplicate_share": (0.3, 0.3, 0.3),
    "dataset.hashed_items": 5000,
    "dataset.hashed_all": True,
    "loader.sampler": "torch.utils.data.sampler.RandomSampler",
    "loader.dataset_where": {"file": "train.py", "line": 9},
}
FEW = {**COPIES, "dataset.duplicate_share": (0.01, 0.01, 0.01)}


class Duplicates(Rule):
    """The data set holds the same samples several times, and every epoch trains on each copy.

    ## What it finds
    Samples that are equal to others byte for byte, label included: files listed twice, a crawl with
    repeats, two sources that overlap. As notes: samples that are nearly equal to others, and
    samples of the validation that the training has seen.

    ## Why it costs time
    A copy takes as long as any other sample and teaches little that is new. With a part d of copies
    an epoch takes 1 / (1 - d) as long as one over distinct samples. A step does not become faster:
    the gain is in the time of an epoch.

    ## Evidence needed
    - The dataset probe hashed items in random order, with the same seed before each, so that
      augmentation does not hide equal ones. If it came through all of them d is counted, else it is
      estimated from the m of N items that it hashed: equal pairs times N / m^2, with the 90 %
      interval of a Poisson number of pairs. The estimate takes copies to come in pairs; larger
      groups are overstated by half their size.
    - The lower bound of d is at least 3 %.
    - Near copies, for a note: at least 10 % of up to 1,000 samples by the lower bound. Texts (and
      rows of tokens) are alike where MinHash finds 80 % of their runs of three words in common;
      images where at most 4 of the 128 bits of their difference hashes differ, and their grey
      values by 6 of 255 on average. Whether they may go is for you to judge, so no gain is
      predicted.
    - Validation, for a note: at least 0.5 % of its samples, by the lower bound, have the hash of a
      sample of the training. It says nothing of speed: the figures of the validation flatter.

    The interval: 1 / (1 - d) for the bounds of d, of the time of an epoch.

    ## Fix
    Leave the copies out: `torch.utils.data.Subset(dataset, first_of_each)`, or `drop_duplicates` on
    the list that the data set is made of. Look at the groups before: copies with different labels
    are errors of their own.

    ## Fix safety
    Semantics: another composition of the epoch, another number of steps per epoch; copies act as
    weights, and leaving them out changes these. Compare the validation metric. SemDeDup left out
    half of LAION with little loss of quality.

    ## When it is wrong
    - Repeats that are meant: oversampling of rare classes, several views of one image, weights.
      With a weighted sampler nothing is said; the data set itself may still repeat on purpose.
    - Synthetic data and small discrete features, where different samples are equal by chance:
      copies in groups of more than four on average are taken for such.
    - Items that draw random numbers look equal under one seed where they hold nothing else; then
      this is a note only.
    - Near copies are often meant: frames of a video, augmented versions kept in the data set, forms
      that differ in a few words. Other transforms in training than in validation hide samples in
      common.

    ## References
    - Abbas et al., SemDeDup: https://arxiv.org/abs/2303.09540
    - Lee et al., Deduplicating training data makes language models better:
      https://arxiv.org/abs/2107.06499
    - Barz and Denzler, Do we train on test data?: https://arxiv.org/abs/1902.00423
    """

    id = "data-duplicates"
    title = "Samples occur more than once in the data"
    needs = ("dataset.duplicate_share",)
    fires_on = (
        Case("three in ten are copies", COPIES, severity="critical", gain=(1.4, 1.45)),
        Case(
            "items that draw random numbers",
            {**COPIES, "dataset.draws_random_numbers": True},
            severity="info",
        ),
        Case(
            "an estimate from a sample",
            {
                **COPIES,
                "dataset.duplicate_share": (0.25, 0.17, 0.35),
                "dataset.hashed_all": False,
            },
            severity="warn",
        ),
        Case("near copies", {**FEW, "dataset.near_duplicate_share": (0.2, 0.14, 0.27)}, "info"),
        Case(
            "validated on what was trained on",
            {**FEW, "dataset.validation_known_share": (0.1, 0.08, 0.12)},
            "info",
        ),
    )
    silent_on = (
        Case("a few near copies", {**FEW, "dataset.near_duplicate_share": (0.09, 0.05, 0.15)}),
        Case(
            "one sample of the validation is known, perhaps by chance",
            {**FEW, "dataset.validation_known_share": (0.01, 0.0005, 0.05)},
        ),
        Case("a few copies", {**COPIES, "dataset.duplicate_share": (0.02, 0.02, 0.02)}),
        Case("one equal pair by chance", {**COPIES, "dataset.duplicate_share": (0.1, 0.005, 0.47)}),
        Case(
            "oversampled on purpose",
            {**COPIES, "loader.sampler": "torch.utils.data.sampler.WeightedRandomSampler"},
        ),
    )

    min_share = 0.03
    """Of the samples; the engine's gate for a note."""
    min_near_share = 0.10
    """The same for near copies, of which many are meant (a starting value)."""
    min_known_share = 0.005
    """Of the validation's samples (a starting value)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the part of copies, then at what is nearly one, and at the validation."""
        if "Weighted" in (text(signals, "loader.sampler") or ""):
            return
        if (low(signals, "dataset.duplicate_share") or 0.0) >= self.min_share:
            yield self._copies(signals)
        elif (low(signals, "dataset.near_duplicate_share") or 0.0) >= self.min_near_share:
            yield self._note(
                signals,
                "dataset.near_duplicate_share",
                self.min_near_share,
                title="Samples are nearly equal to others",
                summary=f"{_nearly(signals)}; look at some of them before you leave any out.",
            )
        if (low(signals, "dataset.validation_known_share") or 0.0) >= self.min_known_share:
            known = percent(needed(signals, "dataset.validation_known_share"))
            yield self._note(
                signals,
                "dataset.validation_known_share",
                self.min_known_share,
                title="Samples of the validation are in the training data",
                summary=(
                    f"{known} of the validation's samples are in the training data as well (by "
                    "hash): its figures say less of unseen data."
                ),
                where=place(signals, "validation.where"),
            )

    def _copies(self, signals: Signals) -> Candidate:
        share = needed(signals, "dataset.duplicate_share")
        share_low = low(signals, "dataset.duplicate_share") or 0.0
        most = high(signals, "dataset.duplicate_share") or share
        hashed = number(signals, "dataset.hashed_items") or 0.0
        counted = is_on(signals, "dataset.hashed_all")
        among = f"all {hashed:,.0f} samples" if counted else f"{hashed:,.0f} samples, estimated"
        nearly = _nearly(signals)
        return Candidate(
            summary=(
                f"{percent(share)} of the samples are copies of others (by hash of {among}); an "
                f"epoch without them takes {percent(share)} less.{f' {nearly}.' if nearly else ''}"
            ),
            evidence=(
                *observed(signals, "dataset.duplicate_share", self.min_share),
                *observed(signals, "dataset.hashed_items"),
                *observed(signals, "loader.dataset_length"),
                *observed(signals, "dataset.near_duplicate_share"),
            ),
            share=share,
            share_low=share_low,
            gain=Gain(amdahl(share_low), amdahl(most)),
            where=place(signals, "loader.dataset_where") or place(signals, "loader.where"),
            fixes=(
                FixAdvice(
                    fix="drop-duplicates",
                    params={"share": round(share, 3)},
                    safety="semantics",
                    text="Leave out the copies, once you have looked at some of them.",
                    code="dataset = torch.utils.data.Subset(dataset, first_of_each)",
                ),
            ),
            confidence="high" if counted else "low",
            max_severity="info" if is_on(signals, "dataset.draws_random_numbers") else "critical",
        )

    def _note(
        self,
        signals: Signals,
        name: str,
        threshold: float,
        *,
        title: str,
        summary: str,
        where: Location | None = None,
    ) -> Candidate:
        return Candidate(
            title=title,
            summary=summary,
            evidence=(
                *observed(signals, name, threshold),
                *observed(signals, "dataset.hashed_items"),
            ),
            where=where or place(signals, "loader.dataset_where"),
            confidence="low",
            severity="info",
            max_severity="info",
            timeless=True,
        )


def _nearly(signals: Signals) -> str | None:
    """Near copies with their interval, in half a sentence; None where none were seen."""
    share = number(signals, "dataset.near_duplicate_share")
    if not share:
        return None
    least = low(signals, "dataset.near_duplicate_share") or 0.0
    most = high(signals, "dataset.near_duplicate_share") or share
    between = f" [{percent(least)}, {percent(most)}]" if least < most else ""
    return f"{percent(share)}{between} of the samples are nearly equal to others"
