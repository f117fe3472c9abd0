"""data-collate-slow."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.batch_cost import NEEDS, BatchCost
from trainprof.rules.reading import (
    duration,
    is_on,
    needed,
    number,
    observed,
    percent,
    place,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule

LISTS = {
    "step.data_wait_share": (0.76, 0.74, 0.78),
    "loader.num_workers": 0,
    "loader.producer_wall_s": 0.0039,
    "loader.producer_cpu_s": 0.0038,
    "loader.consumer_s": 0.0012,
    "loader.consumer_cpu_s": 0.0011,
    "host.usable_cores": 2.0,
    "dataset.item_s": 5e-7,
    "dataset.collate_s": 0.0036,
    "dataset.stack_s": 0.0001,
    "dataset.batch_s": 0.00363,
    "dataset.collate_number_lists": 1,
    "dataset.collate_hottest": "<built-in method torch.tensor>",
    "dataset.collate_where": {"file": "train.py", "line": 24, "function": "collate"},
}

STACKING = ("<built-in method torch.stack>", "<built-in method torch.cat>")
"""What a collate function is for: where it spends its time there, nothing is left to move out."""


class CollateSlow(Rule):
    """Making one batch out of its samples takes longer than getting the samples.

    ## What it finds
    A collate function that works number by number in Python: `torch.tensor` of a list of lists, of
    a list of NumPy arrays, or a loop over the batch. The samples are there already; it is putting
    them side by side that the training waits for.

    ## Why it costs time
    `torch.tensor` of nested lists reads one Python object per number, some 30 ns each: 64 samples
    of 512 numbers take a millisecond or more, where copying the same 128 KiB takes a few
    microseconds. Of a list of arrays it does the same with a NumPy scalar per number, which is
    slower still; torch itself warns that this "is extremely slow".

    ## Evidence needed
    - The dataset probe made a batch with the loader's own collate function, from items that were
      there already: at least 20 % of the batch's time, 50 us more and 3 times what stacking the
      rows of the finished batch takes.
    - The training waits for batches, and at least 3 % of the step goes when this part does.

    The interval: below, 4 times the stacking remains; above, the stacking alone. Measured for lists
    of lists against `numpy.stack` and `torch.from_numpy`: steps 6.4 times faster [6.2, 6.9].

    ## Fix
    Let each sample be an array or a tensor before it reaches the collate function, best when the
    data set is built: `torch.tensor(rows)` once, `rows[i]` per sample, and torch's default collate.
    Arrays in a list: `torch.from_numpy(numpy.stack(arrays))`.

    ## Fix safety
    Safe, as long as the data type stays: `torch.tensor` makes float32 of Python's numbers, NumPy
    float64, so say `dtype=numpy.float32`. The values and their order are the same.

    ## When it is wrong
    - The function does work that belongs to the batch (tokenizing, padding, augmenting a whole
      batch): then look at that work. Where most of it is tokenizing, data-tokenize-inloop says so.
    - Workers hide it: where the training does not wait for batches, nothing is said.
    - Objects of different length that must stay lists.

    ## References
    - torch.utils.data, working with collate_fn:
      https://docs.pytorch.org/docs/stable/data.html#working-with-collate-fn
    - Creating a tensor from a list of arrays is slow:
      https://github.com/pytorch/pytorch/issues/13918
    """

    id = "data-collate-slow"
    title = "Putting samples together into a batch is slow"
    needs = (*NEEDS, "dataset.collate_s", "dataset.stack_s")
    suppresses = ("data-workers-under",)
    fires_on = (
        Case("lists of numbers become a tensor", LISTS, severity="critical", gain=(2.5, 4.5)),
        Case(
            "a list of arrays becomes a tensor, beside cheap items",
            {
                **LISTS,
                "step.data_wait_share": (0.2, 0.18, 0.22),
                "dataset.item_s": 2e-5,
                "dataset.batch_s": 0.0049,
                "dataset.collate_number_lists": 0,
                "dataset.collate_array_lists": True,
            },
            severity="warn",
            gain=(1.08, 1.2),
        ),
    )
    silent_on = (
        Case(
            "stacking large images takes its time, and that is all it does",
            {**LISTS, "dataset.stack_s": 0.0022},
        ),
        Case(
            "a library's collate of large rows: it spends its time in torch.stack",
            {
                **LISTS,
                "dataset.collate_number_lists": 0,
                "dataset.collate_hottest": "<built-in method torch.stack>",
            },
        ),
        Case(
            "slow, but small beside the items",
            {**LISTS, "dataset.batch_s": 0.04, "loader.producer_wall_s": 0.041},
        ),
        Case("workers hide it", {**LISTS, "step.data_wait_share": (0.01, 0.008, 0.013)}),
        Case(
            "torch's own collate of four arrays, in steps of half a millisecond",
            {
                **LISTS,
                "step.data_wait_share": (0.17, 0.15, 0.19),
                "loader.producer_wall_s": 0.000083,
                "loader.producer_cpu_s": 0.00008,
                "loader.consumer_s": 0.0004,
                "dataset.collate_s": 0.00002,
                "dataset.stack_s": 0.000004,
                "dataset.batch_s": 0.000023,
                "dataset.collate_number_lists": 0,
            },
        ),
        Case(
            "what it does is tokenizing",
            {**LISTS, "dataset.collate_token_s": 0.003},
        ),
        Case(
            "the probe saw another data set than the training: a hundred times slower",
            {**LISTS, "dataset.batch_s": 0.36, "dataset.collate_s": 0.36},
        ),
    )

    min_part = 0.20
    """Of a batch's time; below, its items are what to look at."""
    min_ratio_to_stacking = 3.0
    """Torch's default collate of tensors takes 1.0 to 1.5 times the stacking."""
    min_excess_s = 50e-6
    """Beyond the stacking; less is what calling torch's default collate costs (20 us for four
    arrays with their labels)."""
    min_share = 0.03
    """Share of the step; the engine's gate for a note."""
    most_stackings_left = 4.0
    """What the repaired function may take at worst, in times of the stacking."""
    most_tokenizing = 0.5
    """Part of the collating that is tokenizing; above, it is that rule's finding."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the collate function with merely stacking its result."""
        cost = BatchCost.of(signals)
        collate_s = needed(signals, "dataset.collate_s")
        stack_s = max(needed(signals, "dataset.stack_s"), 1e-6)
        if cost is None or collate_s < self.min_ratio_to_stacking * stack_s:
            return
        hottest = text(signals, "dataset.collate_hottest") or ""
        if collate_s - stack_s < self.min_excess_s or hottest in STACKING:
            return
        if (number(signals, "dataset.collate_token_s") or 0.0) > self.most_tokenizing * collate_s:
            return
        part = cost.part(collate_s)
        share, share_low = cost.share(part)
        if part < self.min_part or share < self.min_share:
            return
        ratio = collate_s / stack_s
        least = max(ratio / self.most_stackings_left, 1.5)
        yield Candidate(
            summary=(
                f"Collating a batch takes {duration(collate_s)}, {percent(part)} of preparing it; "
                f"stacking the same rows takes {duration(stack_s)}."
            ),
            evidence=(
                *observed(signals, "step.data_wait_share"),
                *observed(signals, "dataset.collate_s", self.min_ratio_to_stacking * stack_s),
                *observed(signals, "dataset.stack_s"),
                *observed(signals, "dataset.batch_s"),
                *observed(signals, "dataset.collate_hottest"),
            ),
            share=share,
            share_low=share_low,
            gain=cost.gain(part, least, max(ratio, least)),
            where=place(signals, "dataset.collate_where") or place(signals, "loader.where"),
            fixes=(self._advice(signals),),
            confidence="high" if text(signals, "dataset.collate_hottest") else "medium",
        )

    def _advice(self, signals: Signals) -> FixAdvice:
        if is_on(signals, "dataset.collate_array_lists"):
            words = "Replace torch.tensor of a list of arrays by one stacked array."
            code = "torch.from_numpy(numpy.stack(arrays))"
        elif number(signals, "dataset.collate_number_lists"):
            words = (
                "Make each sample a tensor once, when the data set is built, and only stack here; "
                "keep the data type."
            )
            code = "self.rows = torch.tensor(rows)  # in __init__; then torch.stack(samples)"
        else:
            words = "Move work on single samples out of the collate function, and stack tensors."
            code = "torch.stack(samples)"
        return FixAdvice("collate-stack", {}, "safe", words, code)
