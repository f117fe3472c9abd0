"""dist-collective-wait."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, duration, number, needed, observed, percent, size, text
from trainprof.rules.rule import Candidate, Case, Rule


class CollectiveWait(Rule):
    """A training on the CPU stands still until other ranks have exchanged their data.

    ## What it finds
    In a trace of a training on the CPU: times in which the training thread does nothing of its own
    while a collective of gloo or MPI is under way.

    ## Why it costs time
    `DistributedDataParallel` averages gradients in threads of the backend, beside the backward.
    What is not done when the backward ends is waited for: for a rank that comes late, or for the
    network.

    ## Evidence needed
    - In at least 5 % of the window the training thread waited like that (TraceLens reports exposed
      communication from 5 %).

    One trace does not tell a late rank from a slow network, so the confidence is low. The expected
    gain is Amdahl's bound on the share; below, a quarter of it.

    ## Fix
    First look at who is late: record the other ranks at the same steps too. If nobody is: fewer
    bytes (`register_comm_hook(None, default_hooks.bf16_compress_hook)`), fewer exchanges
    (accumulation under `no_sync()`), a faster network (`GLOO_SOCKET_IFNAME` names the interface).

    ## Fix safety
    Numerics for compressed gradients, semantics for accumulation.

    ## When it is wrong
    A thread that waits for something else, while a collective happens to be under way, looks alike.

    ## References
    - TraceLens: https://github.com/AMD-AGI/TraceLens
    - DDP communication hooks: https://docs.pytorch.org/docs/stable/ddp_comm_hooks.html
    """

    id = "dist-collective-wait"
    title = "The training waits for collectives"
    yields_to = ("dist-",)
    needs = ("training_thread.collective_wait_share", "timeline.window")
    fires_on = (
        Case(
            "gloo exchanges gradients in four fifths of the window",
            {
                "training_thread.on_cpu": True,
                "training_thread.collective_wait_share": 0.83,
                "collectives.median_s": 0.17,
                "collectives.per_step": 1,
                "timeline.window": "5 whole steps",
            },
            severity="critical",
            gain=(1.2, 6.0),
        ),
    )
    silent_on = (
        Case(
            "the backward hides it",
            {
                "training_thread.on_cpu": True,
                "training_thread.collective_wait_share": 0.02,
                "timeline.window": "5 whole steps",
            },
        ),
        Case(
            "a device may work meanwhile",
            {
                "training_thread.on_cpu": False,
                "training_thread.collective_wait_share": 0.5,
                "timeline.window": "5 whole steps",
            },
        ),
    )

    min_share = 0.05
    """Of the window (TraceLens reports exposed communication from 5 %)."""
    least_removable = 0.25
    """Part of it, for the lower end of the gain (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """There is a trace of a training on the CPU."""
        return signals.get("training_thread.on_cpu").value is True

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Holds the share against the threshold."""
        share = needed(signals, "training_thread.collective_wait_share")
        if share < self.min_share or signals.get("training_thread.on_cpu").value is not True:
            return
        median_s = number(signals, "collectives.median_s")
        each = f"; half of them take longer than {duration(median_s)}" if median_s else ""
        sent = number(signals, "collectives.bytes_per_step")
        bytes_sent = f", {size(sent)} a step" if sent else ""
        yield Candidate(
            summary=(
                f"In {percent(share)} of {text(signals, 'timeline.window')} the training did "
                f"nothing but wait for collectives{bytes_sent}{each}."
            ),
            evidence=(
                *observed(signals, "training_thread.collective_wait_share", self.min_share),
                *observed(signals, "collectives.kinds"),
                *observed(signals, "collectives.per_step"),
                *observed(signals, "collectives.median_s"),
                *observed(signals, "collectives.bytes_per_step"),
                *observed(signals, "collectives.ranks"),
            ),
            share=share,
            gain=Gain(amdahl(share * self.least_removable), amdahl(share)),
            fixes=(
                FixAdvice(
                    fix="gradient-compression",
                    params={},
                    safety="numerics",
                    text="See first which rank comes last: give the traces of all ranks together. "
                    "If none does, send less: gradients as bfloat16, or a faster network.",
                    code="model.register_comm_hook(None, default_hooks.bf16_compress_hook)",
                ),
            ),
            confidence="low",
        )
