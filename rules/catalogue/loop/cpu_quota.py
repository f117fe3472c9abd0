"""loop-cpu-quota."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent
from trainprof.rules.rule import Candidate, Case, Rule


class CpuQuota(Rule):
    """The container's CPU quota stops the training again and again.

    ## What it finds
    A control group whose CPU quota is used up before its period ends: the kernel then halts all
    its threads until the next period begins, usually for some of every 100 ms.

    ## Why it costs time
    A halted thread makes no progress, and at a barrier all wait for it. It happens most where
    threads or loader workers were counted by the machine's cores (`os.cpu_count()` does not know
    the quota): 16 threads use up a quota of 2 cores in an eighth of the period.

    ## Evidence needed
    - A quota is set, and at least 5 % of its periods were cut short (`cpu.stat`).
    - The training thread itself waited for a CPU, and its group was halted for so long, where that
      could be read: the share that is reported is the smallest of the three.

    The interval: from nothing (the work needs more than the quota however it is spread) to all of
    the wait. Seen on a real run (control group version 1): two threads on 0.6 of two cores were
    halted in 99 % of the periods, for 38 % of the time. One thread whose quota was not reached took
    0.81 times as long a step, and was told nothing of it.

    ## Fix
    `torch.set_num_threads(quota)` and no more loader workers than the quota leaves cores for; or a
    higher quota, or whole cores (`cpuset`) in its place.

    ## Fix safety
    Numerics: another number of threads sums in another order. A higher quota is safe.

    ## When it is wrong
    Where the training needs more than its quota, fewer threads do not help: then the quota is the
    limit of the hardware that was rented. Short bursts at the beginning (imports) do not count, as
    only the steady steps are looked at.

    ## References
    - CFS bandwidth control: https://docs.kernel.org/scheduler/sched-bwc.html
    - Control group v2, cpu.stat: https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu
    - Lightning, threads that ignore the quota:
      https://github.com/Lightning-AI/pytorch-lightning/issues/18677
    """

    id = "loop-cpu-quota"
    title = "A CPU quota halts the training"
    needs = ("host.throttled_share", "host.quota_cores")
    suppresses = ("loop-threads", "loop-contention")
    fires_on = (
        Case(
            "sixteen threads on a quota of two cores",
            {
                "host.throttled_share": 0.6,
                "host.quota_cores": 2.0,
                "host.visible_cores": 16,
                "flags.num_threads": 16,
                "step.run_queue_share": (0.35, 0.3, 0.4),
            },
            severity="warn",
            gain=(1.1, 1.6),
        ),
        Case(
            "two threads on 0.6 cores: queueing for each other is not the quota's",
            {
                "host.throttled_share": 0.99,
                "host.throttled_time_share": 0.38,
                "host.quota_cores": 0.6,
                "host.visible_cores": 2,
                "flags.num_threads": 2,
                "step.run_queue_share": (0.54, 0.5, 0.58),
            },
            severity="warn",
            gain=(1.2, 1.62),
        ),
        Case(
            "a quota below one core",
            {
                "host.throttled_share": 0.08,
                "host.quota_cores": 0.5,
                "host.visible_cores": 4,
                "flags.num_threads": 1,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "a quota that is hardly ever reached",
            {"host.throttled_share": 0.01, "host.quota_cores": 2.0},
        ),
        Case(
            "halted in every third period, but the training thread never waited",
            {
                "host.throttled_share": 0.3,
                "host.quota_cores": 4.0,
                "step.run_queue_share": (0.001, 0.0, 0.002),
            },
        ),
    )

    min_throttled_share = 0.05
    """Part of the periods (a starting value)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Reports periods that were cut short, as far as the training thread felt them."""
        throttled = needed(signals, "host.throttled_share")
        if throttled < self.min_throttled_share:
            return
        waited = number(signals, "step.run_queue_share")
        halted = number(signals, "host.throttled_time_share")
        share = min(one for one in (throttled, waited, halted) if one is not None)
        quota = needed(signals, "host.quota_cores")
        visible = number(signals, "host.visible_cores")
        of = "" if visible is None else f" of {visible:.0f} that it sees"
        yield Candidate(
            summary=f"The CPU quota of {quota:.3g} cores{of} was used up early in "
            f"{percent(throttled)} of its periods.",
            evidence=(
                *observed(signals, "host.throttled_share", self.min_throttled_share),
                *observed(signals, "host.throttled_time_share"),
                *observed(signals, "host.quota_cores"),
                *observed(signals, "host.visible_cores"),
                *observed(signals, "flags.num_threads", f"{quota:.3g}"),
                *observed(signals, "step.run_queue_share"),
            ),
            share=share,
            gain=Gain(1.0, amdahl(share)),
            fixes=(self._advice(signals, quota),),
            max_severity="warn",
        )

    @staticmethod
    def _advice(signals: Signals, quota: float) -> FixAdvice:
        threads = number(signals, "flags.num_threads")
        wanted = max(int(quota), 1)
        if threads is None or threads <= wanted:
            return FixAdvice(
                fix="quota-raise",
                params={},
                safety="safe",
                text="Ask for a higher CPU quota: the threads are no more than it allows.",
            )
        return FixAdvice(
            fix="intra-op-threads",
            params={"num_threads": wanted},
            safety="numerics",
            text=f"Let torch use {wanted} threads, as many as the quota feeds, and count loader "
            "workers by it too.",
            code=f"torch.set_num_threads({wanted})",
        )
