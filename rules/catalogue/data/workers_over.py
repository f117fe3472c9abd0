"""data-workers-over."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.loader_model import HANDOVER_LEAST_S, LoaderTimes
from trainprof.rules.reading import (
    COMPUTE_PHASES,
    amdahl,
    has_workers,
    low,
    needed,
    number,
    observed,
    percent,
    place,
    plural,
)
from trainprof.rules.rule import Candidate, Case, Rule


class WorkersOver(Rule):
    """More loader workers compute than there are cores, and the training queues behind them.

    ## What it finds
    Workers whose items need the CPU, more of them than cores, in a training whose own thread is
    often ready to run and gets no CPU, with no other program to blame. Typical: eight workers per
    process because an example had eight, on a machine or in a container with fewer cores, or eight
    for each of several ranks.

    ## Why it costs time
    The scheduler divides the cores among all that are ready. While W workers compute, the training
    thread gets one part in W + 1 of them, although it is the one that everybody waits for in the
    end. torch warns where W exceeds the CPUs that the process may use, and does not see the CPU
    quota of a container.

    ## Evidence needed
    - More workers (of all ranks) and intra-op threads than 1.25 times the usable cores.
    - Items that compute: at least half of a batch's time is CPU time.
    - The training thread queues for a CPU for at least 5 % of the step, and other programs use less
      than a fifth of the usable cores.
    - The loader model (page of data-workers-under) reaches the best pace with fewer workers.

    Gain: Amdahl's bound on that queueing, but no more than T / T(W'), the model's time with W'
    workers: where workers and training fill the cores with work that has to be done anyway, fewer
    workers give nothing back, and this rule is silent. The lower end of the interval is 1.

    ## Fix
    `num_workers=W'`, the smallest number that the model calls as good.

    ## Fix safety
    Numerics: batches and their order stay, but random numbers drawn in the data set come from the
    generators of other workers.

    ## When it is wrong
    - Items that wait for a disk or a server want more workers than cores: silent.
    - Other programs fill the cores: loop-contention says so.
    - Too many intra-op threads look alike: loop-threads speaks, and is listed beside it.

    ## References
    - torch's own warning, check_worker_number_rationality:
      https://github.com/pytorch/pytorch/blob/main/torch/utils/data/dataloader.py
    - Scheduler statistics: https://docs.kernel.org/scheduler/sched-stats.html
    - torch.utils.data: https://docs.pytorch.org/docs/stable/data.html
    """

    id = "data-workers-over"
    title = "More loader workers than cores"
    needs = (
        "step.run_queue_share",
        "step.data_wait_share",
        "loader.num_workers",
        "loader.producer_wall_s",
        "loader.producer_cpu_s",
        "loader.consumer_s",
        "host.usable_cores",
    )
    fires_on = (
        Case(
            "eight workers on two cores; the training gets the CPU late",
            {
                "step.run_queue_share": (0.4, 0.37, 0.43),
                "step.cpu_share": (0.5, 0.48, 0.52),
                "step.data_wait_share": (0.06, 0.05, 0.07),
                "loader.num_workers": 8,
                "loader.producer_wall_s": 0.06,
                "loader.producer_cpu_s": 0.009,
                "loader.producer_queued_s": 0.05,
                "loader.consumer_s": 0.02,
                "loader.consumer_cpu_s": 0.011,
                "host.usable_cores": 2.0,
                "host.other_cores": 0.1,
                "flags.num_threads": 1,
                "loader.where": {"file": "train.py", "line": 20},
            },
            severity="warn",
            gain=(1.2, 1.4),
        ),
    )
    silent_on = (
        Case(
            "items that wait: more workers than cores are right",
            {
                "step.run_queue_share": (0.08, 0.07, 0.09),
                "step.cpu_share": (0.6, 0.58, 0.62),
                "step.data_wait_share": (0.05, 0.04, 0.06),
                "loader.num_workers": 8,
                "loader.producer_wall_s": 0.06,
                "loader.producer_cpu_s": 0.004,
                "loader.consumer_s": 0.01,
                "host.usable_cores": 2.0,
                "host.other_cores": 0.1,
            },
        ),
        Case(
            "work that has to be done anyway fills the cores",
            {
                "step.run_queue_share": (0.4, 0.37, 0.43),
                "step.cpu_share": (0.5, 0.48, 0.52),
                "step.data_wait_share": (0.06, 0.05, 0.07),
                "loader.num_workers": 8,
                "loader.producer_wall_s": 0.2,
                "loader.producer_cpu_s": 0.03,
                "loader.producer_queued_s": 0.17,
                "loader.consumer_s": 0.02,
                "loader.consumer_cpu_s": 0.011,
                "host.usable_cores": 2.0,
                "host.other_cores": 0.1,
                "flags.num_threads": 1,
            },
        ),
        Case(
            "other programs fill the cores",
            {
                "step.run_queue_share": (0.4, 0.37, 0.43),
                "step.cpu_share": (0.5, 0.48, 0.52),
                "step.data_wait_share": (0.06, 0.05, 0.07),
                "loader.num_workers": 8,
                "loader.producer_wall_s": 0.06,
                "loader.producer_cpu_s": 0.009,
                "loader.consumer_s": 0.02,
                "loader.consumer_cpu_s": 0.011,
                "host.usable_cores": 2.0,
                "host.other_cores": 1.2,
            },
        ),
        Case(
            "two workers on two cores",
            {
                "step.run_queue_share": (0.15, 0.13, 0.17),
                "step.cpu_share": (0.7, 0.68, 0.72),
                "step.data_wait_share": (0.02, 0.01, 0.03),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.012,
                "loader.producer_cpu_s": 0.009,
                "loader.consumer_s": 0.012,
                "loader.consumer_cpu_s": 0.01,
                "host.usable_cores": 2.0,
                "host.other_cores": 0.0,
            },
        ),
    )

    max_processes_per_core = 1.25
    """Workers and intra-op threads over usable cores (a starting value)."""
    min_cpu_part = 0.5
    """CPU time over undisturbed time of a batch; below it items mostly wait."""
    min_run_queue_share = 0.05
    """Share of the step in which the training thread queues for a CPU (a starting value)."""
    max_other_use = 0.20
    """Share of the cores used by other programs; above it they are to blame."""

    def applies(self, signals: Signals) -> bool:
        """There are workers."""
        return has_workers(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Asks the loader model whether fewer workers would be as good."""
        workers = int(needed(signals, "loader.num_workers"))
        usable = needed(signals, "host.usable_cores")
        queued = needed(signals, "step.run_queue_share")
        others = number(signals, "host.other_cores")
        if queued < self.min_run_queue_share or not self._too_many(signals, workers, usable):
            return
        if others is None or others > self.max_other_use * usable:
            return
        times = LoaderTimes.of(signals)
        best = max(times.best_workers(workers), 1)
        if best >= workers or times.produce_cpu_s < self.min_cpu_part * times.produce_s:
            return
        most = self._most_gain(signals, times, best, queued)
        yield Candidate(
            summary=(
                f"{plural(workers, 'worker').capitalize()} compute on {usable:.3g} cores, and the "
                f"training thread queues for a CPU for {percent(queued)} of the step; {best} would "
                "deliver as fast."
            ),
            evidence=(
                *observed(signals, "step.run_queue_share", self.min_run_queue_share),
                *observed(signals, "loader.num_workers", self.max_processes_per_core * usable),
                *observed(signals, "loader.producer_cpu_s"),
                *observed(signals, "loader.producer_wall_s"),
                *observed(signals, "loader.consumer_s"),
                *observed(signals, "host.usable_cores"),
                *observed(signals, "host.other_cores", self.max_other_use * usable),
            ),
            share=1.0 - 1.0 / most,
            share_low=min(low(signals, "step.run_queue_share") or 0.0, 1.0 - 1.0 / most),
            gain=Gain(1.0, most),
            where=place(signals, "loader.where"),
            fixes=(
                FixAdvice(
                    fix="loader-workers",
                    params={"num_workers": best},
                    safety="numerics",
                    text=f"Let {plural(best, 'worker')} prepare batches.",
                    code=f"DataLoader(…, num_workers={best})",
                ),
            ),
            confidence="low",
            max_severity="warn",
            phases=COMPUTE_PHASES,
        )

    def _too_many(self, signals: Signals, workers: int, usable: float) -> bool:
        """Counts the workers of all ranks and the threads of this one."""
        ranks = number(signals, "distributed.ranks_seen") or 1.0
        threads = number(signals, "flags.num_threads") or 1.0
        most = self.max_processes_per_core * usable
        return workers > 1 and workers * ranks + threads > most and workers * ranks > usable

    @staticmethod
    def _most_gain(signals: Signals, times: LoaderTimes, best: int, queued: float) -> float:
        """Amdahl's bound on the queueing, and the model's time with the fewer workers."""
        waiting = min(needed(signals, "step.data_wait_share"), 0.99)
        now_s = needed(signals, "loader.consumer_s") / (1.0 - waiting)
        then_s = times.batch_s(best, handover_s=HANDOVER_LEAST_S)
        return max(min(amdahl(queued), now_s / then_s), 1.0)
