"""loop-threads."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    COMPUTE_PHASES,
    amdahl,
    low,
    needed,
    number,
    observed,
    percent,
    summed_share,
    text,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule

TWO_CROWDED_CORES = {
    "host.usable_cores": 2.0,
    "host.own_cores": 1.9,
    "host.other_cores": 0.1,
    "host.idle_cores": 0.0,
    "step.run_queue_share": (0.46, 0.42, 0.5),
    "step.forward_share": (0.4, 0.38, 0.42),
    "step.backward_share": (0.45, 0.43, 0.47),
    "step.optimizer_share": (0.1, 0.09, 0.11),
}
"""What a training with more threads than its two cores shows."""


class Threads(Rule):
    """torch computes with more threads than there are cores, or leaves cores unused.

    ## What it finds
    An intra-op thread count above the cores that this process may use, or far below them while
    cores idle and the step is spent computing on the CPU.

    ## Why it costs time
    Above: threads take turns on the cores, and the fast ones spin or sleep at each operation's end
    until the last one has had its turn. It happens in containers, where torch sees the cores of the
    host (its count follows affinity, not the cgroup's quota), and with several ranks on one
    machine. Below: large matrix products could use cores that idle. `torchrun` sets
    OMP_NUM_THREADS=1 when it starts several processes and nothing else is said.

    ## Evidence needed
    - Forward, loss, backward and optimizer take at least half of the step, and the parameters live
      in host memory.
    - Above: more threads than usable cores *and* the training thread waits for a CPU for at least
      5 % of the step (without that measurement: a note only).
    - Below: fewer threads than cores, at least one core idle, at least a million parameters.

    Measured (torch 2.13, two cores): 16 threads on 2 cores 1.7 to 2.2 times slower than a fitting
    count, with the training thread waiting for a CPU for 36 to 56 % of the time; 2 threads instead
    of 1 made a wide network 1.6 to 1.8 times faster on a quiet machine, and 1.3 to 20 times slower
    beside busy neighbours.

    ## Fix
    `torch.set_num_threads(n)` at the start of the script, or OMP_NUM_THREADS=n in its environment,
    with n = usable cores / ranks on this machine. Where that variable asks for the threads that are
    too many, it is the place to change them: NumPy and child processes obey it too.

    ## Fix safety
    Numerics: sums are made in another order.

    ## When it is wrong
    Silent about unused cores when other programs compete for the CPU, when cores serve DataLoader
    workers, and for small models, whose operations are too short to be shared. Few threads are
    somebody's decision (`set_num_threads`, OMP_NUM_THREADS in the environment), and whether more
    help is never certain before it is tried: unused cores are a note only. The exception is a rank
    to which a launcher gave one thread without being asked, which is a warning. Beside busy
    programs, too many threads are charged with their own part of the queueing only.

    ## References
    - torch.set_num_threads: https://docs.pytorch.org/docs/stable/generated/torch.set_num_threads.html
    - CPU threading in torch: https://docs.pytorch.org/docs/stable/notes/cpu_threading_torchscript_inference.html
    - Containers that report the cores of their host:
      https://github.com/Unity-Technologies/ml-agents/pull/4471
    - Lightning on OMP_NUM_THREADS: https://github.com/Lightning-AI/pytorch-lightning/issues/18677
    """

    id = "loop-threads"
    title = "Thread count does not fit the cores"
    needs = ("flags.num_threads", "host.usable_cores", "step.forward_share", "step.backward_share")
    fires_on = (
        Case(
            "16 threads on 2 cores",
            {
                **TWO_CROWDED_CORES,
                "flags.num_threads": 16,
            },
            severity="critical",
            gain=(1.4, 2.6),
        ),
        Case(
            "OMP_NUM_THREADS asks for eight threads on two cores",
            {
                **TWO_CROWDED_CORES,
                "flags.num_threads": 8,
                "environment.OMP_NUM_THREADS": "8",
            },
            severity="critical",
            gain=(1.4, 2.6),
        ),
        Case(
            "one thread too many beside busy neighbours, who cause most of the queueing",
            {
                "flags.num_threads": 3,
                "host.usable_cores": 2.0,
                "host.own_cores": 0.5,
                "host.other_cores": 1.5,
                "host.idle_cores": 0.0,
                "step.run_queue_share": (0.4, 0.37, 0.43),
                "step.forward_share": (0.4, 0.38, 0.42),
                "step.backward_share": (0.45, 0.43, 0.47),
            },
            severity="info",
        ),
        Case(
            "more threads than cores, scheduler statistics missing",
            {
                "flags.num_threads": 16,
                "host.usable_cores": 4.0,
                "step.forward_share": (0.4, 0.38, 0.42),
                "step.backward_share": (0.45, 0.43, 0.47),
            },
            severity="info",
        ),
        Case(
            "one thread, seven idle cores, a wide network",
            {
                "flags.num_threads": 1,
                "host.usable_cores": 8.0,
                "host.own_cores": 1.0,
                "host.other_cores": 0.2,
                "host.idle_cores": 6.8,
                "model.parameter_count": 16_000_000,
                "loader.num_workers": 0,
                "step.run_queue_share": (0.003, 0.002, 0.004),
                "step.forward_share": (0.33, 0.32, 0.34),
                "step.backward_share": (0.6, 0.59, 0.61),
            },
            severity="info",
            gain=(1.0, 5.5),
        ),
        Case(
            "two ranks, one thread each, because torchrun says so",
            {
                "flags.num_threads": 1,
                "distributed.world_size": 2,
                "host.usable_cores": 16.0,
                "host.own_cores": 2.0,
                "host.other_cores": 0.0,
                "host.idle_cores": 14.0,
                "model.parameter_count": 16_000_000,
                "step.forward_share": (0.33, 0.32, 0.34),
                "step.backward_share": (0.6, 0.59, 0.61),
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case(
            "as many threads as cores",
            {
                "flags.num_threads": 4,
                "host.usable_cores": 4.0,
                "host.own_cores": 3.9,
                "host.idle_cores": 0.1,
                "step.run_queue_share": (0.01, 0.008, 0.012),
                "step.forward_share": (0.4, 0.38, 0.42),
                "step.backward_share": (0.5, 0.48, 0.52),
            },
        ),
        Case(
            "one thread beside busy neighbours",
            {
                "flags.num_threads": 1,
                "host.usable_cores": 4.0,
                "host.own_cores": 0.9,
                "host.other_cores": 2.0,
                "host.idle_cores": 1.1,
                "host.psi_cpu_share": 0.3,
                "model.parameter_count": 16_000_000,
                "step.forward_share": (0.33, 0.32, 0.34),
                "step.backward_share": (0.6, 0.59, 0.61),
            },
        ),
        Case(
            "one thread, a model too small to share out",
            {
                "flags.num_threads": 1,
                "host.usable_cores": 8.0,
                "host.own_cores": 1.0,
                "host.other_cores": 0.2,
                "host.idle_cores": 6.8,
                "model.parameter_count": 50_000,
                "step.forward_share": (0.33, 0.32, 0.34),
                "step.backward_share": (0.6, 0.59, 0.61),
            },
        ),
        Case(
            "too many threads, but the step waits for data",
            {
                "flags.num_threads": 16,
                "host.usable_cores": 4.0,
                "step.run_queue_share": (0.06, 0.05, 0.07),
                "step.forward_share": (0.05, 0.04, 0.06),
                "step.backward_share": (0.05, 0.04, 0.06),
            },
        ),
        Case(
            "the model computes on an accelerator",
            {
                "flags.num_threads": 16,
                "flags.accelerator": "cuda",
                "model.devices": {"cuda:0": 1_000_000},
                "host.usable_cores": 4.0,
                "step.run_queue_share": (0.06, 0.05, 0.07),
                "step.forward_share": (0.4, 0.38, 0.42),
                "step.backward_share": (0.4, 0.38, 0.42),
            },
        ),
    )

    min_compute_share = 0.50
    """Share of the step; where less is computed, threads do not decide (a starting value)."""
    min_run_queue_share = 0.05
    """Share of the step that the training thread waits for a CPU (a starting value)."""
    lost_per_queued = 1.3
    """Time lost over time queued: waits at barriers for other threads come on top. 16 threads on 2
    cores queued for 36 to 56 % of the time and were 1.7 to 2.1 times slower (measured)."""
    min_idle_cores = 0.75
    """Nearly one core, over the whole run."""
    min_parameters = 1_000_000
    """Smaller layers stay below the 32,768 elements that torch gives one thread."""
    scaling_efficiency = 0.7
    """Part of the ideal speed-up that k threads reached for a wide network (1.6 to 1.8 of 2)."""
    max_other_use, max_pressure_share = 0.20, 0.20
    """Above them others compete for the CPU, and more threads make it worse (loop-contention)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Holds the threads against the cores that this process may use."""
        compute = summed_share(signals, COMPUTE_PHASES)
        if compute is None or compute[0] < self.min_compute_share or not trains_on_cpu(signals):
            return
        threads = int(needed(signals, "flags.num_threads"))
        cores = needed(signals, "host.usable_cores")
        if threads > math.ceil(cores):
            yield from self._over(signals, threads, cores)
        elif threads < math.floor(cores) and not self._contended(signals, cores):
            yield from self._under(signals, threads, cores, compute)

    def _contended(self, signals: Signals, cores: float) -> bool:
        others = number(signals, "host.other_cores") or 0.0
        pressure = number(signals, "host.psi_cpu_share") or 0.0
        return others >= self.max_other_use * cores or pressure >= self.max_pressure_share

    def _own_part(self, signals: Signals, cores: float) -> float:
        """Part of the queueing that this training causes: its part of what all programs use."""
        own = number(signals, "host.own_cores")
        if own is None or not self._contended(signals, cores):
            return 1.0
        others = number(signals, "host.other_cores") or 0.0
        return own / (own + others) if own + others > 0 else 1.0

    def _over(self, signals: Signals, threads: int, cores: float) -> Iterator[Candidate]:
        waiting = number(signals, "step.run_queue_share")
        if waiting is not None and waiting < self.min_run_queue_share:
            return
        fitting = max(1, math.floor(cores))
        asked = text(signals, "environment.OMP_NUM_THREADS") == str(threads)
        ours = self._own_part(signals, cores)
        share_low = low(signals, "step.run_queue_share")
        predicted = Gain(1.0, threads / cores)
        cost = ""
        if waiting is not None and share_low is not None:
            most = min(amdahl(waiting * ours * self.lost_per_queued), threads / cores)
            predicted = Gain(min(amdahl(share_low * ours / 2), most), most)
            cost = f"; the training thread waits for a CPU for {percent(waiting)} of the step"
        yield Candidate(
            summary=f"torch computes with {threads} threads on {cores:.3g} usable cores{cost}.",
            evidence=(
                *observed(signals, "flags.num_threads", fitting),
                *observed(signals, "host.usable_cores"),
                *observed(signals, "step.run_queue_share", self.min_run_queue_share),
                *observed(signals, "host.own_cores"),
                *observed(signals, "environment.OMP_NUM_THREADS"),
            ),
            share=None if waiting is None else waiting * ours,
            share_low=None if share_low is None else share_low * ours,
            gain=predicted,
            fixes=(_of_environment(fitting) if asked else _advice(fitting),),
            confidence="low" if self._contended(signals, cores) else "medium",
            severity="info" if waiting is None else None,
            phases=COMPUTE_PHASES,
        )

    def _under(
        self, signals: Signals, threads: int, cores: float, compute: tuple[float, float]
    ) -> Iterator[Candidate]:
        idle = number(signals, "host.idle_cores")
        parameters = number(signals, "model.parameter_count")
        if idle is None or idle < self.min_idle_cores:
            return
        if parameters is None or parameters < self.min_parameters:
            return
        ranks = max(1.0, number(signals, "distributed.world_size") or 1.0)
        unused = math.floor(idle / ranks + 1 - self.min_idle_cores)
        usable = min(math.floor(cores), threads + unused)
        if usable <= threads:
            return
        speedup = usable / threads * self.scaling_efficiency
        unasked = (
            ranks > 1 and threads == 1 and text(signals, "environment.OMP_NUM_THREADS") is None
        )
        share, share_low = (part * (1 - 1 / max(speedup, 1.0)) for part in compute)
        yield Candidate(
            summary=(
                f"torch computes with {threads} of {cores:.3g} cores while {idle:.2g} idle; "
                f"computing takes {percent(compute[0])} of the step."
            ),
            evidence=(
                *observed(signals, "flags.num_threads", usable),
                *observed(signals, "host.usable_cores"),
                *observed(signals, "host.idle_cores", self.min_idle_cores),
                *observed(signals, "model.parameter_count", self.min_parameters),
            ),
            share=share,
            share_low=share_low,
            gain=Gain(1.0, amdahl(compute[0], max(usable / threads, 1.0))),
            fixes=(_advice(usable),),
            confidence="low",
            max_severity="warn" if unasked else "info",
            phases=COMPUTE_PHASES,
        )


def _advice(threads: int) -> FixAdvice:
    return FixAdvice(
        fix="intra-op-threads",
        params={"num_threads": threads},
        safety="numerics",
        text=f"Let torch compute with {threads} thread{'s' if threads > 1 else ''} (on several "
        "ranks: cores divided by ranks), and compare the time per step.",
        code=f"torch.set_num_threads({threads})",
    )


def _of_environment(threads: int) -> FixAdvice:
    return FixAdvice(
        fix="openmp-threads",
        params={"threads": threads},
        safety="numerics",
        text=f"OMP_NUM_THREADS asks for them: set it to {threads} (on several ranks: cores divided "
        "by ranks), and compare the time per step.",
        code=f"OMP_NUM_THREADS={threads}",
    )
