"""dist-unused-devices."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, trains_on_cpu
from trainprof.rules.rule import Candidate, Case, Rule


class UnusedDevices(Rule):
    """Several GPUs are there, and only some of them work.

    ## What it finds
    A training on one rank while other GPUs of the machine are idle all the time.

    ## Why it costs time
    Data parallelism over n GPUs takes up to n times less time for an epoch, as long as a step is
    long against the exchange of its gradients.

    ## Evidence needed
    - Two GPUs or more were sampled, one at least is busy and one at least is idle (below 5 % on
      average over the steady steps).
    - One rank trains, with steps of 10 ms or more: shorter ones are bound by launches, not by the
      device.

    Whether the training may use them is not known, and no gain is predicted, so it is a note.
    confirmed on: synthetic records only.

    ## Fix
    Data parallelism if parameters, gradients and optimizer state fit into one GPU
    (`torchrun` and DistributedDataParallel), else FSDP.

    ## Fix safety
    Semantics: the batch of an update becomes n times as large, or each rank's n times smaller.

    ## When it is wrong
    The other GPUs belong to somebody else, or a scheduler has not given them; small models gain
    nothing.

    ## References
    - Distributed data parallel: https://docs.pytorch.org/tutorials/intermediate/ddp_tutorial.html
    """

    id = "dist-unused-devices"
    title = "Other GPUs of this machine are idle"
    needs = ("devices.count", "devices.idle_count", "distributed.world_size", "step.mean_s")
    can_warn = False
    fires_on = (
        Case(
            "three of four GPUs are idle",
            {
                "devices.count": 4,
                "devices.idle_count": 3,
                "distributed.world_size": 1,
                "step.mean_s": 0.12,
                "model.devices": {"cuda:0": 1_000},
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "all are busy",
            {
                "devices.count": 4,
                "devices.idle_count": 0,
                "distributed.world_size": 4,
                "step.mean_s": 0.12,
            },
        ),
        Case(
            "a single GPU",
            {
                "devices.count": 1,
                "devices.idle_count": 0,
                "distributed.world_size": 1,
                "step.mean_s": 0.12,
            },
        ),
        Case(
            "steps of 2 ms",
            {
                "devices.count": 2,
                "devices.idle_count": 1,
                "distributed.world_size": 1,
                "step.mean_s": 0.002,
            },
        ),
        Case(
            "training on the CPU, beside somebody's training on a GPU",
            {
                "devices.count": 2,
                "devices.idle_count": 1,
                "distributed.world_size": 1,
                "step.mean_s": 0.5,
                "model.devices": {"cpu": 1_000},
            },
        ),
        Case(
            "training on the CPU: all GPUs are idle",
            {
                "devices.count": 2,
                "devices.idle_count": 2,
                "distributed.world_size": 1,
                "step.mean_s": 0.5,
            },
        ),
    )

    min_step_s = 0.010
    """Seconds; shorter steps are bound by launches (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """The training uses an accelerator: what is busy is not somebody else's."""
        return not trains_on_cpu(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Some work, and some do not."""
        count, idle = needed(signals, "devices.count"), needed(signals, "devices.idle_count")
        if trains_on_cpu(signals):
            return  # what is busy is somebody else's
        if not 0 < idle < count or (number(signals, "distributed.world_size") or 1) > 1:
            return
        if needed(signals, "step.mean_s") < self.min_step_s:
            return
        yield Candidate(
            summary=f"{idle:.0f} of {count:.0f} GPUs are idle while one rank trains.",
            evidence=(
                *observed(signals, "devices.idle_count"),
                *observed(signals, "devices.count"),
                *observed(signals, "distributed.world_size"),
                *observed(signals, "step.mean_s", self.min_step_s),
            ),
            fixes=(
                FixAdvice(
                    fix="data-parallel",
                    params={"ranks": int(count)},
                    safety="semantics",
                    text="Use one process for each GPU, if they are yours to use.",
                    code=f"torchrun --nproc_per_node={count:.0f} train.py",
                ),
            ),
            confidence="low",
            severity="info",
        )
