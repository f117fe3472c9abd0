"""data-transform-cost."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.batch_cost import NEEDS, BatchCost
from trainprof.rules.reading import (
    duration,
    needed,
    number,
    observed,
    percent,
    place,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule

WARP = {
    "step.data_wait_share": (0.6, 0.58, 0.62),
    "loader.num_workers": 2,
    "loader.producer_wall_s": 0.11,
    "loader.producer_cpu_s": 0.1,
    "loader.consumer_s": 0.02,
    "loader.consumer_cpu_s": 0.02,
    "loader.dataset_where": {"file": "train.py", "line": 14},
    "host.usable_cores": 2.0,
    "dataset.batch_s": 0.1,
    "dataset.batch_size": 32,
    "dataset.item_s": 0.0031,
    "dataset.item_blocked_s": 0.0,
    "dataset.item_token_s": 0.0,
    "dataset.part": "ElasticWarp.__call__",
    "dataset.part_s": 0.0024,
    "dataset.part_where": {"file": "train.py", "line": 22},
}


class TransformCost(Rule):
    """One transform takes most of the time of preparing a sample.

    ## What it finds
    An augmentation or another step of `__getitem__` (or of the chain of transforms
    that it calls) that takes a third or more of a batch's time, while the training waits for
    batches and no core is left for more workers.

    ## Why it costs time
    Every sample passes through it, in every epoch. Written for one sample in Python, or for floats
    where bytes would do, it often does several times the work that is needed.

    ## Evidence needed
    - The dataset probe watched the calls of a few items, the cost of watching taken out: one call
      made by `__getitem__` takes at least 30 % of a batch's time. Reading files and tokenizing have
      rules of their own and do not count.
    - It takes at least 0.2 ms; items compute rather than wait; and at least 10 % of the step goes
      with that call.

    The interval: the transform becomes 1.5 to 5 times cheaper, which is what vectorised or batched
    forms of common transforms reach; it is a range from experience, not a measurement of yours.

    ## Fix
    Do it for a whole batch at once (after collating, on the accelerator where there is one); keep
    images as bytes until then; take a compiled form (torchvision's v2 transforms on uint8 tensors,
    albumentations, numpy or torch operations instead of a Python loop). What is the same in each
    epoch belongs before the first random step, and can be kept.

    ## Fix safety
    Numerics: another implementation rounds otherwise, and draws its random numbers in
    another order.

    ## When it is wrong
    - Items that come out the same each time need not be prepared again at all: then data-cacheable
      says so.
    - Cores are idle: more workers are the smaller change (data-workers-under), and this is a note.
    - Transforms in C++ threads of a library's own are not seen as calls.

    ## References
    - Tuning guide: https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - torchvision, performance considerations of transforms v2:
      https://docs.pytorch.org/vision/stable/transforms.html#performance-considerations
    - Mohan et al., Analyzing and mitigating data stalls in DNN training:
      https://arxiv.org/abs/2007.06775
    """

    id = "data-transform-cost"
    title = "One transform takes most of preparing a sample"
    needs = (
        *NEEDS,
        "dataset.batch_size",
        "dataset.item_s",
        "dataset.item_blocked_s",
        "dataset.part",
        "dataset.part_s",
    )
    suppresses = ("data-workers-under",)
    fires_on = (
        Case("a warp in two busy workers", WARP, severity="critical", gain=(1.3, 2.0)),
        Case(
            "the same with a core to spare",
            {**WARP, "loader.num_workers": 0, "host.usable_cores": 8.0},
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "cheap items, whose largest part is a copy",
            {**WARP, "dataset.item_s": 4e-5, "dataset.part_s": 3.4e-5, "dataset.batch_s": 0.0013},
        ),
        Case("many small steps", {**WARP, "dataset.part_s": 0.0008}),
        Case("items that wait", {**WARP, "dataset.item_blocked_s": 0.002}),
        Case("it makes numbers of text", {**WARP, "dataset.item_token_s": 0.0024}),
        Case("workers keep up", {**WARP, "step.data_wait_share": (0.03, 0.02, 0.04)}),
    )

    min_part = 0.30
    """Of a batch's time (a starting value)."""
    min_part_s = 2e-4
    """Seconds per item; of less there is little to rewrite (a starting value)."""
    min_share = 0.10
    """Share of the step; below, a transform is not what bounds the training."""
    max_blocked_part = 0.5
    """Of an item's time; above, it waits rather than computes."""
    ratio_low, ratio_high = 1.5, 5.0
    """Old over new time of a transform that is rewritten (from experience)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the call that takes most of an item."""
        cost = BatchCost.of(signals)
        item_s, part_s = needed(signals, "dataset.item_s"), needed(signals, "dataset.part_s")
        blocked_s = needed(signals, "dataset.item_blocked_s")
        if cost is None or part_s < self.min_part_s or blocked_s > self.max_blocked_part * item_s:
            return
        if (number(signals, "dataset.item_token_s") or 0.0) > part_s / 2:
            return
        part = cost.part(needed(signals, "dataset.batch_size") * part_s)
        share, share_low = cost.share(part)
        if part < self.min_part or share < self.min_share:
            return
        name = text(signals, "dataset.part") or "one call"
        yield Candidate(
            summary=(
                f"{name} takes {duration(part_s)} of the {duration(item_s)} that a sample takes: "
                f"{percent(part)} of preparing a batch, {percent(share)} of the step."
            ),
            evidence=(
                *observed(signals, "step.data_wait_share"),
                *observed(signals, "dataset.part"),
                *observed(signals, "dataset.part_s"),
                *observed(signals, "dataset.item_s"),
                *observed(signals, "dataset.batch_s"),
            ),
            share=share,
            share_low=share_low,
            gain=cost.gain(part, self.ratio_low, self.ratio_high),
            where=place(signals, "dataset.part_where") or place(signals, "loader.dataset_where"),
            fixes=(
                FixAdvice(
                    fix="transform-cheaper",
                    params={"part": name},
                    safety="numerics",
                    text="Make this step cheaper: for a whole batch at once, on bytes instead of "
                    "floats, or by a compiled form of it.",
                ),
            ),
            max_severity="info" if cost.more_workers_would_help else "critical",
        )
