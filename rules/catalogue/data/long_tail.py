"""data-long-tail."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.loader_model import Waiting, queued_by_the_machine, replayed_share
from trainprof.rules.reading import (
    amdahl,
    duration,
    has_workers,
    is_on,
    needed,
    number,
    observed,
    percent,
    place,
)
from trainprof.rules.rule import Candidate, Case, Rule

REPLAYS = ("loader.replay_s", "loader.replay_even_s", "loader.replay_prefetch8_s")
LOOP_TIMES = (
    "loader.producer_tail_part",
    "loader.producer_wall_s",
    "loader.consumer_s",
    "host.usable_cores",
)
"""What is looked at with workers, and without."""


class LongTail(Rule):
    """A few samples take very long, and batches that are ready wait behind them.

    ## What it finds
    Loader workers (or, without workers, the loop itself) that are fast enough on average, but every
    now and then need many times as long for a batch: a huge image, a long document, a file that is
    read over and over.

    ## Why it costs time
    Batches are delivered in the sampler's order. While one worker is held up, the others go on
    until each has made the batches that it may make ahead (`prefetch_factor`, 2 by default), and
    then all wait for the slow one. The time beyond what was made ahead is lost.

    ## Evidence needed
    - Batches come in order, and the slowest hundredth of them takes at least three times as long as
      the median one.
    - Without workers: at least 3 % of the step is the part of making batches that lies beyond three
      times the median batch.
    - With workers: the loader, replayed with the measured time of each batch, loses at least 3 % of
      the time to batches slower than 95 % of them, and shows the waiting that was measured, within
      a factor of two.
    - Making more batches ahead (`prefetch_factor=8`) would give back less than half of that: else
      data-prefetch-jitter speaks.

    Gain: T / T' with T' = T (1 - s), s the replayed loss as a share, at most the share of the step
    spent waiting. The upper end of the interval takes all of s, the lower end half of it.

    ## Fix
    Make the slow samples cheaper, once and not in each epoch: scale, cut, decode or filter them
    offline. Where samples differ by their nature, put those of like cost into one batch (a batch
    sampler over a cost known before, such as the file's size). `DataLoader(..., in_order=False)`
    (torch 2.6 or newer) lets ready batches pass.

    ## Fix safety
    Numerics where samples are prepared offline. `in_order=False` and batch samplers by cost are
    **semantics**: the order of samples depends on how long each takes, so that runs differ.

    ## When it is wrong
    - Silent where workers are too few on average (data-workers-under), and where the wait falls on
      the start of epochs (data-persistent).
    - Workers that queue for a CPU are held up as well: where queueing is a fifth of a batch's time
      this is at most a note.
    - A single slow batch (the first read of a file that stays in memory) is no tail: at least 50
      batches are looked at, and one in a hundred of them has to be slow.

    ## References
    - torch.utils.data, in_order: https://docs.pytorch.org/docs/stable/data.html
    - Mohan et al., Analyzing and mitigating data stalls in DNN training:
      https://arxiv.org/abs/2007.06775
    """

    id = "data-long-tail"
    title = "A few slow samples hold up the loader"
    needs = (
        "step.data_wait_share",
        "loader.num_workers",
        "loader.producer_median_s",
        "loader.producer_p99_s",
    )
    suppresses = ("data-workers-under",)
    fires_on = (
        Case(
            "one batch in seventy takes 80 times as long",
            {
                "step.data_wait_share": (0.45, 0.4, 0.5),
                "loader.num_workers": 2,
                "loader.in_order": True,
                "loader.replay_s": 0.0112,
                "loader.replay_even_s": 0.0062,
                "loader.replay_prefetch8_s": 0.0102,
                "loader.producer_median_s": 0.0045,
                "loader.producer_p99_s": 0.4,
                "loader.producer_wall_s": 0.011,
                "loader.producer_queued_s": 0.0002,
                "loader.dataset_where": {"file": "data.py", "line": 12},
            },
            severity="critical",
            gain=(1.3, 1.9),
        ),
        Case(
            "no workers, and one document in two hundred is 800 times as long",
            {
                "step.data_wait_share": (0.71, 0.5, 0.85),
                "loader.num_workers": 0,
                "loader.in_order": True,
                "loader.producer_wall_s": 0.0038,
                "loader.producer_cpu_s": 0.0036,
                "loader.producer_median_s": 0.00085,
                "loader.producer_p99_s": 0.059,
                "loader.producer_tail_part": 0.75,
                "loader.consumer_s": 0.0015,
                "loader.dataset_where": {"file": "data.py", "line": 12},
                "host.usable_cores": 2.0,
            },
            severity="critical",
            gain=(1.3, 2.1),
        ),
    )
    silent_on = (
        Case(
            "no workers, batches that differ by half",
            {
                "step.data_wait_share": (0.5, 0.48, 0.52),
                "loader.num_workers": 0,
                "loader.producer_wall_s": 0.0038,
                "loader.producer_median_s": 0.0037,
                "loader.producer_p99_s": 0.0056,
                "loader.producer_tail_part": 0.0,
                "loader.consumer_s": 0.0038,
                "host.usable_cores": 2.0,
            },
        ),
        Case(
            "batches that differ by half",
            {
                "step.data_wait_share": (0.08, 0.07, 0.09),
                "loader.num_workers": 2,
                "loader.replay_s": 0.0066,
                "loader.replay_even_s": 0.0064,
                "loader.replay_prefetch8_s": 0.0062,
                "loader.producer_median_s": 0.01,
                "loader.producer_p99_s": 0.016,
            },
        ),
        Case(
            "slow batches that deeper prefetching hides",
            {
                "step.data_wait_share": (0.4, 0.37, 0.43),
                "loader.num_workers": 2,
                "loader.replay_s": 0.01,
                "loader.replay_even_s": 0.0062,
                "loader.replay_prefetch8_s": 0.0066,
                "loader.producer_median_s": 0.0045,
                "loader.producer_p99_s": 0.06,
            },
        ),
        Case(
            "a tail that the loop never waits for",
            {
                "step.data_wait_share": (0.01, 0.008, 0.012),
                "loader.num_workers": 4,
                "loader.replay_s": 0.02,
                "loader.replay_even_s": 0.0199,
                "loader.replay_prefetch8_s": 0.0199,
                "loader.producer_median_s": 0.0045,
                "loader.producer_p99_s": 0.05,
            },
        ),
        Case(
            "batches may be delivered out of order already",
            {
                "step.data_wait_share": (0.45, 0.4, 0.5),
                "loader.num_workers": 2,
                "loader.in_order": False,
                "loader.replay_s": 0.0112,
                "loader.replay_even_s": 0.0062,
                "loader.replay_prefetch8_s": 0.0102,
                "loader.producer_median_s": 0.0045,
                "loader.producer_p99_s": 0.4,
            },
        ),
        Case(
            "the whole wait lies at the start of epochs",
            {
                "step.data_wait_share": (0.45, 0.4, 0.5),
                "loader.start_share": 0.44,
                "loader.num_workers": 2,
                "loader.replay_s": 0.0112,
                "loader.replay_even_s": 0.0062,
                "loader.replay_prefetch8_s": 0.0102,
                "loader.producer_median_s": 0.0045,
                "loader.producer_p99_s": 0.4,
            },
        ),
    )

    min_tail_ratio = 3.0
    """99th percentile over median of the time of a batch. A single item ten times as slow as the
    others is hardly seen in a batch of 32 (a starting value)."""
    min_lost_share = 0.03
    """Share of the step; the same as the engine's gate for a note."""
    hidden_part = 0.5
    """Part of the loss that deeper prefetching gives back; from here on it is the better advice."""
    least_of_gain = 0.5
    """Part of the loss that the lower end of the gain counts on (a starting value)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the loader with one whose slow batches are cut."""
        if signals.get("loader.in_order").value is False:
            return
        median_s = needed(signals, "loader.producer_median_s")
        p99_s = needed(signals, "loader.producer_p99_s")
        lost = self._lost_share(signals)
        if p99_s < self.min_tail_ratio * median_s or lost < self.min_lost_share:
            return
        disturbed = queued_by_the_machine(signals)
        yield Candidate(
            summary=(
                f"One batch in a hundred takes {duration(p99_s)} or more to make, the usual one "
                f"{duration(median_s)}; waiting for the slow ones takes {percent(lost)} of the "
                "step."
            ),
            evidence=(
                *observed(signals, "step.data_wait_share"),
                *observed(signals, "loader.producer_p99_s", self.min_tail_ratio * median_s),
                *observed(signals, "loader.producer_median_s"),
                *observed(signals, "loader.producer_tail_part"),
                *observed(signals, "loader.replay_s"),
                *observed(signals, "loader.replay_even_s"),
                *observed(signals, "loader.replay_prefetch8_s"),
                *observed(signals, "loader.num_workers"),
            ),
            share=lost,
            gain=Gain(amdahl(self.least_of_gain * lost), amdahl(lost)),
            where=place(signals, "loader.dataset_where") or place(signals, "loader.where"),
            fixes=self._advice(signals),
            confidence="low" if disturbed else "medium",
            max_severity="info" if disturbed else "critical",
        )

    def _lost_share(self, signals: Signals) -> float:
        """Share of the step that goes into waiting for slow batches.

        With workers by replay, and nothing where deeper prefetching hides most of it. Without, the
        loop waits for every batch itself: the part of the making that is beyond three medians.
        """
        wanted = REPLAYS if has_workers(signals) else LOOP_TIMES
        if any(number(signals, name) is None for name in wanted):
            return 0.0
        if not has_workers(signals):
            tail = needed(signals, "loader.producer_tail_part")
            return Waiting.of_run(signals).share * tail
        lost = replayed_share(signals, "loader.replay_even_s")
        hidden = replayed_share(signals, "loader.replay_prefetch8_s")
        return 0.0 if hidden >= self.hidden_part * lost else lost

    @staticmethod
    def _advice(signals: Signals) -> tuple[FixAdvice, ...]:
        cheaper = FixAdvice(
            fix="dataset-even",
            params={},
            safety="numerics",
            text="Find the samples that take long and prepare them once, before the training: "
            "scale, cut, decode or leave them out.",
        )
        if is_on(signals, "loader.iterable") or not has_workers(signals):
            return (cheaper,)
        return (
            cheaper,
            FixAdvice(
                fix="loader-order",
                params={"in_order": False},
                safety="semantics",
                text="Let ready batches pass the slow ones; the order of samples then differs "
                "from run to run.",
                code="DataLoader(…, in_order=False)",
            ),
        )
