"""data-workers-needless."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.loader_model import HANDOVER_S, LoaderTimes
from trainprof.rules.reading import (
    amdahl,
    duration,
    low,
    needed,
    number,
    observed,
    percent,
    place,
    plural,
    text,
    trains_on_cpu,
)
from trainprof.rules.row_advice import batches_by_index
from trainprof.rules.rule import Candidate, Case, Rule


class WorkersNeedless(Rule):
    """Handing batches over from loader workers takes longer than making them in the loop.

    ## What it finds
    A DataLoader with workers over data so quick to fetch (tensors in memory, small arrays) that the
    training would be faster with `num_workers=0`.

    ## Why it costs time
    A batch from a worker is pickled, its tensors are moved to shared memory, a queue wakes the
    training process, which opens them again: 0.5 to 1 ms, however small the batch. On top of that
    workers take CPU from the training and must be started. If making the batch takes less than
    that, there is nothing to hide.

    ## Evidence needed
    - Workers are in use, and a batch takes a worker less than 1 ms, or less than a fifth of the
      time in which the loop uses it up, or nine of ten batches lay ready when they were asked for:
      what is waited for is then the handing over alone.
    - Waiting for batches (epoch starts not counted) costs at least 3 % of the step more than making
      them in the loop would: T(0) = t_c + t_p, with both measured.

    Where workers are started anew for each epoch, the time of that goes as well. The upper end of
    the interval also gives back the time that the training waited for a CPU while
    workers had it. Measured with tensors in memory: 1.51 times faster without workers [1.18, 1.56].

    ## Fix
    `num_workers=0`, that is: leave the argument out, and `persistent_workers`, `prefetch_factor`
    with it. Faster still for tensors in memory: shuffle indices and slice whole batches.

    ## Fix safety
    Safe for data sets that draw no random numbers: the order of samples comes from the main process
    either way. Else numerics: augmentation then draws from the main generator.

    ## When it is wrong
    Where threads queue for a CPU, no more is promised than handing over was measured to cost: the
    rest of the wait is the machine's. Silent where the model computes on an accelerator: there
    workers prepare while the device is
    busy and the host is free, so T(0) does not hold. A loader that is quick only while the page
    cache is warm, or in a short test, needs its workers in the real run.

    ## References
    - torch.utils.data, single- and multi-process loading:
      https://docs.pytorch.org/docs/stable/data.html
    - Tuning guide: https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    """

    id = "data-workers-needless"
    title = "Loader workers cost more than they give"
    needs = (
        "step.data_wait_share",
        "loader.num_workers",
        "loader.producer_wall_s",
        "loader.consumer_s",
    )
    suppresses = ("data-persistent", "data-workers-under")
    fires_on = (
        Case(
            "two workers serve tensors that are in memory",
            {
                "step.data_wait_share": (0.45, 0.42, 0.48),
                "step.run_queue_share": (0.04, 0.03, 0.05),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.0002,
                "loader.consumer_s": 0.001,
                "loader.dataset_type": "torch.utils.data.dataset.TensorDataset",
                "loader.where": {"file": "train.py", "line": 48},
                "model.devices": {"cpu": 1_000},
            },
            severity="critical",
            gain=(1.2, 1.8),
        ),
        Case(
            "the same on a machine whose CPUs are short",
            {
                "step.data_wait_share": (0.7, 0.67, 0.73),
                "step.run_queue_share": (0.46, 0.43, 0.49),
                "step.cpu_share": (0.25, 0.23, 0.27),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.0004,
                "loader.producer_cpu_s": 0.0002,
                "loader.consumer_s": 0.001,
                "loader.consumer_cpu_s": 0.0005,
                "host.usable_cores": 2.0,
            },
            severity="critical",
            gain=(1.6, 3.5),
        ),
        Case(
            "beside a busy neighbour, dictionaries that take long to hand over",
            {
                "step.data_wait_share": (0.72, 0.7, 0.74),
                "step.run_queue_share": (0.35, 0.34, 0.37),
                "step.cpu_share": (0.53, 0.51, 0.54),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.00115,
                "loader.producer_cpu_s": 0.001,
                "loader.producer_queued_s": 0.0003,
                "loader.producer_median_s": 0.00095,
                "loader.consumer_s": 0.0017,
                "loader.consumer_cpu_s": 0.0016,
                "loader.wait_cpu_s": 0.0019,
                "loader.starved_share": 0.0,
                "host.usable_cores": 2.0,
                "host.other_cores": 0.9,
            },
            severity="critical",
            gain=(1.3, 2.5),
        ),
        Case(
            "large batches of tensors in memory: always ready, and slow to hand over",
            {
                "step.data_wait_share": (0.42, 0.4, 0.44),
                "loader.start_share": 0.06,
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.0015,
                "loader.consumer_s": 0.006,
                "loader.starved_share": 0.0,
                "model.devices": {"cpu": 1_000},
            },
            severity="critical",
            gain=(1.2, 1.6),
        ),
    )
    silent_on = (
        Case(
            "batches that lie ready, and would take as long in the loop",
            {
                "step.data_wait_share": (0.2, 0.18, 0.22),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.0018,
                "loader.consumer_s": 0.007,
                "loader.starved_share": 0.0,
                "model.devices": {"cpu": 1_000},
            },
        ),
        Case(
            "no workers",
            {
                "step.data_wait_share": (0.45, 0.42, 0.48),
                "loader.num_workers": 0,
                "loader.producer_wall_s": 0.0002,
                "loader.consumer_s": 0.001,
            },
        ),
        Case(
            "workers that hide their work",
            {
                "step.data_wait_share": (0.02, 0.018, 0.022),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.0009,
                "loader.consumer_s": 0.01,
            },
        ),
        Case(
            "workers that are too slow, not needless",
            {
                "step.data_wait_share": (0.6, 0.57, 0.63),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.05,
                "loader.consumer_s": 0.01,
            },
        ),
        Case(
            "the model computes on an accelerator",
            {
                "step.data_wait_share": (0.3, 0.28, 0.32),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.0005,
                "loader.consumer_s": 0.002,
                "flags.accelerator": "cuda",
                "model.devices": {"cuda:0": 1_000},
            },
        ),
        Case(
            "workers that hide their work, but queue for a CPU behind other programs",
            {
                "step.data_wait_share": (0.25, 0.22, 0.28),
                "step.run_queue_share": (0.5, 0.46, 0.54),
                "step.cpu_share": (0.3, 0.28, 0.32),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.009,
                "loader.producer_cpu_s": 0.0032,
                "loader.producer_queued_s": 0.0056,
                "loader.producer_median_s": 0.0034,
                "loader.consumer_s": 0.047,
                "loader.consumer_cpu_s": 0.016,
                "host.usable_cores": 2.0,
                "host.other_cores": 1.6,
                "model.devices": {"cpu": 1_000},
            },
        ),
        Case(
            "all of the wait lies at the start of epochs",
            {
                "step.data_wait_share": (0.3, 0.28, 0.32),
                "loader.start_share": 0.28,
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.0008,
                "loader.consumer_s": 0.01,
            },
        ),
    )

    quick_batch_s = 1e-3
    """Upper end of what handing a small batch over was measured to cost (0.5 to 1 ms)."""
    quick_part_of_use = 0.2
    """t_p over t_c; below it preparing in the loop is a minor matter (a starting value)."""
    max_starved_share = 0.1
    """Asks that found no batch ready; so few, and the workers are not what is waited for (a
    starting value)."""
    min_saved_share = 0.03
    """Share of the step; the same as the engine's gate for a note."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the waiting with the time that making the batch in the loop would take."""
        workers = int(needed(signals, "loader.num_workers"))
        produce_s = needed(signals, "loader.producer_wall_s")
        consume_s = needed(signals, "loader.consumer_s")
        if workers == 0 or consume_s <= 0 or not trains_on_cpu(signals):
            return
        if not self._waits_for_the_handover(signals, produce_s, consume_s):
            return
        wait = needed(signals, "step.data_wait_share")
        at_start = number(signals, "loader.start_share") or 0.0
        in_loop = produce_s * (1.0 - wait) / consume_s
        most = self._most_saved(signals, workers)
        saved = min(wait - at_start - in_loop, most)
        if saved < self.min_saved_share:
            return
        wait_low = low(signals, "step.data_wait_share") or 0.0
        saved_low = min(max(wait_low - at_start - in_loop, 0.0), most)
        if at_start:  # the starts of epochs go with the workers
            saved, saved_low = saved + at_start, max(wait_low - in_loop, saved_low)
        # Queueing outside of the wait; workers of this training are one cause of it.
        queued = (number(signals, "step.run_queue_share") or 0.0) * (1.0 - wait)
        yield Candidate(
            summary=(
                f"{plural(workers, 'worker').capitalize()} hand over batches that take "
                f"{duration(produce_s)} to make; waiting for them costs {percent(wait - at_start)} "
                f"of the step, making them in the loop would cost {percent(in_loop)}."
            ),
            evidence=(
                *observed(signals, "step.data_wait_share", in_loop + self.min_saved_share),
                *observed(signals, "loader.producer_wall_s", self.quick_batch_s),
                *observed(signals, "loader.consumer_s"),
                *observed(signals, "loader.starved_share", self.max_starved_share),
                *observed(signals, "loader.num_workers"),
                *observed(signals, "loader.dataset_type"),
                *observed(signals, "step.run_queue_share"),
            ),
            share=saved,
            share_low=saved_low,
            gain=Gain(amdahl(saved_low), amdahl(saved + queued)),
            where=place(signals, "loader.where"),
            fixes=(self._advice(signals), *batches_by_index(signals)),
            confidence="medium",
        )

    def _waits_for_the_handover(self, signals: Signals, produce_s: float, consume_s: float) -> bool:
        """True where the workers are ahead of the loop: the batch is quick, or lies ready."""
        if produce_s < max(self.quick_batch_s, self.quick_part_of_use * consume_s):
            return True
        starved = number(signals, "loader.starved_share")
        return starved is not None and starved <= self.max_starved_share

    @staticmethod
    def _most_saved(signals: Signals, workers: int) -> float:
        """Share of the step that the loop could save; where threads queue, on a quiet machine.

        Workers that get no CPU let the training wait, however little they have to do: that is
        the machine's doing, and handing over is then charged what it was measured to cost, or the
        CPU time that taking a batch costs the training thread here, if that is more.
        """
        if number(signals, "host.usable_cores") is None:
            return 1.0
        times = LoaderTimes.of(signals)
        if not times.crowded:
            return 1.0
        in_loop_s = times.batch_s(0)
        handover_s = max(HANDOVER_S, number(signals, "loader.wait_cpu_s") or 0.0)
        return max(1.0 - in_loop_s / times.batch_s(workers, handover_s), 0.0)

    @staticmethod
    def _advice(signals: Signals) -> FixAdvice:
        kind = (text(signals, "loader.dataset_type") or "").rpartition(".")[2]
        return FixAdvice(
            fix="loader-workers",
            params={"num_workers": 0},
            safety="safe" if kind == "TensorDataset" else "numerics",
            text="Leave num_workers out (and persistent_workers, prefetch_factor with it).",
            code="DataLoader(…, num_workers=0)",
        )
