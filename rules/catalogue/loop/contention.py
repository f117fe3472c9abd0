"""loop-contention."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import low, number, observed, percent
from trainprof.rules.rule import Candidate, Case, Rule


class Contention(Rule):
    """Other programs use the CPUs that this training waits for.

    ## What it finds
    A machine on which other processes (or other containers) take CPU time while this training is
    ready to run.

    ## Why it costs time
    A thread that is ready but gets no CPU makes no progress. With several intra-op threads it is
    worse: all of them wait at a barrier for the one that was preempted. On two cores with busy
    neighbours two threads were 1.3 to 20 times *slower* than one.

    ## Evidence needed
    - The training thread waits for a CPU for at least 10 % of the step (`/proc/*/schedstat`), or
      tasks of this machine or container are short of CPU for at least 20 % of the time (pressure
      stall information).
    - The process tree of this training uses less than 80 % of the cores it may use, so the
      shortage is not of its own making.

    No gain is predicted: there is no fix in the script.

    ## Fix
    None in the script. Run on a quieter machine, reserve cores (cgroup, taskset), or measure again
    later.

    ## Fix safety
    Nothing is changed.

    ## When it is wrong
    Too many threads or workers of the training itself look the same from inside; then its own tree
    uses the cores, and loop-threads speaks instead. Pressure is counted for the whole machine or
    container: a short burst before the training began weighs little in the mean over the run.

    ## References
    - Pressure stall information: https://docs.kernel.org/accounting/psi.html
    - Scheduler statistics: https://docs.kernel.org/scheduler/sched-stats.html
    - Bulej et al., Duet benchmarking: https://arxiv.org/abs/2001.05811
    """

    id = "loop-contention"
    title = "Other programs compete for the CPU"
    needs = ("host.own_cores", "host.usable_cores")
    can_warn = False
    fires_on = (
        Case(
            "two busy neighbours on four cores",
            {
                "step.run_queue_share": (0.22, 0.2, 0.24),
                "host.own_cores": 1.1,
                "host.other_cores": 2.8,
                "host.usable_cores": 4.0,
                "host.psi_cpu_share": 0.35,
            },
            severity="info",
        ),
        Case(
            "pressure, but no scheduler statistics",
            {
                "host.own_cores": 0.9,
                "host.other_cores": 1.1,
                "host.usable_cores": 2.0,
                "host.psi_cpu_share": 0.4,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "the training itself fills the cores",
            {
                "step.run_queue_share": (0.22, 0.2, 0.24),
                "host.own_cores": 3.9,
                "host.other_cores": 0.1,
                "host.usable_cores": 4.0,
                "host.psi_cpu_share": 0.6,
            },
        ),
        Case(
            "a quiet machine",
            {
                "step.run_queue_share": (0.004, 0.003, 0.005),
                "host.own_cores": 1.0,
                "host.other_cores": 0.1,
                "host.usable_cores": 4.0,
                "host.psi_cpu_share": 0.02,
            },
        ),
    )

    min_run_queue_share = 0.10
    """Share of the step that the training thread waits for a CPU (a starting value)."""
    min_pressure_share = 0.20
    """Share of the time with some task short of CPU; 39 % was seen with several busy siblings."""
    max_own_use = 0.80
    """Share of the usable cores; a tree that uses more makes its own shortage."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Reports a shortage that the training did not cause."""
        own, usable = number(signals, "host.own_cores"), number(signals, "host.usable_cores")
        waiting = number(signals, "step.run_queue_share")
        pressure = number(signals, "host.psi_cpu_share")
        if own is None or not usable or own >= self.max_own_use * usable:
            return
        short = waiting is not None and waiting >= self.min_run_queue_share
        pressed = pressure is not None and pressure >= self.min_pressure_share
        if not short and not pressed:
            return
        yield Candidate(
            summary=self._summary(signals, waiting if short else None, pressure, own, usable),
            evidence=(
                *observed(signals, "step.run_queue_share", self.min_run_queue_share),
                *observed(signals, "host.psi_cpu_share", self.min_pressure_share),
                *observed(signals, "host.own_cores", self.max_own_use * usable),
                *observed(signals, "host.other_cores"),
                *observed(signals, "host.usable_cores"),
            ),
            share=waiting,
            share_low=low(signals, "step.run_queue_share"),
            confidence="high" if short and pressed else "medium",
            severity="info",
        )

    @staticmethod
    def _summary(
        signals: Signals,
        waiting: float | None,
        pressure: float | None,
        own: float,
        usable: float,
    ) -> str:
        others = number(signals, "host.other_cores")
        if waiting is not None:
            fact = f"The training thread waits for a CPU for {percent(waiting)} of the step"
        else:
            fact = f"Some task is short of CPU for {percent(pressure or 0.0)} of the time"
        theirs = "" if others is None else f" and other programs {others:.2g}"
        return f"{fact}, while this training uses {own:.2g} of {usable:.3g} cores{theirs}."
