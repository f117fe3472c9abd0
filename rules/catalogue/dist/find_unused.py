"""dist-find-unused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainprof.profiler.model.diagnosis import Evidence, FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    has_several_ranks,
    needed,
    observed,
)
from trainprof.rules.rule import Candidate, Case, Rule


class FindUnused(Rule):
    """DDP searches for unused parameters after each forward, and there are none.

    ## What it finds
    `DistributedDataParallel(..., find_unused_parameters=True)` in a training whose parameters all
    get a gradient.

    ## Why it costs time
    After each forward DDP walks through the whole graph to mark what will not get a gradient. It
    also keeps the buckets in the order of construction, not in the order in which gradients come, so
    that less of the exchange hides behind the backward. That is usually little: one user measured
    no difference, so the interval goes from 1.00 to 1.05, and the finding is a note.

    ## Evidence needed
    - The flag is on, and two ranks or more train.
    - DDP's own log, read after 50 iterations or more, counts no unused parameter.

    Seen on a real run (two gloo ranks, 50 parameters, 500 steps): told with the flag, silent without
    it; beside the waits for each other of two ranks on a busy machine its cost could not be measured.

    ## Fix
    Leave `find_unused_parameters` at False. Where some parameters are left out, and the same ones in
    each step, `static_graph=True` saves the search as well. That is for a person to write: a step
    with other parameters then raises an error (tried with gloo: "Your training graph has changed in
    this iteration"), and nothing cheaper than the search would see it coming.

    ## Fix safety
    Safe while all parameters are used in each step. If one is not, DDP stops with an error in the
    next step, so try it.

    ## When it is wrong
    Models with branches (experts, layer drop, several tasks) may use all parameters for a while and
    need the flag later. Silent where any parameter was unused when DDP's log was read.

    ## References
    - torch.nn.parallel.DistributedDataParallel:
      https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
    - PyTorch performance tuning guide, "Match the order of layers in constructors and during the
      execution": https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - KAIR, no difference measured: https://github.com/cszn/KAIR/issues/103
    """

    id = "dist-find-unused"
    title = "Unused parameters are searched for in vain"
    needs = ("distributed.ddp", "distributed.world_size")
    can_warn = False
    fires_on = (
        Case(
            "the flag was copied along",
            {
                "distributed.ddp": {
                    "find_unused_parameters": True,
                    "logging_unused_parameter_size": 0,
                    "logging_iteration": 400,
                },
                "distributed.world_size": 2,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "off, as by default",
            {"distributed.ddp": {"find_unused_parameters": False}, "distributed.world_size": 2},
        ),
        Case(
            "some parameters are unused",
            {
                "distributed.ddp": {
                    "find_unused_parameters": True,
                    "logging_unused_parameter_size": 4096,
                    "logging_iteration": 400,
                },
                "distributed.world_size": 2,
            },
        ),
        Case(
            "too early to say",
            {
                "distributed.ddp": {
                    "find_unused_parameters": True,
                    "logging_unused_parameter_size": 0,
                    "logging_iteration": 3,
                },
                "distributed.world_size": 2,
            },
        ),
    )

    min_iterations = 50
    """After which DDP's count is believed (a starting value)."""
    gain_high = 1.05
    """Upper end of the gain (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """More than one rank trains."""
        return has_several_ranks(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Reads DDP's own log."""
        ddp = signals.get("distributed.ddp").value
        if not isinstance(ddp, Mapping) or needed(signals, "distributed.world_size") < 2:
            return
        iterations = int(ddp.get("logging_iteration") or 0)
        unused = ddp.get("logging_unused_parameter_size")
        on = ddp.get("find_unused_parameters") is True
        if not on or unused != 0 or iterations < self.min_iterations:
            return
        yield Candidate(
            summary=f"DDP looks for unused parameters in each step; after {iterations} there was "
            "none.",
            evidence=(
                Evidence("distributed.ddp.find_unused_parameters", True, "bool"),
                Evidence("distributed.ddp.unused_parameter_size", 0, "bytes"),
                Evidence("distributed.ddp.iteration", iterations, "count", self.min_iterations),
                *observed(signals, "distributed.world_size"),
            ),
            gain=Gain(1.0, self.gain_high),
            fixes=(
                FixAdvice(
                    fix="ddp-flags",
                    params={"find_unused_parameters": False},
                    safety="safe",
                    text="Drop find_unused_parameters=True, and watch the first steps.",
                    code="DistributedDataParallel(model)",
                ),
            ),
            confidence="medium",
            severity="info",
        )
