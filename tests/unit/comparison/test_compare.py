"""What a comparison concludes of runs that were judged."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainprof.rules.comparison import compare
from trainprof.rules.statistics.groups import (
    Observation,
    group_difference,
    paired_difference,
    runs_to_decide,
)

LIMIT = 0.05


def test_three_runs_a_group_measure_what_equal_runs_differ_by(judged):
    base = [judged(0.010 * noise) for noise in (0.99, 1.0, 1.01)]
    candidate = [judged(0.012 * noise) for noise in (0.99, 1.0, 1.01)]
    found = compare(base, candidate, LIMIT)
    assert (found.verdict, found.gate.outcome) == ("slower", "failed")
    assert found.ratio.point == pytest.approx(1.2)
    assert found.ratio.run_deviation == pytest.approx(0.01, rel=0.01)
    assert not found.ratio.assumed
    assert compare(candidate, base, LIMIT).verdict == "faster"


def test_one_run_each_decides_only_beyond_the_stated_noise(judged):
    near = compare([judged(0.010)], [judged(0.012)], LIMIT)
    assert (near.verdict, near.gate.outcome) == ("no_difference", "undecided")
    assert near.ratio.assumed
    assert near.gate.runs_needed >= 3
    far = compare([judged(0.010)], [judged(0.014)], LIMIT)
    assert (far.verdict, far.gate.outcome) == ("slower", "failed")


def test_a_run_that_waited_for_a_cpu_proves_nothing_alone(judged):
    found = compare([judged(0.010)], [judged(0.014, waited=0.3)], LIMIT)
    assert (found.verdict, found.gate.outcome) == ("no_difference", "undecided")


def test_slower_by_less_than_the_limit_is_no_failure(judged):
    base = [judged(0.010 * noise) for noise in (0.999, 1.0, 1.001)]
    candidate = [judged(0.0102 * noise) for noise in (0.999, 1.0, 1.001)]
    found = compare(base, candidate, LIMIT)
    assert (found.verdict, found.gate.outcome) == ("slower", "passed")


def test_a_run_that_the_machine_spoilt_does_not_count_and_is_named(judged):
    calm = [judged(0.010 * (1 + n / 1000), name=f"calm-{n}") for n in range(4)]
    spoilt = judged(0.05, name="spoilt", waited=0.5)
    found = compare([*calm, spoilt], calm, LIMIT)
    assert found.verdict == "no_difference"
    assert found.base[-1].problem is not None
    assert any(remark.startswith("spoilt does not count") for remark in found.remarks)
    # where all waited, that is how it is here
    busy = [judged(0.010, waited=0.5) for _ in range(5)]
    assert all(run.problem is None for run in compare(busy, calm, LIMIT).base)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"steps": 0, "steady": 0, "mean_s": None}, "no step was recorded"),
        ({"steps": 1, "steady": 0}, "0 of its steps came after the warm-up"),
        ({"steps": 24, "steady": 19}, "19 of its steps"),
        ({"mean_s": None}, "not measured"),
        ({"mean_s": math.nan}, "not measured"),
        ({"mean_s": math.inf}, "not measured"),
        ({"mean_s": 0.0}, "not measured"),
    ],
)
def test_runs_that_tell_nothing_decide_nothing(judged, fields, why):
    found = compare([judged()], [judged(name="poor", **fields)], LIMIT)
    assert (found.verdict, found.gate.outcome, found.ratio) == ("undecided", "undecided", None)
    assert "candidate" in found.reason
    assert why in found.candidate[0].problem
    assert any(remark.startswith("poor does not count") for remark in found.remarks)


def test_other_numbers_of_ranks_are_not_compared(judged):
    found = compare([judged(world_size=2)], [judged(world_size=4)], LIMIT)
    assert found.verdict == "undecided"
    assert found.reason == "the base trained on 2 ranks and the candidate on 4"
    assert [change.name for change in found.changes] == ["ranks"]


def test_larger_batches_are_compared_by_sample(judged):
    found = compare([judged(0.010, samples=32)], [judged(0.018, samples=64)], LIMIT)
    assert found.per == "sample"
    assert found.ratio.point == pytest.approx(0.9)
    (forward, _) = found.phases
    assert forward.base_s == pytest.approx(0.004 / 32)
    assert forward.candidate_s == pytest.approx(0.0072 / 64)


def test_phases_have_intervals_and_sum_to_the_difference(judged):
    base = [judged(0.010 * noise) for noise in (0.99, 1.0, 1.01)]
    slow = {"data_wait": 0.2, "forward": 0.32, "backward": 0.48}
    candidate = [judged(0.0125 * noise, phases=slow) for noise in (0.99, 1.0, 1.01)]
    found = compare(base, candidate)
    # data_wait was not measured in the base
    assert [one.phase for one in found.phases] == ["forward", "backward"]
    for one in found.phases:
        assert one.low_s < one.difference_s < one.high_s
        assert one.low_s < 0.0 < one.high_s
    assert found.gate is None


def test_another_machine_is_no_verdict_on_the_code(judged):
    from trainprof.profiler.model.records import Hardware

    other = {"hardware": Hardware(cpu_model="another CPU")}
    found = compare([judged()], [judged(0.1, **other)], LIMIT)
    assert (found.verdict, found.gate.outcome) == ("slower", "undecided")
    assert "machines of different kinds" in found.gate.reason


def test_what_changed_is_named(judged):
    loader = {"num_workers": 0, "batches": 10, "where": {"file": "a.py", "line": 1}, "rows": [1]}
    base = judged(
        facts={"loader": {"l0": loader}, "flags": {"start": {"a": 1}, "steady": {"a": 2}}},
        commit="aaa",
        environment={"OMP_NUM_THREADS": "1"},
    )
    candidate = judged(
        facts={
            "loader": {"l0": {**loader, "num_workers": 4, "where": {}, "rows": [2]}},
            "flags": {"start": {"a": 3}, "steady": {"a": 2}},
        },
        commit="bbb with changes",
        argv=("train.py", "--lr", "0.1"),
        environment={},
    )
    changes = {
        (one.subject, one.name): (one.base, one.candidate)
        for one in compare([base], [candidate]).changes
    }
    assert changes == {
        ("command", "arguments"): (("train.py",), ("train.py --lr 0.1",)),
        ("command", "commit"): (("aaa",), ("bbb with changes",)),
        ("environment", "OMP_NUM_THREADS"): (("1",), ("absent",)),
        ("loader", "num_workers"): (("0",), ("4",)),
    }


def test_what_only_workers_have_is_no_difference_where_there_are_none(judged):
    alone = {"num_workers": 0, "prefetch_factor": None, "multiprocessing_context": None}
    helped = {"num_workers": 2, "prefetch_factor": 2, "multiprocessing_context": None}
    base, candidate = (judged(facts={"loader": {"l0": one}}) for one in (alone, helped))
    changes = {one.name: (one.base, one.candidate) for one in compare([base], [candidate]).changes}
    assert changes == {
        "num_workers": (("0",), ("2",)),
        "prefetch_factor": (("absent",), ("2",)),
    }


def test_findings_of_every_run_of_one_side_only(judged):
    base = [judged(findings=("loop-gc", "opt-unfused")), judged(findings=("loop-gc",))]
    candidate = [judged(findings=("loop-logging", "opt-unfused")) for _ in range(2)]
    found = compare(base, candidate)
    assert (found.findings_gone, found.findings_new) == (("loop-gc",), ("loop-logging",))


def test_runs_that_were_not_made_in_turns_are_remarked(judged):
    early, late = ([judged(at_s=at) for at in times] for times in ((1.0, 2.0), (3.0, 4.0)))
    assert "in turns" in compare(early, late).remarks[-1]
    turns = [judged(at_s=1.0), judged(at_s=4.0)], [judged(at_s=2.0), judged(at_s=3.0)]
    assert compare(*turns).remarks == ()


def test_runs_that_did_not_end_well_are_remarked(judged):
    found = compare([judged(name="a", ended="running")], [judged(name="b", ended="crashed")])
    assert found.remarks == (
        "a still goes on; its steps until now count.",
        "b is crashed; the steps that it did count.",
    )


def test_runs_that_ended_after_their_steps_are_not_remarked(judged):
    """With the recipe for CI, ten remarks once said that ten runs had done what they were to do."""
    asked = judged(name="a", ended="stopped", stopped_by="steps")
    ended = judged(name="b", ended="stopped", stopped_by="SIGTERM")
    assert compare([asked], [ended]).remarks == ("b is stopped; the steps that it did count.",)


def test_a_name_on_both_sides_is_told_with_its_side(judged):
    found = compare([judged(name="1", ended="crashed")], [judged(name="1", steps=1, steady=0)])
    assert [remark.split(" is ")[0].split(" does ")[0] for remark in found.remarks] == [
        "1 of the base",
        "1 of the candidate",
    ]


def _runs(random, mean, between, count):
    return [Observation(float(random.normal(mean, between)), 0.005, 0.08) for _ in range(count)]


@pytest.mark.parametrize("between", [0.01, 0.03, 0.05])
def test_equal_groups_hardly_ever_fail_and_a_real_slowdown_is_found(between):
    """1,000 comparisons of five runs against five, with noise between runs."""
    random = np.random.default_rng(7)
    limit = math.log1p(LIMIT)
    false, at_limit, found = 0, 0, 0
    for _ in range(1000):
        base = _runs(random, 0.0, between, 5)
        false += group_difference(base, _runs(random, 0.0, between, 5)).low > limit
        at_limit += group_difference(base, _runs(random, limit, between, 5)).low > limit
        found += group_difference(base, _runs(random, math.log(1.15), between, 5)).low > limit
    assert false <= 10
    assert at_limit <= 40  # 2.5 % by design, three deviations of 1,000 draws above it
    assert found >= {0.01: 990, 0.03: 950, 0.05: 600}[between]


def test_single_pairs_with_noise_below_the_floor_hardly_ever_fail():
    random = np.random.default_rng(11)
    failed = 0
    for _ in range(2000):
        base, candidate = (_runs(random, 0.0, 0.07, 1) for _ in range(2))
        failed += group_difference(base, candidate).low > math.log1p(LIMIT)
    assert failed <= 20


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=1, max_size=6),
    st.lists(st.floats(-3, 3), min_size=1, max_size=6),
    st.floats(0, 0.5),
    st.floats(0.01, 0.5),
)
def test_an_interval_holds_its_point_and_turns_round_with_the_groups(old, new, sampling, between):
    base, candidate = ([Observation(v, sampling, between) for v in vs] for vs in (old, new))
    found, turned = group_difference(base, candidate), group_difference(candidate, base)
    assert found.low <= found.point <= found.high
    assert found.point == pytest.approx(-turned.point)
    assert found.high == pytest.approx(-turned.low)
    if min(len(old), len(new)) < 3:
        assert found.assumed
        assert found.deviation >= between


def test_more_noise_needs_more_runs():
    assert runs_to_decide(math.log1p(LIMIT), 0.01) == 3
    assert 5 < runs_to_decide(math.log1p(LIMIT), 0.05) < 15
    assert runs_to_decide(math.log1p(LIMIT), 0.5) is None
    assert runs_to_decide(0.0, 0.01) is None


def test_an_empty_group_is_refused():
    with pytest.raises(ValueError, match="needs a run"):
        group_difference([], [Observation(0.0, 0.0, 0.1)])


def _in_turns(judged, drift, longer=1.0, **fields):
    """Five runs of either side made in turns, on a machine that is slower for some of the time."""
    base, candidate = [], []
    for number, slowed in enumerate(drift):
        noise = 1.0 + 0.002 * (-1) ** number
        at_s = 10.0 * number
        old = {"at_s": at_s + number % 2, "name": f"old-{number}"}
        new = {"at_s": at_s + 1 - number % 2, "name": f"new-{number}"}
        base.append(judged(0.010 * slowed * noise, **old))
        candidate.append(judged(0.010 * slowed * longer / noise, **new, **fields))
    return base, candidate


def test_runs_made_in_turns_are_compared_pair_by_pair(judged):
    drift = (1.0, 1.4, 1.1, 1.8, 1.0)
    found = compare(*_in_turns(judged, drift, 1.1), LIMIT)
    assert found.ratio.pairs == 5
    assert (found.verdict, found.gate.outcome) == ("slower", "failed")
    assert compare(*_in_turns(judged, drift), LIMIT).gate.outcome == "passed"
    # three pairs are too few for that, and the groups differ within themselves
    few = compare(*_in_turns(judged, drift[:3], 1.1), LIMIT)
    assert (few.ratio.pairs, few.gate.outcome) == (None, "undecided")


def test_runs_that_were_not_made_in_turns_are_no_pairs(judged):
    base = [judged(at_s=float(place)) for place in range(5)]
    candidate = [judged(at_s=10.0 + place) for place in range(5)]
    assert compare(base, candidate).ratio.pairs is None


def test_the_partner_of_a_run_that_does_not_count_does_not_either(judged):
    base, candidate = _in_turns(judged, (1.0,) * 6)
    candidate[2] = judged(0.05, at_s=candidate[2].info.started_unix_s, waited=0.6)
    found = compare(base, candidate, LIMIT)
    assert found.ratio.pairs == 5
    assert found.gate.outcome == "passed"
    assert [run.problem is None for run in found.base] == [True, True, False, True, True, True]
    assert any(remark.startswith("old-2 does not count: the run that") for remark in found.remarks)


def test_pairs_of_equal_runs_on_a_drifting_machine_hardly_ever_fail():
    random = np.random.default_rng(5)
    limit = math.log1p(LIMIT)
    false, at_limit, found = 0, 0, 0
    for _ in range(1000):
        drift = random.normal(0.0, 0.3, 5)

        def runs(mean, drift=drift):
            return [Observation(mean + d + random.normal(0.0, 0.03), 0.005, 0.08) for d in drift]

        base = runs(0.0)
        false += paired_difference(base, runs(0.0)).low > limit
        at_limit += paired_difference(base, runs(limit)).low > limit
        found += paired_difference(base, runs(math.log(1.15))).low > limit
    assert false <= 10
    assert at_limit <= 40
    assert found >= 900


def test_pairs_need_as_many_of_both():
    one = Observation(0.0, 0.0, 0.1)
    for base, candidate in (([one], [one]), ([one, one], [one])):
        with pytest.raises(ValueError, match="as many of both"):
            paired_difference(base, candidate)
