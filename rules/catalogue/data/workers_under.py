"""data-workers-under."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import Evidence, FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.loader_model import LoaderTimes, Waiting, io_part, predicted_gain
from trainprof.rules.reading import (
    amdahl,
    duration,
    is_on,
    needed,
    number,
    observed,
    percent,
    place,
    plural,
)
from trainprof.rules.row_advice import batches_by_index
from trainprof.rules.rule import Candidate, Case, Rule


class WorkersUnder(Rule):
    """Training waits for the next batch because too few processes prepare batches.

    ## What it finds
    A loop that stands still until its DataLoader delivers, while more workers would have cores (or
    waiting time of a disk or server) to work with. `num_workers=0`, the default, is the usual
    case: each batch is then made in the training process, between two steps.

    ## Why it costs time
    Without workers a step lasts t_c + t_p: computing plus preparing the batch. With W workers
    batches are prepared beside the training, and the step lasts as long as the slowest of the
    three: t_c, t_p / W, and the CPU work of both divided by the cores, plus about 0.5 to 1 ms to
    hand a batch over.

    ## Evidence needed
    - At least 5 % of the steady step is spent waiting for batches, epoch starts not counted. It is
      the mean over all steady steps: workers deliver in bursts, so the median step hides the wait
      (it once showed a 12-fold speed-up where 4.2 was true).
    - t_p, measured in the worker (or in the loop) around each batch, and t_c.
    - The formula above predicts at least 3 % from more workers; the number advised is the smallest
      within 5 % of the best. Where batches come unevenly, a replay of their measured times in
      torch's order of events lengthens t_c and t_p / W.

    Against fresh measurements the formula was 3 to 23 % too optimistic, so the lower end of the
    interval takes its time 1.25 times as long, the upper end the quickest handing over. The middle
    of the interval then lies 9 % from the measured speed-up in the median of eight measurements on
    a quiet machine, 13 % at most; `benchmarks/loader_prediction.py` takes more. Measured
    with 1 ms of waiting for each of 32 samples: two workers 2.05 times faster [1.94, 2.17], four
    4.20 times [4.06, 4.29].

    The finding weighs what the fix gives back, not all that is waited for: where one sample in many
    takes long, more workers wait for it as well.

    ## Fix
    `DataLoader(..., num_workers=W, persistent_workers=True)`; `prefetch_factor` stays at 2. On
    platforms that spawn processes the script needs `if __name__ == "__main__":`.

    ## Fix safety
    Numerics. Batches and their order stay the same, but random numbers drawn inside the data set
    (augmentation) come from the workers' generators. `persistent_workers=True` draws one seed in
    all instead of one per epoch from the main generator, so a shuffled order differs from the
    second epoch on. For an IterableDataset it is **semantics**: every worker iterates over the
    whole data set unless it is divided with `torch.utils.data.get_worker_info()`.

    ## When it is wrong
    - Two workers or more wait for a disk that is busy: more of them may only wait longer for their
      turn. Then this is a note, its interval begins at 1, and data-disk-bw speaks.
    - Preparing is shorter than handing over (tensors in memory): the formula sees no gain.
    - Preparing keeps the cores busy and none idles: more workers only take CPU from each other. The
      finding then says so and points at the data set's own work.
    - Threads queue for a CPU, of this training or of other programs: the queueing is taken out of
      all times first, the producer's own where it was read, and no more than the median batch
      counts. So only what the script would wait on a quiet machine is reported.
    - The wait falls on the first batch of each epoch: that is data-persistent.
    - Workers need memory (their own copy of what the data set builds, and the prefetched batches):
      the number advised stays within half of the memory that is free.
    - The data set cannot be pickled (spawn), or uses an accelerator: workers will fail.

    ## References
    - Tuning guide, "Enable async data loading and augmentation":
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - torch.utils.data: https://docs.pytorch.org/docs/stable/data.html
    - Why one seed is drawn per epoch for any number of workers:
      https://github.com/pytorch/pytorch/pull/12935
    - Mohan et al., Analyzing and mitigating data stalls in DNN training:
      https://arxiv.org/abs/2007.06775
    - Machine Learning Engineering, DataLoader:
      https://github.com/stas00/ml-engineering/tree/master/training/performance
    """

    id = "data-workers-under"
    title = "Training waits for batches"
    needs = (
        "step.data_wait_share",
        "loader.num_workers",
        "loader.producer_wall_s",
        "loader.consumer_s",
        "host.usable_cores",
    )
    fires_on = (
        Case(
            "no workers, samples that wait 1 ms each for a server",
            {
                "step.data_wait_share": (0.85, 0.83, 0.87),
                "loader.num_workers": 0,
                "loader.producer_wall_s": 0.034,
                "loader.producer_cpu_s": 0.002,
                "loader.consumer_s": 0.006,
                "loader.consumer_cpu_s": 0.006,
                "loader.wait_s": 0.034,
                "loader.iterable": False,
                "loader.where": {"file": "train.py", "line": 61},
                "host.usable_cores": 2.0,
                "host.idle_cores": 1.8,
                "host.other_cores": 0.1,
                "host.memory_available_bytes": 8e9,
            },
            severity="critical",
            gain=(3.5, 6.5),
        ),
        Case(
            "no workers, transforms that compute, a core to spare",
            {
                "step.data_wait_share": (0.5, 0.48, 0.52),
                "loader.num_workers": 0,
                "loader.producer_wall_s": 0.016,
                "loader.producer_cpu_s": 0.016,
                "loader.consumer_s": 0.016,
                "loader.consumer_cpu_s": 0.016,
                "loader.wait_s": 0.016,
                "loader.iterable": False,
                "host.usable_cores": 2.0,
                "host.idle_cores": 0.9,
                "host.other_cores": 0.1,
            },
            severity="critical",
            gain=(1.4, 1.9),
        ),
        Case(
            "an iterable data set: workers would repeat the data",
            {
                "step.data_wait_share": (0.5, 0.48, 0.52),
                "loader.num_workers": 0,
                "loader.producer_wall_s": 0.02,
                "loader.producer_cpu_s": 0.001,
                "loader.consumer_s": 0.02,
                "loader.wait_s": 0.02,
                "loader.iterable": True,
                "host.usable_cores": 4.0,
            },
            severity="critical",
        ),
        Case(
            "workers that queue behind other programs, and would not keep up without them either",
            {
                "step.data_wait_share": (0.9, 0.88, 0.92),
                "step.run_queue_share": (0.4, 0.37, 0.43),
                "step.cpu_share": (0.1, 0.09, 0.11),
                "loader.num_workers": 4,
                "loader.producer_wall_s": 0.09,
                "loader.producer_cpu_s": 0.02,
                "loader.consumer_s": 0.004,
                "loader.consumer_cpu_s": 0.002,
                "loader.iterable": False,
                "host.usable_cores": 2.0,
                "host.idle_cores": 0.0,
                "host.other_cores": 1.6,
            },
            severity="critical",
        ),
        Case(
            "two workers held up by a few slow samples, which more workers hardly help",
            {
                "step.data_wait_share": (0.53, 0.4, 0.65),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.0139,
                "loader.producer_cpu_s": 0.00096,
                "loader.consumer_s": 0.00882,
                "loader.consumer_cpu_s": 0.0088,
                "loader.unevenness": {
                    1: 1.6,
                    2: 2.1,
                    3: 2.0,
                    4: 1.9,
                    5: 1.75,
                    6: 1.74,
                    7: 1.73,
                    8: 1.72,
                },
                "loader.iterable": False,
                "host.usable_cores": 2.0,
                "host.idle_cores": 1.3,
            },
            severity="info",
            gain=(1.0, 1.2),
        ),
        Case(
            "workers that compute, and no core is free for more",
            {
                "step.data_wait_share": (0.4, 0.37, 0.43),
                "loader.num_workers": 4,
                "loader.producer_wall_s": 0.2,
                "loader.producer_cpu_s": 0.19,
                "loader.consumer_s": 0.03,
                "loader.consumer_cpu_s": 0.01,
                "loader.wait_s": 0.02,
                "loader.iterable": False,
                "host.usable_cores": 4.0,
                "host.idle_cores": 0.05,
                "host.other_cores": 0.05,
            },
            severity="critical",
        ),
        Case(
            "no workers, samples that compute, and other programs have the other core",
            {
                "step.data_wait_share": (0.5, 0.48, 0.52),
                "loader.num_workers": 0,
                "loader.producer_wall_s": 0.016,
                "loader.producer_cpu_s": 0.016,
                "loader.consumer_s": 0.016,
                "loader.consumer_cpu_s": 0.016,
                "loader.iterable": False,
                "host.usable_cores": 2.0,
                "host.idle_cores": 0.0,
                "host.other_cores": 1.0,
            },
            severity="critical",
        ),
        Case(
            "two workers that wait for a disk, which delivers no more to eight",
            {
                "step.data_wait_share": (0.969, 0.96, 0.975),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.098,
                "loader.producer_cpu_s": 0.0013,
                "loader.consumer_s": 0.0016,
                "loader.iterable": False,
                "host.usable_cores": 2.0,
                "host.psi_io_share": 0.58,
                "storage.miss_share": 1.0,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "tensors in memory: preparing is shorter than handing over",
            {
                "step.data_wait_share": (0.3, 0.28, 0.32),
                "loader.num_workers": 0,
                "loader.producer_wall_s": 0.0003,
                "loader.producer_cpu_s": 0.0003,
                "loader.consumer_s": 0.0007,
                "loader.consumer_cpu_s": 0.0007,
                "loader.wait_s": 0.0003,
                "loader.iterable": False,
                "host.usable_cores": 8.0,
                "host.idle_cores": 7.0,
            },
        ),
        Case(
            "workers that keep up",
            {
                "step.data_wait_share": (0.01, 0.008, 0.012),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.016,
                "loader.producer_cpu_s": 0.016,
                "loader.consumer_s": 0.01,
                "loader.iterable": False,
                "host.usable_cores": 4.0,
            },
        ),
        Case(
            "all of the wait lies at the start of epochs",
            {
                "step.data_wait_share": (0.3, 0.28, 0.32),
                "loader.start_share": 0.29,
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.004,
                "loader.producer_cpu_s": 0.004,
                "loader.consumer_s": 0.004,
                "loader.iterable": False,
                "host.usable_cores": 4.0,
            },
        ),
        Case(
            "workers that would keep up, did they not queue for a CPU behind other programs",
            {
                "step.data_wait_share": (0.3, 0.28, 0.32),
                "step.run_queue_share": (0.4, 0.37, 0.43),
                "step.cpu_share": (0.2, 0.19, 0.21),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.045,
                "loader.producer_cpu_s": 0.015,
                "loader.consumer_s": 0.045,
                "loader.consumer_cpu_s": 0.015,
                "loader.iterable": False,
                "host.usable_cores": 2.0,
                "host.idle_cores": 0.0,
                "host.other_cores": 1.6,
            },
        ),
        Case(
            "quick batches, some of which were preempted, or waited for a thread that was",
            {
                "step.data_wait_share": (0.154, 0.137, 0.171),
                "step.run_queue_share": (0.606, 0.584, 0.627),
                "step.cpu_share": (0.3, 0.276, 0.324),
                "loader.num_workers": 0,
                "loader.producer_wall_s": 0.00286,
                "loader.producer_cpu_s": 0.00031,
                "loader.producer_queued_s": 0.00103,
                "loader.producer_median_s": 0.00028,
                "loader.consumer_s": 0.0157,
                "loader.consumer_cpu_s": 0.0053,
                "loader.iterable": False,
                "host.usable_cores": 2.0,
                "host.idle_cores": 0.0,
                "host.other_cores": 1.7,
            },
        ),
        Case(
            "workers that get no core because of other programs: loop-contention says so",
            {
                "step.data_wait_share": (0.5, 0.48, 0.52),
                "loader.num_workers": 1,
                "loader.producer_wall_s": 0.032,
                "loader.producer_cpu_s": 0.016,
                "loader.consumer_s": 0.016,
                "loader.consumer_cpu_s": 0.016,
                "loader.iterable": False,
                "host.usable_cores": 2.0,
                "host.idle_cores": 0.0,
                "host.other_cores": 1.0,
            },
        ),
    )

    min_wait_share = 0.05
    """Share of the step; XProf calls an input-bound step moderate from 5 %, as does PyTorch's
    TensorBoard plugin."""
    min_gain = 1.03
    """Predicted T_old / T_new; the same as the engine's gate."""
    max_workers_per_core = 4
    """For items that wait; beyond that processes cost more than they give (a starting value)."""
    worker_bytes = 100 * 2**20
    """Memory of one worker: 15 to 18 MiB of its own measured after a fork (torch 2.13), the rest
    for what the data set builds and for allocators."""
    max_memory_use = 0.5
    """Part of the free memory, and of the free shared memory, that workers may take."""
    prefetch_factor = 2
    """torch's default; more helps only where times vary much."""
    max_idle_cores = 0.5
    """Fewer idle cores than half a one count as none."""
    max_other_use = 0.20
    """Share of the cores used by other programs; above it they are why no core is free."""
    min_readers, min_disk_pressure, min_miss_share, min_io_part = 2, 0.10, 0.5, 0.3
    """Workers, time with some task waiting for a disk, part of the bytes that came from it, part of
    a batch's time that is waiting: as for data-disk-bw."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Asks the loader model whether more workers would help, or why they would not."""
        times = LoaderTimes.of(signals)
        now = int(needed(signals, "loader.num_workers"))
        wait = Waiting.of(signals, times)
        if wait.share < self.min_wait_share:
            return
        best = times.best_workers(self._most_workers(signals))
        predicted = predicted_gain(times, wait, best)
        if best > now and predicted.high >= self.min_gain:
            yield self._too_few(signals, wait, times, now, best, predicted)
        elif self._cores_are_full(signals, times):
            yield self._no_core(signals, wait, now)

    def _most_workers(self, signals: Signals) -> int:
        """How many workers cores, memory and shared memory allow."""
        most = max(2, math.ceil(needed(signals, "host.usable_cores")) * self.max_workers_per_core)
        batch = (number(signals, "batch.bytes") or 0.0) * self.prefetch_factor
        free = number(signals, "host.memory_available_bytes")
        if free is not None:
            most = min(most, int(free * self.max_memory_use / (self.worker_bytes + batch)))
        shared = number(signals, "host.shm_free_bytes")
        if shared is not None and batch:
            most = min(most, int(shared * self.max_memory_use / batch))
        return most

    def _cores_are_full(self, signals: Signals, times: LoaderTimes) -> bool:
        """True where no core idles, and preparing batches is most of this training's CPU work.

        Beside other programs that holds for what the training thread itself prepares; workers
        may only be slow because of those.
        """
        idle = number(signals, "host.idle_cores")
        ours = (
            times.crowded
            or not self._others_are_busy(signals)
            or needed(signals, "loader.num_workers") == 0
        )
        return (
            idle is not None
            and idle < self.max_idle_cores
            and ours
            and times.produce_cpu_s >= times.consume_cpu_s
        )

    def _others_are_busy(self, signals: Signals) -> bool:
        others = number(signals, "host.other_cores") or 0.0
        return others >= self.max_other_use * needed(signals, "host.usable_cores")

    def _evidence(self, signals: Signals) -> tuple[Evidence, ...]:
        return (
            *observed(signals, "step.data_wait_share", self.min_wait_share, "XProf"),
            *observed(signals, "loader.num_workers"),
            *observed(signals, "loader.producer_wall_s"),
            *observed(signals, "loader.producer_cpu_s"),
            *observed(signals, "loader.consumer_s"),
            *observed(signals, "loader.starved_share"),
            *observed(signals, "loader.start_share"),
            *observed(signals, "host.usable_cores"),
            *observed(signals, "host.idle_cores"),
            *observed(signals, "host.other_cores"),
        )

    def _too_few(
        self,
        signals: Signals,
        wait: Waiting,
        times: LoaderTimes,
        now: int,
        best: int,
        predicted: Gain,
    ) -> Candidate:
        iterable = is_on(signals, "loader.iterable")
        makes = "the training process makes them itself" if now == 0 else plural(now, "worker")
        makes += " make them" if now > 1 else " makes them" if now == 1 else ""
        bound = times.produce_s / best > times.consume_s
        at_a_disk = self._wait_for_a_busy_disk(signals, now)
        if at_a_disk:
            predicted = Gain(1.0, predicted.high)
        return Candidate(
            summary=(
                f"{_waiting(signals, wait)}: {makes}, "
                f"{duration(times.produce_s)} each, and a batch is used up in "
                f"{duration(times.consume_s)}."
            ),
            evidence=self._evidence(signals),
            share=min(wait.share, 1.0 - 1.0 / predicted.high),
            share_low=min(wait.share_low, 1.0 - 1.0 / predicted.middle),
            gain=predicted,
            where=place(signals, "loader.where"),
            fixes=(self._advice(signals, times, best, iterable), *batches_by_index(signals)),
            confidence="low" if at_a_disk or (iterable and now == 0) else "medium",
            max_severity="info" if at_a_disk else "critical",
            next_bottleneck="data_wait" if bound else None,
        )

    def _wait_for_a_busy_disk(self, signals: Signals, now: int) -> bool:
        """Two workers or more whose data comes from a disk that tasks wait for: data-disk-bw's."""
        pressure = number(signals, "host.psi_io_share") or 0.0
        misses = number(signals, "storage.miss_share") or 0.0
        return (
            now >= self.min_readers
            and pressure >= self.min_disk_pressure
            and misses >= self.min_miss_share
            and io_part(signals) >= self.min_io_part
        )

    def _advice(self, signals: Signals, times: LoaderTimes, best: int, iterable: bool) -> FixAdvice:
        predicted = duration(times.batch_s(best))
        text = f"Let {plural(best, 'worker')} prepare batches: predicted {predicted} per batch."
        if best > needed(signals, "host.usable_cores"):
            text += " torch will warn about more workers than cores; these mostly wait."
        if iterable:
            text = (
                "Divide the iterable data set among workers with torch.utils.data.get_worker_info()"
                f" first, else each one delivers all of it. Then {text[0].lower()}{text[1:]}"
            )
        return FixAdvice(
            fix="loader-workers",
            params={
                "num_workers": best,
                "persistent_workers": True,
                "prefetch_factor": self.prefetch_factor,
            },
            safety="semantics" if iterable else "numerics",
            text=text,
            code=f"DataLoader(…, num_workers={best}, persistent_workers=True)",
        )

    def _no_core(self, signals: Signals, wait: Waiting, now: int) -> Candidate:
        who = "the training process" if now == 0 else plural(now, "worker")
        busy = self._others_are_busy(signals)
        others = " beside the other programs" if busy else ""
        return Candidate(
            title="Preparing batches takes more CPU than there is",
            summary=(
                f"{_waiting(signals, wait)}; preparing them keeps {who} computing and no core "
                f"idles{others}, so more workers would not help."
            ),
            evidence=self._evidence(signals),
            share=wait.share,
            share_low=wait.share_low,
            gain=Gain(1.0, amdahl(wait.share)),
            where=place(signals, "loader.dataset_where") or place(signals, "loader.where"),
            fixes=(
                *batches_by_index(signals),
                FixAdvice(
                    fix="dataset-cheaper",
                    params={},
                    safety="numerics",
                    text="Make a sample cheaper to prepare: decode at the size that is needed, do "
                    "deterministic work once and keep it, move arithmetic to whole batches.",
                ),
            ),
            confidence="low" if busy else "medium",
        )


def _waiting(signals: Signals, wait: Waiting) -> str:
    at_start = number(signals, "loader.start_share") or 0.0
    measured = needed(signals, "step.data_wait_share") - at_start
    own = "" if wait.share > 0.99 * measured else f" ({percent(wait.share)} on a quiet machine)"
    return f"The training waits for batches for {percent(measured)} of the step{own}"
