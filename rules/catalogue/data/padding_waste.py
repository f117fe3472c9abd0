"""data-padding-waste."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    COMPUTE_PHASES,
    amdahl,
    is_on,
    needed,
    number,
    observed,
    percent,
    place,
    summed_share,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule

MIXED = {
    "step.forward_share": (0.35, 0.34, 0.36),
    "step.backward_share": (0.5, 0.49, 0.51),
    "step.loss_share": (0.02, 0.01, 0.03),
    "step.optimizer_share": (0.08, 0.07, 0.09),
    "dataset.padding_share": 0.6,
    "dataset.padding_share_to_longest": 0.6,
    "dataset.padding_share_grouped": 0.06,
    "dataset.padding_batches": 20,
    "dataset.length_median": 70,
    "dataset.length_max": 512,
    "dataset.padded_length": 512,
    "dataset.padded_length_varies": True,
    "dataset.collate_where": {"file": "train.py", "line": 31, "function": "collate"},
}


class PaddingWaste(Rule):
    """Much of what the model computes is padding: short rows are filled up to the longest one.

    ## What it finds
    Batches of sequences of different length in which a good part of the places holds no data. One
    long row in a batch of 32 makes the other 31 as long; a fixed length ("max_length") makes every
    row as long as the longest that could ever come.

    ## Why it costs time
    A padded place costs as much as a real one: embedding, matrix products, activation, loss and
    their gradients are computed for it and masked away. A batch that is 60 % padding does 2.5 times
    the work of its tokens, and attention, which grows with the square of the length, wastes more.
    Of BERT's pre-training on Wikipedia at length 512 half is padding; packing made it twice as
    fast.

    ## Evidence needed
    - Up to 64 batches that the training was given, with the attention mask that lay in them. Where
      there is none, the dataset probe made up to 24 batches, in the loader's own order and with its
      own collate function: real lengths are those of the samples before collating; without these,
      up to the run of one value in which rows end.
    - At least 20 % of the places are padding, and the same rows in batches of similar length (or
      padded to the longest of each batch) would have less.
    - At least 3 % of the step is computing that goes with it.

    The interval: forward, loss and backward shrink in proportion to the places, from p to p' of
    padding by (1 - p) / (1 - p'). Above, p' is that of the rows sorted by length. Below, half of
    that saving: not all computing depends on the length, and groups that are shuffled are less
    even. Attention's square is left out, which errs downwards. Measured with log-normal lengths,
    padding from 70 % to 0.5 %: steps 3.4 times faster [3.0, 4.4].

    ## Fix
    - Pad to the longest row of the batch, not to a fixed length: `pad_sequence(rows,
      batch_first=True)`, or a tokenizer's `padding="longest"` in the collate function.
    - Make batches of rows of similar length: shuffle, sort within groups of some 50 batches, cut
      the groups into batches, and shuffle these. A batch sampler of fifteen lines does it, and
      `group_by_length=True` in Hugging Face's Trainer. A budget of tokens instead of a number of
      rows per batch evens out the steps as well.
    - Pack several rows into one, with attention kept within each.

    ## Fix safety
    Padding to the longest row is **numerics**: the same rows in the same order, sums
    in another order; it needs a model that honours the mask, which a batch norm or a mean over
    places may not. Grouping and packing are **semantics**: batches are composed otherwise, so
    compare the loss by samples seen, and keep the groups shuffled.

    ## When it is wrong
    - Kernels that skip padding already (packed sequences, nested tensors, variable-length
      attention) compute nothing for it: compare tokens per second before and after.
    - A compiled model with fixed shapes is compiled again for each new length; group into a few
      lengths. For a compiled model this is a note only.
    - Where the training waits for its data, the computing is not what to shorten; only the share of
      computing counts here.
    - Rows that happen to end in equal values look padded where there is no mask.

    ## References
    - Krell et al., Efficient sequence packing without cross-contamination:
      https://arxiv.org/abs/2107.02027
    - Padding and truncation in transformers:
      https://huggingface.co/docs/transformers/pad_truncation
    - torch.nn.utils.rnn.pad_sequence:
      https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.rnn.pad_sequence.html
    """

    id = "data-padding-waste"
    title = "Much of each batch is padding"
    needs = ("dataset.padding_share", "dataset.padding_share_grouped", "step.forward_share")
    fires_on = (
        Case("rows of very different length", MIXED, severity="critical", gain=(1.3, 2.2)),
        Case(
            "padding to a fixed length, where half of the step is computing",
            {
                **MIXED,
                "dataset.padding_share": 0.37,
                "dataset.padding_share_to_longest": 0.31,
                "dataset.padding_share_grouped": 0.02,
                "dataset.padded_length_varies": False,
                "step.forward_share": (0.21, 0.2, 0.22),
                "step.backward_share": (0.28, 0.27, 0.29),
                "step.loss_share": (0.04, 0.035, 0.045),
            },
            severity="info",
        ),
        Case(
            "every row padded to a fixed length",
            {
                **MIXED,
                "dataset.padding_share": 0.75,
                "dataset.padding_share_to_longest": 0.3,
                "dataset.padding_share_grouped": 0.05,
                "dataset.padded_length_varies": False,
            },
            severity="critical",
        ),
        Case(
            "a compiled model",
            {**MIXED, "model.wrapper": "OptimizedModule"},
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "rows of similar length already",
            {**MIXED, "dataset.padding_share": 0.08, "dataset.padding_share_to_longest": 0.08},
        ),
        Case(
            "padding that grouping would not save",
            {
                **MIXED,
                "dataset.padding_share": 0.25,
                "dataset.padding_share_to_longest": 0.25,
                "dataset.padding_share_grouped": 0.24,
            },
        ),
        Case(
            "the training waits for its data",
            {
                **MIXED,
                "step.forward_share": (0.01, 0.009, 0.011),
                "step.backward_share": (0.015, 0.014, 0.016),
                "step.loss_share": 0.0,
                "step.optimizer_share": 0.0,
            },
        ),
    )

    min_padding_share = 0.20
    """Of a batch's places (a starting value)."""
    min_share = 0.03
    """Share of the step; the engine's gate for a note."""
    min_saving_by_longest = 0.10
    """Of the places; padding to the longest row is advised first where it saves so much."""
    sure_part = 0.5
    """Part of the saving that the lower end of the interval counts on."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the padding there is with that of better batches."""
        padding = needed(signals, "dataset.padding_share")
        least = min(needed(signals, "dataset.padding_share_grouped"), padding)
        computing = summed_share(signals, COMPUTE_PHASES[:3])
        if padding < self.min_padding_share or computing is None:
            return
        saved = 1.0 - (1.0 - padding) / (1.0 - least)
        share, share_low = computing[0] * saved, computing[1] * saved
        if share < self.min_share:
            return
        compiled = text(signals, "model.wrapper") == "OptimizedModule"
        longest = number(signals, "dataset.length_max")
        median = number(signals, "dataset.length_median")
        lengths = (
            f": rows have {median:.0f} places in the middle, {longest:.0f} at most"
            if longest is not None and median is not None
            else ""
        )
        yield Candidate(
            summary=(
                f"{percent(padding)} of the places in a batch are padding{lengths}; "
                f"batches of similar rows would have {percent(least)}."
            ),
            evidence=(
                *observed(signals, "dataset.padding_share", self.min_padding_share),
                *observed(signals, "dataset.padding_share_to_longest"),
                *observed(signals, "dataset.padding_share_grouped"),
                *observed(signals, "dataset.padding_batches"),
                *observed(signals, "step.forward_share"),
                *observed(signals, "step.backward_share"),
            ),
            share=share,
            share_low=share_low * self.sure_part,
            gain=Gain(amdahl(share_low * self.sure_part), amdahl(share)),
            where=place(signals, "dataset.collate_where") or place(signals, "loader.where"),
            fixes=tuple(self._advice(signals, padding, least)),
            confidence="medium",
            max_severity="info" if compiled else "critical",
        )

    def _advice(self, signals: Signals, padding: float, least: float) -> Iterator[FixAdvice]:
        longest = number(signals, "dataset.padding_share_to_longest")
        fixed = not is_on(signals, "dataset.padded_length_varies")
        if fixed and longest is not None and padding - longest >= self.min_saving_by_longest:
            yield FixAdvice(
                fix="pad-to-longest",
                params={},
                safety="numerics",
                text=f"Pad each batch to its own longest row: {percent(longest)} of it would be "
                "padding.",
                code="torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)  # in collate_fn",
            )
        yield FixAdvice(
            fix="batches-by-length",
            params={"padding_share": round(least, 3)},
            safety="semantics",
            text="Make batches of rows of similar length, with a batch sampler that sorts within "
            "shuffled groups of some 50 batches.",
            code="DataLoader(…, batch_sampler=LengthGroups(lengths, batch_size))",
        )
