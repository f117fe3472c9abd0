"""Which fixes of a diagnosis become candidates, and how careful a tune has to be with each."""

import pytest

from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Finding,
    FixAdvice,
    Gain,
    Location,
    RunSummary,
    StepSummary,
)
from trainprof.rules.experiments.candidates import candidates_of


def advice(fix, safety="numerics", **params):
    return FixAdvice(fix, params, safety, "Do it.")


def finding(*fixes, gain=(1.1, 1.5), rule="some-rule"):
    where = Location("/project/train.py", 7)
    return Finding(rule, "warn", "t", "s", (), where, gain=Gain(*gain), fixes=fixes)


def diagnosis(*findings, draws=None):
    facts = {"signals": {"dataset.draws_random_numbers": {"value": draws, "unit": "bool"}}}
    return Diagnosis(
        1, "run", RunSummary("complete"), "bottleneck", "h", StepSummary(100, 90), findings,
        facts=facts if draws is not None else {},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("draws", "safety"), [(False, "safe"), (True, "numerics"), (None, "numerics")]
)
def test_workers_are_safe_where_the_data_draws_no_random_numbers(draws, safety):
    found, _ = candidates_of(diagnosis(finding(advice("loader-workers")), draws=draws))
    assert (found[0].safety, found[0].rounding) == (safety, False)


def test_what_is_safe_here_is_tried_where_only_that_is_allowed():
    workers = finding(advice("loader-workers"))
    assert candidates_of(diagnosis(workers, draws=False), "safe")[0]
    assert not candidates_of(diagnosis(workers, draws=True), "safe")[0]


def test_rounding_stays_rounding_whatever_the_data_draws():
    found, _ = candidates_of(diagnosis(finding(advice("optimizer-fused")), draws=False))
    assert found[0].safety == "numerics"


def test_the_largest_gain_comes_first_and_the_rest_has_a_reason():
    found, refused = candidates_of(
        diagnosis(
            finding(advice("gc-freeze"), gain=(1.0, 1.1)),
            finding(advice("optimizer-fused"), advice("loader-order", "semantics")),
            finding(advice("buy-a-faster-disk")),
        )
    )
    assert [one.application.fix for one in found] == ["optimizer-fused", "gc-freeze"]
    assert {one.fix: one.reason for one in refused} == {
        "loader-order": "it changes semantics; ask for it with --allow semantics",
        "buy-a-faster-disk": "it needs a person's hand",
    }


def test_two_objects_of_one_finding_are_two_candidates():
    there = Location("/project/train.py", 8)
    other = FixAdvice("optimizer-fused", {}, "numerics", "The same.", where=there)
    found, _ = candidates_of(diagnosis(finding(advice("optimizer-fused"), other)))
    assert [one.application.target.line for one in found] == [7, 8]
