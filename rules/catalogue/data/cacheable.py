"""data-cacheable."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.batch_cost import NEEDS, BatchCost, free_memory
from trainprof.rules.reading import (
    duration,
    is_on,
    needed,
    number,
    observed,
    percent,
    place,
    size,
)
from trainprof.rules.rule import Candidate, Case, Rule

HEAVY = {
    "step.data_wait_share": (0.8, 0.78, 0.82),
    "loader.num_workers": 0,
    "loader.producer_wall_s": 0.066,
    "loader.producer_cpu_s": 0.065,
    "loader.consumer_s": 0.016,
    "loader.consumer_cpu_s": 0.016,
    "loader.batch_size": 32,
    "loader.epochs": 10,
    "loader.dataset_where": {"file": "train.py", "line": 12},
    "host.usable_cores": 2.0,
    "host.memory_available_bytes": 8e9,
    "dataset.batch_s": 0.065,
    "dataset.batch_size": 32,
    "dataset.collate_s": 0.001,
    "dataset.item_s": 0.002,
    "dataset.item_cpu_s": 0.002,
    "dataset.item_blocked_s": 0.0,
    "dataset.repeatable": True,
    "dataset.draws_random_numbers": False,
    "dataset.bytes": 4e8,
}


class Cacheable(Rule):
    """The same samples are prepared anew in each epoch, although they come out the same.

    ## What it finds
    A data set whose items take a tenth of a millisecond or more to prepare (decoding, filtering,
    parsing, feature extraction), come out byte for byte the same each time, and would fit into
    memory.

    ## Why it costs time
    The first epoch has to do this work; every further one repeats it for the same result. With E
    epochs (E - 1) / E of it is wasted, on the training's own core or on the workers'.

    ## Evidence needed
    - The dataset probe fetched items three times, twice after the same seed and once after
      another: all came out the same, and no global random generator was used.
    - All items together take at most half of the free memory.
    - An item takes at least 0.1 ms, at least two epochs were begun, and at least 5 % of the step
      goes where batches need no preparing.

    The interval: the waiting that goes, times (E - 1) / E; above, a cached item costs nothing;
    below, a fifth of the preparing. Where loader workers prepare batches, the loader model of
    data-workers-under says how much of the waiting goes.

    ## Fix
    Prepare once and keep the result: all items in one tensor when the data set is built, or a file
    per shard that is memory-mapped (`numpy.load(..., mmap_mode="r")`). A dictionary inside the data
    set does without workers only; with workers each has its own copy, so let it be filled before
    they start, or keep tensors in shared memory (`tensor.share_memory_()`).

    ## Fix safety
    Safe: the cache returns what the probe has compared by hash. Keep the part of the work that is
    random, such as augmentation, outside of the cache.

    ## When it is wrong
    - Random augmentation: the probe sees the draw, and this rule is silent. The part before the
      first random transform may still be worth caching.
    - One epoch only: nothing is repeated.
    - Items that wait for a disk or a server rather than compute, where workers could wait beside
      the training: data-workers-under is the smaller change, and this is a note only.
    - Images that are decoded far larger than they are used: data-decode-oversize names the cause.
    - Items that depend on something the probe could not vary, such as the date.

    ## References
    - Murray et al., tf.data: a machine learning data processing framework (caching, section 3):
      https://arxiv.org/abs/2101.12127
    - Kuchnik et al., Plumber: diagnosing and removing performance bottlenecks in machine learning
      data pipelines: https://arxiv.org/abs/2111.04131
    - Mohan et al., Analyzing and mitigating data stalls in DNN training:
      https://arxiv.org/abs/2007.06775
    """

    id = "data-cacheable"
    title = "Each epoch prepares the same samples again"
    needs = (
        *NEEDS,
        "loader.epochs",
        "dataset.collate_s",
        "dataset.item_s",
        "dataset.bytes",
        "dataset.repeatable",
        "dataset.draws_random_numbers",
        "host.memory_available_bytes",
    )
    suppresses = ("data-workers-under", "data-transform-cost")
    fires_on = (
        Case("a heavy transform without chance in it", HEAVY, severity="critical", gain=(2.0, 4.0)),
        Case(
            "the same in two workers that keep both cores busy",
            {
                **HEAVY,
                "step.data_wait_share": (0.5, 0.48, 0.52),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.07,
            },
            severity="critical",
            gain=(1.4, 2.0),
        ),
        Case(
            "items that wait, which workers could do as well",
            {
                **HEAVY,
                "loader.producer_cpu_s": 0.002,
                "dataset.item_cpu_s": 0.0001,
                "dataset.item_blocked_s": 0.0019,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case("one epoch", {**HEAVY, "loader.epochs": 1}),
        Case("random augmentation", {**HEAVY, "dataset.repeatable": False}),
        Case("a draw that changed nothing", {**HEAVY, "dataset.draws_random_numbers": True}),
        Case(
            "images that are decoded far too large: data-decode-oversize says so",
            {
                **HEAVY,
                "dataset.decoded_pixels": 260000.0,
                "dataset.delivered_pixels": 4096.0,
                "dataset.decode_s": 0.0008,
                "dataset.resize_s": 0.0004,
            },
        ),
        Case("more than fits into memory", {**HEAVY, "dataset.bytes": 5e9}),
        Case(
            "cheap items",
            {**HEAVY, "dataset.item_s": 0.00004, "dataset.batch_s": 0.00135},
        ),
        Case("workers hide it", {**HEAVY, "step.data_wait_share": (0.02, 0.015, 0.025)}),
    )

    min_item_s = 1e-4
    """Seconds per item, on a CPU unless it waits; looking one up and copying it into the batch
    takes some microseconds (a starting value)."""
    min_share = 0.05
    """Share of the step; XProf calls an input-bound step moderate from 5 %."""
    max_memory_use = 0.5
    """Part of the free memory that a cache may take."""
    min_epochs = 2
    """Epochs begun; with one nothing is repeated."""
    min_blocked_part = 0.5
    """Part of an item's time; above, the item waits rather than computes."""
    oversized_pixels, min_decoding_part = 4.0, 0.5
    """Pixels decoded over pixels used, and part of an item: above both, images are too large."""
    cached_part_left = 0.2
    """What a cached item may cost at worst, as a part of preparing it: reading it back."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Asks whether the items could be kept, and what their preparing costs."""
        cost = BatchCost.of(signals)
        item_s = needed(signals, "dataset.item_s")
        epochs = needed(signals, "loader.epochs")
        free = free_memory(signals)
        waits = (number(signals, "dataset.item_blocked_s") or 0.0) > self.min_blocked_part * item_s
        cpu_s = number(signals, "dataset.item_cpu_s")
        working_s = item_s if waits or cpu_s is None else min(cpu_s, item_s)
        if cost is None or free is None or working_s < self.min_item_s or epochs < self.min_epochs:
            return
        if self._decodes_too_much(signals, item_s):
            return
        same = is_on(signals, "dataset.repeatable")
        if not same or is_on(signals, "dataset.draws_random_numbers"):
            return
        if needed(signals, "dataset.bytes") > self.max_memory_use * free:
            return
        part = cost.part(cost.batch_s - needed(signals, "dataset.collate_s"))
        share, share_low = cost.share(part)
        if share < self.min_share:
            return
        repeats = (epochs - 1.0) / epochs
        total = needed(signals, "dataset.bytes")
        yield Candidate(
            summary=(
                f"A sample takes {duration(item_s)} to prepare and comes out the same each time: "
                f"{percent(share)} of the step goes into repeating it; all of them take "
                f"{size(total)}."
            ),
            evidence=(
                *observed(signals, "step.data_wait_share"),
                *observed(signals, "dataset.item_s", self.min_item_s),
                *observed(signals, "dataset.repeatable"),
                *observed(signals, "dataset.draws_random_numbers"),
                *observed(signals, "dataset.bytes", self.max_memory_use * free),
                *observed(signals, "loader.epochs", self.min_epochs),
            ),
            share=share,
            share_low=share_low,
            gain=cost.gain(part, 1.0 / self.cached_part_left, 1e3, repeats),
            where=place(signals, "loader.dataset_where") or place(signals, "loader.where"),
            fixes=(self._advice(signals, total),),
            confidence="medium",
            max_severity="info" if waits and cost.more_workers_would_help else "critical",
        )

    def _decodes_too_much(self, signals: Signals, item_s: float) -> bool:
        """Whether most of an item is decoding and shrinking images that are far too large."""
        decoded = number(signals, "dataset.decoded_pixels") or 0.0
        delivered = number(signals, "dataset.delivered_pixels") or 1.0
        decode_s = number(signals, "dataset.decode_s") or 0.0
        resize_s = number(signals, "dataset.resize_s") or 0.0
        too_large = decoded >= self.oversized_pixels * delivered
        return too_large and decode_s + resize_s > self.min_decoding_part * item_s

    def _advice(self, signals: Signals, total: float) -> FixAdvice:
        workers = needed(signals, "loader.num_workers") > 0
        where = " before the workers start" if workers else ""
        return FixAdvice(
            fix="dataset-cache",
            params={"bytes": round(total)},
            safety="safe",
            text=f"Keep the prepared samples ({size(total)}): make them once{where}, and let "
            "__getitem__ look them up.",
            code="self.items = [self.prepare(i) for i in range(len(self))]  # in __init__",
        )
