"""data-prefetch-jitter."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.loader_model import queued_by_the_machine, replayed_share
from trainprof.rules.reading import (
    amdahl,
    has_workers,
    needed,
    number,
    observed,
    percent,
    place,
    plural,
    size,
)
from trainprof.rules.rule import Candidate, Case, Rule


class PrefetchJitter(Rule):
    """Workers are fast enough on average, but too few batches lie ready to bridge the slow ones.

    ## What it finds
    A loader whose workers make more batches than the training uses, and which the training waits
    for all the same, because the time of a batch varies and hardly any are made ahead.

    ## Why it costs time
    At most `num_workers * prefetch_factor` batches are under way or ready. When some take long (a
    new file is opened, a server is slow for a moment) the store runs dry and the training stands
    still; when they are quick again the store is full and the workers stand still. What one side
    loses the other cannot make up for.

    ## Evidence needed
    - At least 5 % of the step is spent waiting in mid epoch, although the workers could make 1.2
      times as many batches as the loop uses.
    - The loader, replayed with the measured time of each batch, shows that waiting, and shows at
      least 3 % less time with `prefetch_factor` 4 or 8.
    - That is at least half of what slow batches cost: else data-long-tail speaks.

    Gain: T / T' with T' = T (1 - s), s the share of the time that the replay saves, at most the
    share spent waiting. The lower end of the interval counts on half of s.

    ## Fix
    `DataLoader(..., prefetch_factor=F)`, F the smaller of 4 and 8 that saves (nearly) as much.

    ## Fix safety
    Safe: the same batches in the same order, only sooner.

    ## When it is wrong
    - More batches ahead need memory, and shared memory for their way to the training: silent where
      they would take more than a tenth of either.
    - Silent where the wait falls on the start of epochs (data-persistent) and where workers are
      too few on average (data-workers-under).
    - Workers that queue for a CPU deliver unevenly as well: where queueing is a fifth of a batch's
      time this is at most a note.

    ## References
    - torch.utils.data, prefetch_factor: https://docs.pytorch.org/docs/stable/data.html
    - Murray et al., tf.data, on prefetching against variance: https://arxiv.org/abs/2101.12127
    """

    id = "data-prefetch-jitter"
    title = "Too few batches ready to bridge slow ones"
    needs = (
        "step.data_wait_share",
        "loader.num_workers",
        "loader.supply_ratio",
        "loader.replay_s",
        "loader.replay_even_s",
        "loader.replay_prefetch4_s",
        "loader.replay_prefetch8_s",
    )
    suppresses = ("data-workers-under",)
    fires_on = (
        Case(
            "every 16th batch opens a new file",
            {
                "step.data_wait_share": (0.3, 0.28, 0.32),
                "loader.num_workers": 2,
                "loader.prefetch_factor": 2,
                "loader.supply_ratio": 1.5,
                "loader.replay_s": 0.0088,
                "loader.replay_even_s": 0.0063,
                "loader.replay_prefetch4_s": 0.0075,
                "loader.replay_prefetch8_s": 0.0064,
                "loader.producer_wall_s": 0.008,
                "loader.producer_queued_s": 0.0001,
                "batch.bytes": 100_000,
                "host.memory_available_bytes": 8e9,
                "host.shm_free_bytes": 1e9,
            },
            severity="critical",
            gain=(1.1, 1.4),
        ),
    )
    silent_on = (
        Case(
            "too few workers on average",
            {
                "step.data_wait_share": (0.5, 0.48, 0.52),
                "loader.num_workers": 2,
                "loader.supply_ratio": 0.5,
                "loader.replay_s": 0.012,
                "loader.replay_even_s": 0.0118,
                "loader.replay_prefetch4_s": 0.0118,
                "loader.replay_prefetch8_s": 0.0116,
            },
        ),
        Case(
            "uneven batches that the store bridges",
            {
                "step.data_wait_share": (0.02, 0.018, 0.022),
                "loader.num_workers": 4,
                "loader.supply_ratio": 1.6,
                "loader.replay_s": 0.0063,
                "loader.replay_even_s": 0.0062,
                "loader.replay_prefetch4_s": 0.0062,
                "loader.replay_prefetch8_s": 0.0062,
            },
        ),
        Case(
            "stragglers too slow to be bridged",
            {
                "step.data_wait_share": (0.45, 0.4, 0.5),
                "loader.num_workers": 2,
                "loader.supply_ratio": 1.3,
                "loader.replay_s": 0.0112,
                "loader.replay_even_s": 0.0062,
                "loader.replay_prefetch4_s": 0.0109,
                "loader.replay_prefetch8_s": 0.0102,
            },
        ),
        Case(
            "batches so large that more of them do not fit",
            {
                "step.data_wait_share": (0.3, 0.28, 0.32),
                "loader.num_workers": 2,
                "loader.supply_ratio": 1.5,
                "loader.replay_s": 0.0088,
                "loader.replay_even_s": 0.0063,
                "loader.replay_prefetch4_s": 0.0075,
                "loader.replay_prefetch8_s": 0.0064,
                "batch.bytes": 100_000_000,
                "host.memory_available_bytes": 8e9,
                "host.shm_free_bytes": 1e9,
            },
        ),
        Case(
            "eight batches ahead already",
            {
                "step.data_wait_share": (0.3, 0.28, 0.32),
                "loader.num_workers": 2,
                "loader.prefetch_factor": 8,
                "loader.supply_ratio": 1.5,
                "loader.replay_s": 0.0088,
                "loader.replay_even_s": 0.0063,
                "loader.replay_prefetch4_s": 0.0088,
                "loader.replay_prefetch8_s": 0.0088,
            },
        ),
    )

    min_wait_share = 0.05
    """Share of the step; XProf calls an input-bound step moderate from 5 %."""
    min_supply_ratio = 1.2
    """Batches made over batches used; below it the workers are too few (a starting value)."""
    min_saved_share = 0.03
    """Share of the step; the same as the engine's gate for a note."""
    min_part_of_tail = 0.5
    """Part of what slow batches cost that more batches ahead have to give back."""
    max_memory_use = 0.10
    """Part of the free memory, and of the free shared memory, for the batches ahead."""
    nearly_as_good = 0.8
    """Part of what 8 saves that makes 4 the better choice (a starting value)."""
    least_of_gain = 0.5
    """Part of the saving that the lower end of the gain counts on (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """There are workers."""
        return has_workers(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Asks the replay what more batches ahead would give."""
        wait = needed(signals, "step.data_wait_share") - (
            number(signals, "loader.start_share") or 0
        )
        supply = needed(signals, "loader.supply_ratio")
        if wait < self.min_wait_share or supply < self.min_supply_ratio:
            return
        saved = {
            factor: replayed_share(signals, f"loader.replay_prefetch{factor}_s")
            for factor in (4, 8)
            if self._fits(signals, factor)
        }
        if not saved or max(saved.values()) < self.min_saved_share:
            return
        best = max(saved.values())
        if best < self.min_part_of_tail * replayed_share(signals, "loader.replay_even_s"):
            return
        factor = min(one for one in saved if saved[one] >= self.nearly_as_good * best)
        disturbed = queued_by_the_machine(signals)
        yield Candidate(
            summary=(
                f"The training waits for batches for {percent(wait)} of the step, although its "
                f"workers could make {supply:.2g} times as many: batches come unevenly, and "
                f"{self._ahead(signals)} at most are made ahead."
            ),
            evidence=(
                *observed(signals, "step.data_wait_share", self.min_wait_share, "XProf"),
                *observed(signals, "loader.supply_ratio", self.min_supply_ratio),
                *observed(signals, "loader.replay_s"),
                *observed(signals, f"loader.replay_prefetch{factor}_s"),
                *observed(signals, "loader.prefetch_factor"),
                *observed(signals, "loader.num_workers"),
                *observed(signals, "batch.bytes"),
            ),
            share=saved[factor],
            gain=Gain(amdahl(self.least_of_gain * saved[factor]), amdahl(saved[factor])),
            where=place(signals, "loader.where"),
            fixes=(self._advice(signals, factor),),
            confidence="low" if disturbed else "medium",
            max_severity="info" if disturbed else "critical",
        )

    def _fits(self, signals: Signals, factor: int) -> bool:
        needed_bytes = self._bytes_ahead(signals, factor)
        free = (number(signals, f"host.{name}_bytes") for name in ("memory_available", "shm_free"))
        return all(one is None or needed_bytes <= self.max_memory_use * one for one in free)

    @staticmethod
    def _bytes_ahead(signals: Signals, factor: int) -> float:
        batch = number(signals, "batch.bytes") or 0.0
        return factor * needed(signals, "loader.num_workers") * batch

    @staticmethod
    def _ahead(signals: Signals) -> str:
        factor = number(signals, "loader.prefetch_factor") or 2.0
        return plural(int(factor * needed(signals, "loader.num_workers")), "batch").replace(
            "batchs", "batches"
        )

    def _advice(self, signals: Signals, factor: int) -> FixAdvice:
        memory = self._bytes_ahead(signals, factor)
        cost = f" They take {size(memory)}." if memory else ""
        return FixAdvice(
            fix="loader-prefetch",
            params={"prefetch_factor": factor},
            safety="safe",
            text=f"Let each worker make {factor} batches ahead.{cost}",
            code=f"DataLoader(…, prefetch_factor={factor})",
        )
