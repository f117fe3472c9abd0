"""The single pairs of an experiment are recorded, in order, with what does not count and why."""

import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.tuning import Pair
from trainprof.rules.experiments.experiment import Experiment
from trainprof.rules.experiments.measured_pair import FAILED, pair_of
from trainprof.rules.experiments.result import result_of
from trainprof.rules.experiments.trial import Trial
from trainprof.rules.experiments.tune import EQUAL_PAIRS, Tune
from trainprof.rules.statistics.pairs import LOOKS, decide, deciding_low

REPLAYED = runpy.run_path(str(Path(__file__).with_name("test_tune.py")))
Clock, Replay, candidate = (REPLAYED[name] for name in ("Clock", "Replay", "candidate"))
ENDED = {"run": "r", "plan": None, "patch": None, "steps": 20, "seconds": 9.0, "ended": "complete"}


class Crowded(Replay):
    """Steps as long as samples, and one trial that had to wait for a CPU."""

    spoilt = 2 * EQUAL_PAIRS + 11

    def run(self, plan, steps, label, seed_shift=0):
        trial = super().run(plan, steps, label, seed_shift)
        share = 0.5 if len(self.plans) == self.spoilt else 0.02
        return replace(trial, step_s=trial.seconds and 4 * trial.seconds, delay_share=share)


def tuned(runner, *fixes):
    candidates = [candidate(fix) for fix in fixes]
    return Tune(runner, candidates, (), steps=20, budget_s=1e6, clock=runner.clock).run()


def test_every_pair_is_recorded_in_order_and_those_that_count_make_the_ratio():
    outcome = tuned(Crowded(Clock(), {"fast": 1.3}), "fast")
    (fast,) = result_of(outcome, **ENDED).kept
    assert len(fast.measured) == fast.pairs + 1 == 7
    counting = [math.log(one.ratio) for one in fast.measured if one.left_out is None]
    assert counting == outcome.experiments[0].log_ratios
    assert [one.left_out is None for one in fast.measured] == [True] * 5 + [False, True]
    assert fast.measured[5].left_out == (
        "a trial waited for a CPU 50 % of its time, where 2 % is usual"
    )
    assert [one.first for one in fast.measured[:2]] == ["new", "old"]
    for one in fast.measured:
        assert one.ratio == pytest.approx(one.old_step_s / one.new_step_s)
    assert fast.deciding_low > 1.0


def test_the_order_is_that_of_the_trials():
    runner = Crowded(Clock(), {"fast": 1.3})
    outcome = tuned(runner, "fast")
    ran = runner.plans[2 * EQUAL_PAIRS :]
    first = ["new" if plans else "old" for plans in ran[::2]]
    assert [one.first for one in outcome.experiments[0].measured] == first


def test_the_control_is_recorded_too():
    result = result_of(tuned(Crowded(Clock(), {"fast": 1.3}), "fast"), **ENDED)
    assert len(result.aa_pairs) == result.aa["pairs"] == EQUAL_PAIRS
    assert {one.first for one in result.aa_pairs} == {"old"}
    low, high = result.aa["ci"]
    assert low < result.aa["ratio"] < high
    assert result.least_ratio == 1.03


@pytest.mark.parametrize("failing", [1, 2])
def test_a_pair_whose_trial_failed_is_there_without_a_ratio(failing):
    class Failing(Crowded):
        def run(self, plan, steps, label, seed_shift=0):
            trial = super().run(plan, steps, label, seed_shift)
            failed = len(self.plans) == 2 * EQUAL_PAIRS + failing
            return Trial(None, problem="it hung") if failed else trial

    (one,) = result_of(tuned(Failing(Clock()), "fast"), **ENDED).failed
    (pair,) = one.measured
    assert (pair.ratio, pair.left_out, pair.first) == (None, FAILED, "new")
    assert (pair.new_step_s is None, pair.old_step_s is None) == (failing == 1, True)


def test_arms_keep_their_places_whichever_ran_first():
    old, new = Trial(0.3, step_s=3.0), Trial(0.2, step_s=2.0)
    expected = Pair("old", 3.0, 2.0, 0.3 / 0.2)
    assert pair_of([old, new], old_first=True, left_out=None) == expected
    swapped = replace(expected, first="new")
    assert pair_of([new, old], old_first=False, left_out=None) == swapped


log_ratios = st.lists(st.floats(-0.5, 0.5), min_size=LOOKS[0], max_size=LOOKS[0])


@given(log_ratios, st.integers(1, 20))
def test_what_is_kept_lies_above_one_by_the_end_that_decides(ratios, tests):
    low = deciding_low(ratios, tests)
    if decide(ratios, tests) == "keep":
        assert low >= 1.0
    elif low > 1.0 + 1e-9:  # then the ratio itself is too small
        assert Experiment("x", (), log_ratios=ratios).speedup < 1.03
    assert deciding_low([*ratios, 0.0], tests) is None
