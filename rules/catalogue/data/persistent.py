"""data-persistent."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    duration,
    is_on,
    low,
    needed,
    number,
    observed,
    percent,
    place,
    plural,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule


class Persistent(Rule):
    """Loader workers are started anew for each epoch, and training waits until they deliver.

    ## What it finds
    A DataLoader with workers whose processes end with the epoch (`persistent_workers=False`, the
    default), or one that is constructed anew in each epoch, so that its workers cannot live on.

    ## Why it costs time
    At each start W processes are forked or spawned, import what they need, unpickle the data set,
    open its files; then the pipeline is empty and the first batch takes its full time. A fork costs
    tens of milliseconds, spawning seconds, a large index minutes: one project went from seven
    minutes to 35 s per epoch.

    ## Evidence needed
    - Workers are in use and were started at least twice.
    - Waiting for the first batch of epochs, beyond what a batch usually takes, costs at least 3 %
      of the time.

    The upper end of the interval is Amdahl's bound on these waits and, while the pipeline fills
    (twice the batches that workers prepare ahead), on the further ones. Below, two things stay: the
    first epoch's start and one batch's production at each epoch's start. Measured with two workers
    and epochs of eight batches: 3.8 times faster [3.1, 5.3].

    ## Fix
    `DataLoader(..., persistent_workers=True)`, and make the loader once, before the loop over
    epochs.
    Where making a batch in the loop takes less than waiting for it, loading without workers is
    worth a trial too.

    ## Fix safety
    Numerics: a loader whose workers persist draws one seed in all instead of one per epoch from the
    main generator, so shuffling, and whatever else draws from it, takes another random course from
    the second epoch on. It is **semantics** where the main process changes the data set between
    epochs (`dataset.set_epoch()`, a curriculum): persistent workers keep their old copy.
    `sampler.set_epoch()` is fine, since samplers run in the main process.

    ## When it is wrong
    Silent without workers, for a single epoch, and where epochs are long against the start. Workers
    of several loaders (training, validation) stay alive beside each other and keep their memory:
    where little is free, trainprof says so. Where workers are not worth having at all,
    data-workers-needless speaks instead.

    ## References
    - torch.utils.data, persistent_workers: https://docs.pytorch.org/docs/stable/data.html
    - Slow start of each epoch: https://github.com/pytorch/pytorch/issues/15849
    - Why one seed is drawn per epoch for any number of workers:
      https://github.com/pytorch/pytorch/pull/12935
    - Lightning, "Persistent workers":
      https://lightning.ai/docs/pytorch/stable/advanced/speed.html
    """

    id = "data-persistent"
    title = "Loader workers start anew for each epoch"
    needs = ("loader.num_workers", "loader.start_share", "loader.iterators_made")
    suppresses = ("data-workers-under",)
    fires_on = (
        Case(
            "epochs of eight batches, two workers forked for each",
            {
                "loader.num_workers": 2,
                "loader.persistent_workers": False,
                "loader.start_share": (0.7, 0.66, 0.74),
                "loader.start_s": 0.09,
                "loader.producer_wall_s": 0.004,
                "loader.iterators_made": 12,
                "loader.loaders_made": 1,
                "loader.batches_per_epoch": 8.0,
                "loader.prefetch_factor": 2,
                "step.data_wait_share": (0.8, 0.77, 0.83),
                "loader.where": {"file": "train.py", "line": 63},
            },
            severity="critical",
            gain=(2.2, 3.8),
        ),
        Case(
            "a new DataLoader in each epoch discards its persistent workers",
            {
                "loader.num_workers": 2,
                "loader.persistent_workers": True,
                "loader.start_share": (0.15, 0.12, 0.18),
                "loader.start_s": 0.1,
                "loader.iterators_made": 10,
                "loader.loaders_made": 10,
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case(
            "no workers",
            {
                "loader.num_workers": 0,
                "loader.start_share": 0.05,
                "loader.iterators_made": 10,
                "loader.loaders_made": 1,
            },
        ),
        Case(
            "a single epoch",
            {
                "loader.num_workers": 2,
                "loader.persistent_workers": False,
                "loader.start_share": 0.2,
                "loader.iterators_made": 1,
                "loader.loaders_made": 1,
            },
        ),
        Case(
            "persistent workers already",
            {
                "loader.num_workers": 2,
                "loader.persistent_workers": True,
                "loader.start_share": 0.04,
                "loader.iterators_made": 10,
                "loader.loaders_made": 1,
            },
        ),
        Case(
            "long epochs",
            {
                "loader.num_workers": 2,
                "loader.persistent_workers": False,
                "loader.start_share": (0.004, 0.003, 0.005),
                "loader.iterators_made": 10,
                "loader.loaders_made": 1,
            },
        ),
    )

    min_start_share = 0.03
    """Share of the time; the same as the engine's gate for a note."""
    min_starts = 2
    """With one start only there is nothing that could persist."""
    scarce_memory_bytes = 2.0 * 2**30
    """Less free memory than this deserves a word on workers that stay alive (a starting value)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Weighs the starts of epochs against the whole."""
        share = needed(signals, "loader.start_share")
        workers = int(needed(signals, "loader.num_workers"))
        starts = int(needed(signals, "loader.iterators_made"))
        rebuilt = (number(signals, "loader.loaders_made") or 1.0) >= self.min_starts
        if workers == 0 or starts < self.min_starts or share < self.min_start_share:
            return
        if is_on(signals, "loader.persistent_workers") and not rebuilt:
            return
        share_low = low(signals, "loader.start_share") or 0.0
        start_s = number(signals, "loader.start_s")
        each = "" if start_s is None else f", {duration(start_s)} each time"
        yield Candidate(
            summary=(
                f"{plural(workers, 'worker').capitalize()} {'was' if workers == 1 else 'were'} "
                f"started {starts} times{each}; waiting for their first batches takes "
                f"{percent(share)} of the time."
            ),
            evidence=(
                *observed(signals, "loader.start_share", self.min_start_share),
                *observed(signals, "loader.start_s"),
                *observed(signals, "loader.iterators_made", self.min_starts),
                *observed(signals, "loader.loaders_made"),
                *observed(signals, "loader.persistent_workers", True),
                *observed(signals, "loader.num_workers"),
            ),
            share=share,
            share_low=share_low,
            gain=self._gain(signals, share_low, share, starts),
            where=place(signals, "loader.where"),
            fixes=(self._advice(signals, rebuilt), *self._without_workers(signals, share)),
            confidence="high",
        )

    @staticmethod
    def _gain(signals: Signals, share_low: float, share: float, starts: int) -> Gain:
        start_s = number(signals, "loader.start_s")
        produce_s = number(signals, "loader.producer_wall_s") or 0.0
        refill = min(produce_s / start_s, 1.0) if start_s else 0.0
        further = max((number(signals, "step.data_wait_share") or share) - share, 0.0)
        return Gain(
            amdahl(share_low * (1.0 - refill) * (starts - 1) / starts),
            amdahl(share + _filling(signals) * further),
        )

    def _advice(self, signals: Signals, rebuilt: bool) -> FixAdvice:
        text = "Let the workers live on between epochs."
        if rebuilt:
            text = "Make the DataLoader once, before the loop over epochs, and let its workers live"
            text += " on."
        free = number(signals, "host.memory_available_bytes")
        if free is not None and free < self.scarce_memory_bytes:
            text += " They keep their memory meanwhile, and little is free here."
        return FixAdvice(
            fix="loader-kept" if rebuilt else "loader-workers",
            params={} if rebuilt else {"persistent_workers": True},
            safety="numerics",
            text=text,
            code="DataLoader(…, persistent_workers=True)",
        )

    @staticmethod
    def _without_workers(signals: Signals, share: float) -> Iterator[FixAdvice]:
        """Worth a trial where making a batch in the loop takes less than waiting for it does."""
        wait = number(signals, "step.data_wait_share")
        produce_s = number(signals, "loader.producer_wall_s")
        step_s = number(signals, "step.mean_s")
        if wait is None or produce_s is None or not step_s or not trains_on_cpu(signals):
            return
        if wait - produce_s / step_s > share:
            yield FixAdvice(
                fix="loader-workers",
                params={"num_workers": 0},
                safety="numerics",
                text="Or load without workers: making a batch takes less than waiting for it.",
                code="DataLoader(…, num_workers=0)",
            )


def _filling(signals: Signals) -> float:
    """Part of an epoch in which the pipeline is still filling after a start, 0..1."""
    batches = number(signals, "loader.batches_per_epoch")
    workers = number(signals, "loader.num_workers") or 0.0
    ahead = workers * (number(signals, "loader.prefetch_factor") or 2.0)
    return min(2.0 * ahead / batches, 1.0) if batches else 0.0
