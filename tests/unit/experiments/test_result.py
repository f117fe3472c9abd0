"""From the outcome of a tune to the record that reports show."""

import math
from dataclasses import replace

import pytest

from trainprof.profiler.model.diagnosis import Gain
from trainprof.profiler.model.plan import Application
from trainprof.rules.experiments.candidates import Candidate, Refused
from trainprof.rules.experiments.experiment import Experiment
from trainprof.rules.experiments.outcome import Outcome
from trainprof.rules.experiments.result import cases_of, plan_of, result_of


def experiment(fix, verdict, *ratios, **params):
    gain = Gain(1.1, 1.5)
    one = Candidate(Application(fix, params), "some-rule", "safe", True, gain, None)
    return Experiment(
        fix, (one,), log_ratios=[math.log(ratio) for ratio in ratios], verdict=verdict, looks=1
    )


KEPT = experiment("loader-workers", "keep", 1.4, 1.5, 1.4, 1.5, 1.4, 1.5, num_workers=2)
DROPPED = experiment("gc-freeze", "reject", 0.9, 0.9)
ENDED = {"run": "r", "plan": None, "patch": None, "steps": 30, "seconds": 60.0, "ended": "complete"}


def outcome(final=KEPT, equal=(0.01, -0.02, 0.01, 0.0), **more):
    refused = (Refused("gc-paced", "loop-gc", "it was not in force"),)
    return Outcome(final, (KEPT, DROPPED), refused, equal, "complete", **more)


def test_what_is_kept_has_its_numbers():
    result = result_of(outcome(), **ENDED)
    assert [one.fix for one in result.kept] == ["loader-workers"]
    assert result.kept[0].params == {"num_workers": 2}
    assert result.speedup == pytest.approx(1.449, abs=1e-3)
    assert [one.fix for one in result.rejected] == ["gc-freeze"]
    assert [one.reason for one in result.refused] == ["it was not in force"]
    kept = KEPT.candidates[0]
    assert plan_of(outcome()).applications == (replace(kept.application, safety=kept.safety),)


def test_the_noise_says_what_can_be_seen():
    noise = result_of(outcome(), **ENDED).aa
    assert noise["sd"] == pytest.approx(0.0141, abs=1e-3)
    assert 1.0 < noise["detectable"]["16"] < noise["detectable"]["6"] < 1.05
    assert result_of(outcome(equal=(0.01,)), **ENDED).aa["sd"] is None


def test_nothing_kept_is_no_number():
    result = result_of(outcome(final=None), **ENDED)
    assert (result.speedup, result.ci, result.kept, plan_of(outcome(None))) == (
        None,
        None,
        (),
        None,
    )


def test_several_together_say_how_that_went():
    together = experiment("a + b", "reject", 0.9, 0.8)
    result = result_of(outcome(combinations=(together,), dropped=2), **ENDED)
    assert (result.combinations[0].verdict, result.dropped_pairs) == ("reject", 2)


def test_predictions_are_held_against_what_was_measured():
    by_far = experiment("slow", "reject", 0.5)  # of one pair there is no interval
    later = replace(KEPT, base=DROPPED.candidates)
    asked = experiment("gc-paced", "keep", 1.2, 1.2)
    asked.candidates = (replace(asked.candidates[0], predicted=None),)
    tried = (KEPT, DROPPED, by_far, later, asked)
    found = cases_of(replace(outcome(), experiments=tried), "a CPU", "t", 5.0)
    assert [(one.rule, one.fix, one.low, one.high, one.right) for one in found] == [
        ("some-rule", "loader-workers", 1.1, 1.5, True),
        ("some-rule", "gc-freeze", 1.1, 1.5, False),
    ]
    assert (found[0].measured, found[0].machine, found[0].tune) == (
        pytest.approx(1.449, abs=1e-3),
        "a CPU",
        "t",
    )


def test_what_is_proven_but_not_part_of_what_is_kept_is_not_forgotten():
    other = experiment("gc-freeze", "keep", 1.2, 1.2, 1.3, 1.2, 1.2, 1.2)
    result = result_of(replace(outcome(), experiments=(KEPT, other)), **ENDED)
    assert [one.fix for one in result.kept] == ["loader-workers"]
    assert [(one.fix, one.reason) for one in result.inconclusive] == [
        ("gc-freeze", "faster by itself, and not shown to be so together with what is kept")
    ]
