"""data-tokenize-inloop."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.batch_cost import NEEDS, BatchCost, free_memory
from trainprof.rules.reading import (
    duration,
    gain,
    is_on,
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

REGEX = {
    "step.data_wait_share": (0.7, 0.68, 0.72),
    "loader.num_workers": 0,
    "loader.producer_wall_s": 0.007,
    "loader.producer_cpu_s": 0.007,
    "loader.consumer_s": 0.003,
    "loader.consumer_cpu_s": 0.003,
    "loader.epochs": 5,
    "host.usable_cores": 2.0,
    "dataset.batch_s": 0.0066,
    "dataset.batch_size": 32,
    "dataset.item_token_s": 0.00018,
    "dataset.collate_token_s": 0.0,
    "dataset.token_function": "tokenize",
    "dataset.token_where": {"file": "train.py", "line": 30, "function": "tokenize"},
    "dataset.draws_random_numbers": False,
}

OF_BATCHES = (
    *NEEDS,
    "loader.epochs",
    "dataset.batch_size",
    "dataset.item_token_s",
    "dataset.collate_token_s",
)
FORBIDS = ("off", "false", "f", "no", "n", "0")
"""Values of TOKENIZERS_PARALLELISM, in small letters; any other allows threads."""
OF_LOOP = ("step.residual_share", "stacks.residual_token_share")
"""What the two ways of seeing it need."""


class TokenizeInloop(Rule):
    """Text becomes numbers anew whenever a sample is asked for, in every epoch.

    ## What it finds
    A tokenizer, a regular expression, or `split` and a vocabulary look-up inside `__getitem__` or
    the collate function: text goes in, token numbers come out, the same ones in each epoch.

    ## Why it costs time
    Tokenizing in Python takes some 0.1 to 1 microsecond per character, and a fast tokenizer's call
    still takes tens of microseconds; a look-up of numbers that are there takes one. The work is the
    same in each epoch.

    ## Evidence needed
    - The dataset probe watched the calls of a few items and of a batch: a function that was given
      a text of several words (or took one apart with `split` or a regular expression) returned a
      sequence of integers, or a tokenizer library's `encode` was called.
    - At least 5 % of the step goes with that time; at least two epochs were begun.
    - Or, where the loop itself tokenizes: at least half of the sampled stacks of its own code lie
      in a tokenizer library, and that is at least 5 % of the step.

    The interval: the tokenizing becomes 4 to 50 times cheaper. Measured for a regular expression in
    the loop: steps 3.9 times faster [3.8, 4.3] with the numbers made beforehand.

    ## Fix
    Tokenize once: in the constructor of the data set, with `datasets.Dataset.map`, or into a file
    of integers that is memory-mapped. Keep the numbers as tensors, and pad in the collate
    function. Where items come out the same each time and all of them fit into half of the free
    memory, they may be kept whole: then nothing makes tensors of the numbers again either.
    Where TOKENIZERS_PARALLELISM forbids the threads of Hugging Face's tokenizers while
    cores idle, and the training process itself tokenizes, they are a second way; they share out
    the texts of one call, so that it has to get several.

    ## Fix safety
    Safe: the numbers are the same. Where the tokenizer draws at random (BPE-dropout, sampling of
    subwords) it would no longer; the probe sees such draws, and then this is said with low
    confidence.

    ## When it is wrong
    - A stream that is read once: the text has to be tokenized at some time.
    - Tokenizing in workers that keep up with the training costs CPU time only, no waiting; then
      nothing is said.
    - A function that parses numbers from text counts as well; doing it once is right there, too.

    ## References
    - Tokenizers, what the variable may say:
      https://github.com/huggingface/tokenizers/blob/main/tokenizers/src/utils/parallelism.rs
    - Datasets, processing with map:
      https://huggingface.co/docs/datasets/about_map_batch
    - Tokenizers, the summary:
      https://huggingface.co/docs/transformers/tokenizer_summary
    - Provilkov et al., BPE-dropout: https://arxiv.org/abs/1910.13267
    """

    id = "data-tokenize-inloop"
    title = "Text is tokenized anew for each sample"
    suppresses = (
        "loop-residual",
        "data-workers-under",
        "data-cacheable",
        "data-transform-cost",
        "data-collate-slow",
    )
    fires_on = (
        Case("a regular expression in __getitem__", REGEX, severity="critical", gain=(1.5, 2.2)),
        Case(
            "a tokenizer in the collate function",
            {**REGEX, "dataset.item_token_s": 0.0, "dataset.collate_token_s": 0.005},
            severity="critical",
        ),
        Case(
            "a tokenizer that draws at random",
            {**REGEX, "dataset.draws_random_numbers": True},
            severity="critical",
        ),
        Case(
            "the loop calls the tokenizer between the loader and the model",
            {
                "step.residual_share": (0.77, 0.75, 0.79),
                "stacks.residual_token_share": 0.98,
                "stacks.residual_where": {"file": "train.py", "line": 48, "function": "encode"},
            },
            severity="critical",
            gain=(2.0, 4.0),
        ),
        Case(
            "the loop tokenizes without threads, as the environment wants it, beside idle cores",
            {
                "step.residual_share": (0.77, 0.75, 0.79),
                "stacks.residual_token_share": 0.98,
                "environment.TOKENIZERS_PARALLELISM": "False",
                "host.idle_cores": 6.5,
            },
            severity="critical",
            gain=(2.0, 4.0),
        ),
    )
    silent_on = (
        Case(
            "a loop that tokenizes a little beside other things",
            {"step.residual_share": (0.3, 0.29, 0.31), "stacks.residual_token_share": 0.2},
        ),
        Case("tokens made beforehand", {**REGEX, "dataset.item_token_s": 0.0}),
        Case("one pass over a stream", {**REGEX, "loader.epochs": 1}),
        Case("workers keep up", {**REGEX, "step.data_wait_share": (0.02, 0.015, 0.025)}),
        Case(
            "a small part of preparing a sample",
            {**REGEX, "dataset.item_token_s": 1e-5},
        ),
    )

    min_part_of_loop = 0.5
    """Of the loop's own code, as stacks show it; half is a half give or take a fifth."""
    min_share = 0.05
    """Share of the step; XProf calls an input-bound step moderate from 5 %."""
    min_epochs = 2
    """Epochs begun; with one nothing is repeated."""
    max_memory_use = 0.5
    """Part of the free memory that kept samples may take."""
    min_idle_cores = 0.75
    """Nearly one core, over the whole run; else threads have nothing to run on."""
    ratio_low, ratio_high = 4.0, 50.0
    """Old over new time: copying the numbers, against a fast and a slow tokenizer."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """In the preparing of batches as the probe saw it, else in the loop as stacks show it."""
        if all(signals.get(name).value is not None for name in OF_BATCHES):
            yield from self._in_batches(signals)
        if all(signals.get(name).value is not None for name in OF_LOOP):
            yield from self._in_the_loop(signals)

    def _in_the_loop(self, signals: Signals) -> Iterator[Candidate]:
        """Sampled stacks of the loop's own code that lie in a tokenizer library."""
        part = needed(signals, "stacks.residual_token_share")
        share = needed(signals, "step.residual_share") * part
        if share < self.min_share or part < self.min_part_of_loop:
            return
        yield Candidate(
            summary=(
                f"Text is tokenized in the training loop itself: {percent(share)} of the step, and "
                "the model stands still meanwhile."
            ),
            evidence=(
                *observed(signals, "step.residual_share"),
                *observed(signals, "stacks.residual_token_share", self.min_part_of_loop),
                *observed(signals, "environment.TOKENIZERS_PARALLELISM"),
            ),
            share=share,
            share_low=(low(signals, "step.residual_share") or 0.0) * part,
            gain=gain(
                (low(signals, "step.residual_share") or 0.0) * part,
                share,
                self.ratio_low,
                self.ratio_high,
            ),
            where=place(signals, "stacks.residual_where"),
            fixes=(self._once(), *self._threads(signals)),
            confidence="medium",
        )

    def _in_batches(self, signals: Signals) -> Iterator[Candidate]:
        """Adds up the tokenizing of a batch's items and of its collate function."""
        cost = BatchCost.of(signals)
        if cost is None or needed(signals, "loader.epochs") < self.min_epochs:
            return
        of_items = needed(signals, "dataset.batch_size") * needed(signals, "dataset.item_token_s")
        of_batch = needed(signals, "dataset.collate_token_s")
        part = cost.part(of_items + of_batch)
        share, share_low = cost.share(part)
        if share < self.min_share:
            return
        name = text(signals, "dataset.token_function") or "a function"
        random = is_on(signals, "dataset.draws_random_numbers")
        yield Candidate(
            summary=(
                f"{percent(part)} of preparing a batch is tokenizing (in {name}): "
                f"{duration(of_items + of_batch)} a batch, {percent(share)} of the step, and the "
                "same in each epoch."
            ),
            evidence=(
                *observed(signals, "step.data_wait_share"),
                *observed(signals, "dataset.item_token_s"),
                *observed(signals, "dataset.collate_token_s"),
                *observed(signals, "dataset.batch_s"),
                *observed(signals, "loader.epochs", self.min_epochs),
            ),
            share=share,
            share_low=share_low,
            gain=cost.gain(part, self.ratio_low, self.ratio_high, self._repeats(signals)),
            where=place(signals, "dataset.token_where") or place(signals, "loader.dataset_where"),
            fixes=(self._once(), *(self._whole(signals) if of_items > 0 and not random else ())),
            confidence="low" if random else "medium",
        )

    @staticmethod
    def _once() -> FixAdvice:
        return FixAdvice(
            fix="tokenize-once",
            params={},
            safety="safe",
            text="Make the token numbers once, before the first epoch, and let __getitem__ "
            "return them.",
            code="self.tokens = [tokenize(text) for text in texts]  # in __init__",
        )

    def _whole(self, signals: Signals) -> Iterator[FixAdvice]:
        """Keeping the samples that the numbers go into, where that is safe."""
        total, free = number(signals, "dataset.bytes"), free_memory(signals)
        if total is None or free is None or not is_on(signals, "dataset.repeatable"):
            return
        if total <= self.max_memory_use * free:
            yield FixAdvice(
                fix="dataset-cache",
                params={"bytes": round(total)},
                safety="safe",
                text=f"Or keep the samples whole ({size(total)}), as tensors.",
                where=place(signals, "loader.dataset_where") or place(signals, "loader.where"),
            )

    def _threads(self, signals: Signals) -> tuple[FixAdvice, ...]:
        """Of the tokenizer, where the environment forbids them and cores idle."""
        setting = text(signals, "environment.TOKENIZERS_PARALLELISM")
        idle = number(signals, "host.idle_cores")
        if setting is None or setting.lower() not in FORBIDS:
            return ()
        if idle is None or idle < self.min_idle_cores:
            return ()
        return (
            FixAdvice(
                fix="tokenizers-parallelism",
                params={"parallel": True},
                safety="safe",
                text="Or let the tokenizer use threads, and give it all texts of a batch at once.",
                code="TOKENIZERS_PARALLELISM=true",
            ),
        )

    def _repeats(self, signals: Signals) -> float:
        epochs = number(signals, "loader.epochs") or 1.0
        return (epochs - 1.0) / epochs
