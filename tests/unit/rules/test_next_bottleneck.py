"""What bounds the step after a fix: phases taken out, and workers that no longer keep up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.diagnosis import Evidence, Gain
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.engine import judge
from trainprof.rules.next_bottleneck import phase_after, phases_of
from trainprof.rules.rule import Candidate, Rule


def signals(**values: float) -> Signals:
    return Signals({name.replace("__", "."): Signal(value) for name, value in values.items()})


def step(**shares: float) -> dict[str, float]:
    return {f"step__{phase}_share": share for phase, share in shares.items()}


WAITING = step(data_wait=0.6, forward=0.1, backward=0.25, optimizer=0.05)


def test_the_largest_phase_that_is_left() -> None:
    assert phase_after(signals(**WAITING), ["data_wait"], 2.4) == "backward"


def test_a_phase_that_is_only_halved_may_stay_the_largest() -> None:
    assert phase_after(signals(**WAITING), ["data_wait"], 1.3) == "data_wait"


def test_time_goes_out_of_several_phases_in_proportion() -> None:
    shares = step(forward=0.3, backward=0.4, optimizer=0.3)
    assert phase_after(signals(**shares), ["forward", "backward"], 1 / 0.6) == "optimizer"


def test_workers_that_kept_up_with_a_slow_optimizer_no_longer_do() -> None:
    """20 ms a step, of which 15 for the optimizer; two workers need 12 ms a batch."""
    loader = {
        "loader__num_workers": 2,
        "loader__producer_wall_s": 0.024,
        "loader__producer_cpu_s": 0.002,
        "loader__consumer_s": 0.0196,
        "host__usable_cores": 8.0,
        "step__mean_s": 0.02,
    }
    shares = step(data_wait=0.02, forward=0.08, backward=0.15, optimizer=0.75)
    assert phase_after(signals(**shares, **loader), ["optimizer"], 3.0) == "data_wait"
    quick = loader | {"loader__producer_wall_s": 0.004}
    assert phase_after(signals(**shares, **quick), ["optimizer"], 3.0) == "backward"


@pytest.mark.parametrize(
    ("shares", "phases"),
    [
        (step(data_wait=0.3), ["data_wait"]),
        (WAITING, []),
        (WAITING, ["gc"]),
        ({}, ["data_wait"]),
    ],
    ids=["too little is known", "no phase", "a phase of no share", "nothing is known"],
)
def test_says_nothing_where_it_does_not_know(shares: dict[str, float], phases: list[str]) -> None:
    assert phase_after(signals(**shares), phases, 2.0) is None


@given(st.lists(st.floats(0.01, 1.0), min_size=len(PHASES), max_size=len(PHASES)), st.floats(1, 50))
def test_names_a_phase_that_is_there_whatever_the_shares(
    weights: list[float], speedup: float
) -> None:
    shares = {phase: weight / sum(weights) for phase, weight in zip(PHASES, weights, strict=True)}
    for phase in PHASES:
        bound = phase_after(signals(**step(**shares)), [phase], speedup)
        assert bound in PHASES
        others = [share for name, share in shares.items() if name != phase]
        if bound != phase:
            assert shares[bound] == max(others)


def test_phases_are_those_that_the_evidence_names() -> None:
    evidence = [
        Evidence("step.optimizer_share", 0.4, "share"),
        Evidence("optimizer.type", "Adam", "text"),
        Evidence("step.optimizer_s", 0.01, "s"),
        Evidence("gc.share", 0.1, "share"),
    ]
    assert phases_of(evidence) == ("optimizer", "gc")


class Slow(Rule):
    """Any rule."""

    id = "loop-slow"
    title = "Something is slow"


def judged(**values: object) -> str | None:
    evidence = (Evidence("step.data_wait_share", 0.6, "share"),)
    candidate = Candidate("It waits.", evidence, share=0.6, gain=Gain(2.2, 2.5), **values)
    finding, _ = judge(Slow(), candidate, signals(**WAITING, step__steady_count=100))
    assert finding is not None
    return finding.next_bottleneck


def test_every_finding_with_a_gain_says_what_comes_next() -> None:
    assert judged() == "backward"


def test_a_rule_that_knows_better_is_heard() -> None:
    assert judged(next_bottleneck="sync") == "sync"
    assert judged(phases=("backward",)) == "data_wait"
