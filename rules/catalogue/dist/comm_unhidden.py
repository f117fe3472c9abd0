"""dist-comm-unhidden."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, size, text
from trainprof.rules.rule import Candidate, Case, Rule


class CommUnhidden(Rule):
    """The device exchanges data with other ranks, and computes nothing meanwhile.

    ## What it finds
    In a trace: kernels of collectives that no computation hides, where it is not a late rank that
    stretches them.

    ## Why it costs time
    Collectives run on a stream of their own, beside the computation, if something is left to compute
    that does not need their result. What is sent after the last gradient, or waited for at once,
    adds its whole length to the step.

    ## Evidence needed
    - At least 5 % of the window is exposed communication (TraceLens reports from 5 %).
    - Less than 70 % of the time of the collectives is hidden (TraceLens).
    - Where the traces of several ranks are given, what the rank waited for others is taken off
      first: a late rank is another finding. One trace alone does not tell it: the finding has low
      confidence and is never critical.

    Where the sizes are known, the bus bandwidth of collectives of 1 MiB or more stands beside it:
    one below 12 GB/s is less than PCIe 3.0 with 16 lanes moves in practice, so a link is slow. The
    algorithm bandwidth is size by time: it tells how long an exchange of another size would take.

    The expected gain is Amdahl's bound on the exposed time above; below, a quarter of it.

    ## Fix
    In this order: let the backward hide it (buckets of another size, `static_graph=True`, prefetching
    under FSDP); a faster link, or ranks that are nearer to each other; fewer bytes (gradients as
    bfloat16: `model.register_comm_hook(None, default_hooks.bf16_compress_hook)`); a larger batch per
    rank, or accumulation under `no_sync()`.

    ## Fix safety
    Safe for buckets and flags, numerics for compressed gradients, semantics for a larger batch.

    ## When it is wrong
    An all-to-all whose result the next layer needs cannot be hidden by that layer.

    ## References
    - TraceLens: https://github.com/AMD-AGI/TraceLens
    - Holistic Trace Analysis, communication-computation overlap:
      https://hta.readthedocs.io/en/latest/source/features/comm_comp_overlap.html
    - nccl-tests, both bandwidths: https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
    """

    id = "dist-comm-unhidden"
    title = "Communication that nothing hides"
    what_if = "overlapped-communication"
    needs = (
        "timeline.exposed_communication_share",
        "collectives.overlap_share",
        "timeline.window",
    )
    fires_on = (
        Case(
            "a quarter of the window, of which others were waited for in 3 %",
            {
                "timeline.exposed_communication_share": 0.25,
                "collectives.waited_share": 0.03,
                "collectives.transfer_share": 0.22,
                "collectives.overlap_share": 0.2,
                "collectives.main_kind": "all-to-all",
                "collectives.bus_bytes_per_s": 9e9,
                "collectives.algorithm_bytes_per_s": 10.3e9,
                "timeline.window": "5 whole steps",
            },
            severity="critical",
            gain=(1.05, 1.3),
        ),
        Case(
            "one trace alone",
            {
                "timeline.exposed_communication_share": 0.08,
                "collectives.overlap_share": 0.5,
                "timeline.window": "5 whole steps",
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "nearly all of it is waiting for a late rank",
            {
                "timeline.exposed_communication_share": 0.3,
                "collectives.waited_share": 0.28,
                "collectives.transfer_share": 0.02,
                "collectives.overlap_share": 0.1,
                "timeline.window": "5 whole steps",
            },
        ),
        Case(
            "three quarters are hidden",
            {
                "timeline.exposed_communication_share": 0.06,
                "collectives.overlap_share": 0.75,
                "timeline.window": "5 whole steps",
            },
        ),
    )

    min_share = 0.05
    """Of the window (TraceLens reports exposed communication from 5 %)."""
    max_overlap = 0.70
    """Part of the collectives' time (TraceLens)."""
    least_removable = 0.25
    """Part of it, for the lower end of the gain (a starting value)."""
    slow_bytes_per_s = 12e9
    """What PCIe 3.0 x16 moves in practice, of 15.75 GB/s by its specification."""

    def applies(self, signals: Signals) -> bool:
        """The trace holds collectives of a device."""
        return number(signals, "collectives.overlap_share") is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Takes off what was waited for others, and looks at the rest."""
        exposed = needed(signals, "timeline.exposed_communication_share")
        overlap = needed(signals, "collectives.overlap_share")
        transfer = number(signals, "collectives.transfer_share")
        share = exposed if transfer is None else transfer
        if share < self.min_share or overlap >= self.max_overlap:
            return
        kind = text(signals, "collectives.main_kind")
        most = f", most of it {kind}" if kind else ""
        speed = number(signals, "collectives.bus_bytes_per_s")
        slow = speed is not None and speed < self.slow_bytes_per_s
        moved = f"; large ones move {size(speed)}/s over each link" if speed is not None else ""
        unknown = "; waiting for other ranks is in it" if transfer is None else ""
        yield Candidate(
            summary=(
                f"In {percent(share)} of {text(signals, 'timeline.window')} the device only "
                f"exchanged data with other ranks{most}; computation hides {percent(overlap)} of "
                f"the collectives' time{moved}{unknown}."
            ),
            evidence=(
                *observed(signals, "timeline.exposed_communication_share", self.min_share),
                *observed(signals, "collectives.overlap_share", self.max_overlap, "TraceLens"),
                *observed(signals, "collectives.transfer_share", self.min_share),
                *observed(signals, "collectives.waited_share"),
                *observed(signals, "collectives.bus_bytes_per_s", self.slow_bytes_per_s),
                *observed(signals, "collectives.algorithm_bytes_per_s"),
                *observed(signals, "collectives.median_bytes"),
                *observed(signals, "collectives.per_step"),
            ),
            share=share,
            gain=Gain(amdahl(share * self.least_removable), amdahl(share)),
            fixes=self._advice(slow),
            confidence="low" if transfer is None else "medium",
            max_severity="warn" if transfer is None else "critical",
        )

    @staticmethod
    def _advice(slow: bool) -> tuple[FixAdvice, ...]:
        hide = FixAdvice(
            fix="overlapped-communication",
            params={},
            safety="safe",
            text="Let the backward hide the exchange: DistributedDataParallel with buckets of "
            "another size and static_graph=True, prefetching under FSDP.",
            code="DistributedDataParallel(model, bucket_cap_mb=50, static_graph=True)",
        )
        send_less = FixAdvice(
            fix="gradient-compression",
            params={},
            safety="numerics",
            text="Send fewer bytes, as the link is slow: gradients as bfloat16, accumulation under "
            "no_sync(), ranks that are nearer to each other.",
            code="model.register_comm_hook(None, default_hooks.bf16_compress_hook)",
        )
        return (hide, send_less) if slow else (hide,)
