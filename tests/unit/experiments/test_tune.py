"""The course of a tune over a runner that replays times: what is kept, and what never may be."""

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest

from trainprof.profiler.model.diagnosis import Gain
from trainprof.profiler.model.plan import Application
from trainprof.rules.experiments.candidates import Candidate
from trainprof.rules.experiments.delays import Delays
from trainprof.rules.experiments.start_cost import why_it_does_not_pay
from trainprof.rules.experiments.trial import FixState, Trial
from trainprof.rules.experiments.tune import EQUAL_PAIRS, BaselineFailed, Tune
from trainprof.rules.statistics.pairs import decide


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Replay:
    """Runs in which each fix multiplies the speed by a known factor, with noise of a known size."""

    def __init__(self, clock, gains=None, noise=0.02, seed=1, **changes):
        self.clock, self.gains, self.changes = clock, gains or {}, changes
        self.random, self.noise = np.random.default_rng(seed), noise
        self.plans, self.shifts = [], []

    def run(self, plan, steps, label, seed_shift=0):
        self.clock.now += 5.0
        self.shifts.append(seed_shift)
        fixes = [application.fix for application in plan.applications]
        self.plans.append(fixes)
        seconds = 0.01 * math.exp(self.random.normal(0.0, self.noise))
        for fix in fixes:
            seconds /= self.gains.get(fix, 1.0)
        trial = {
            "seconds": seconds,
            "steps": steps,
            "p95_s": seconds * 1.1,
            "losses": {step: (1 + 0.1 * seed_shift) / (step + 1) for step in range(steps)},
            "seed_calls": 1,
            "fixes": tuple(FixState(fix, True, None) for fix in fixes),
        }
        for fix in fixes:
            trial |= self.changes.get(fix, {})
        return Trial(**trial)


ABBA = ["changed", "old", "old", "changed"]


def candidate(fix, predicted=(1.1, 2.0), safety="safe", verifies=None, rounding=True):
    gain = Gain(*predicted) if predicted else None
    return Candidate(Application(fix), "some-rule", safety, rounding, gain, verifies)


def tune(candidates, *, budget_s=100_000.0, **replay):
    clock = Clock()
    runner = Replay(clock, **replay)
    one = Tune(runner, candidates, (), steps=20, budget_s=budget_s, clock=clock)
    return one.run(), runner


def verdicts(outcome):
    return {one.name: one.verdict for one in outcome.experiments}


def test_a_real_gain_is_kept_and_measured():
    outcome, runner = tune([candidate("fast")], gains={"fast": 1.5})

    assert verdicts(outcome) == {"fast": "keep"}
    assert outcome.final.ratio.low <= 1.5 <= outcome.final.ratio.high
    assert runner.plans[: 2 * EQUAL_PAIRS] == [[]] * 2 * EQUAL_PAIRS
    assert len(outcome.equal_log_ratios) == EQUAL_PAIRS


def test_knobs_are_set_before_and_proven_by_fresh_pairs():
    clock = Clock()
    runner = Replay(clock, {"loader-workers": 1.4})
    advised = Candidate(
        Application("loader-workers", {"num_workers": 2}), "some-rule", "safe", True, None, None
    )

    def choose(candidate, measure, left_s):
        assert [measure(candidate, pair) > 0.2 for pair in range(3)] == [True] * 3
        application = Application("loader-workers", {"num_workers": 3})
        return dataclasses.replace(candidate, application=application)

    one = Tune(runner, [advised], (), steps=20, budget_s=1e6, clock=clock, choose=choose)
    outcome = one.run()
    assert outcome.final.candidates[0].application.params == {"num_workers": 3}
    assert len(outcome.final.log_ratios) == 6  # those of the search are not among them
    assert len(runner.plans) == 2 * (EQUAL_PAIRS + 3 + 6)


def test_no_time_goes_into_knobs_where_proof_would_suffer():
    def choose(candidate, measure, left_s):
        raise AssertionError("there is no time for this")

    clock = Clock()
    budget_s = 5.0 * (2 * EQUAL_PAIRS + 12)
    one = Tune(
        Replay(clock, {"fast": 1.5}),
        [candidate("fast")],
        (),
        steps=20,
        budget_s=budget_s,
        clock=clock,
        choose=choose,
    )
    assert verdicts(one.run()) == {"fast": "keep"}


def test_two_pairs_are_turned_about_and_chance_says_which_arm_begins():
    begins = set()
    for seed in range(12):
        _, runner = tune([candidate("fast")], gains={"fast": 1.5}, seed=seed)
        order = ["changed" if plan else "old" for plan in runner.plans[2 * EQUAL_PAIRS :]]
        blocks = [order[place : place + 4] for place in (0, 4, 8)]
        assert all(block in (ABBA, ABBA[2:] + ABBA[:2]) for block in blocks)
        assert blocks[0] == ABBA  # a fix that is not in force then costs one trial
        begins.add((blocks[1][0], blocks[2][0]))
    assert len(begins) == 4


def test_a_tune_that_goes_on_draws_the_same_order():
    first, again = (tune([candidate("fast")], gains={"fast": 1.1})[1].plans for _ in range(2))
    assert first == again


def test_what_is_slower_is_dropped_early():
    outcome, runner = tune([candidate("slow")], gains={"slow": 0.9})
    assert verdicts(outcome) == {"slow": "reject"}
    assert len(runner.plans) == 2 * EQUAL_PAIRS + 4


def test_what_is_slower_by_far_costs_one_pair():
    outcome, runner = tune([candidate("slow"), candidate("fast")], gains={"slow": 0.6, "fast": 2})
    assert verdicts(outcome) == {"slow": "reject", "fast": "keep"}
    assert runner.plans.count(["slow"]) == 1


def test_what_cannot_be_seen_here_is_not_tried():
    outcome, runner = tune([candidate("small", (1.0, 1.04))], noise=0.2)
    assert verdicts(outcome) == {"small": "inconclusive"}
    assert "its predicted gain is 1.04 at most" in outcome.experiments[0].reason
    assert len(runner.plans) == 2 * EQUAL_PAIRS


def test_a_fix_that_was_not_in_force_never_counts():
    problem = "fast was not in force: the script makes no loader"
    idle = {"seconds": None, "problem": problem, "refused": problem}
    outcome, runner = tune([candidate("fast")], gains={"fast": 2.0}, fast=idle)
    assert outcome.experiments == ()
    assert [one.reason for one in outcome.refused] == [problem]
    assert outcome.final is None
    assert len(runner.plans) == 2 * EQUAL_PAIRS + 1


def test_a_changed_loss_is_not_kept_however_fast():
    changed = {"losses": {step: 2.0 for step in range(20)}}
    outcome, _ = tune([candidate("fast")], gains={"fast": 2.0}, fast=changed)
    assert verdicts(outcome) == {"fast": "reject"}
    assert outcome.experiments[0].reason.startswith("loss check")


def with_other_random_numbers(end, **trial):
    losses = {step: end / (step + 1) for step in range(20)}
    drawn = candidate("drawn", safety="numerics", rounding=False)
    return tune([drawn], gains={"drawn": 2.0}, drawn={"losses": losses, **trial})


@pytest.mark.parametrize(("end", "verdict"), [(1.15, "keep"), (2.5, "reject"), (0.6, "reject")])
def test_other_random_numbers_are_judged_by_runs_with_other_seeds(end, verdict):
    outcome, runner = with_other_random_numbers(end)
    assert verdicts(outcome) == {"drawn": verdict}
    seeds = [shift for shift in runner.shifts if shift]
    assert seeds == ([1, 2, 3] if verdict == "keep" else [1, 2, 3, 4, 5, 6])


def test_random_numbers_that_make_no_difference_cost_no_run():
    _, runner = with_other_random_numbers(1.0)
    assert not any(runner.shifts)


def test_a_script_without_seeds_needs_no_other_ones():
    class Unseeded(Replay):
        def run(self, plan, steps, label, seed_shift=0):
            shift = int(self.random.integers(5))
            return replace(super().run(plan, steps, label, shift), seed_calls=0)

    clock, drawn = Clock(), candidate("drawn", safety="numerics", rounding=False)
    runner = Unseeded(clock, {"drawn": 2.0})
    outcome = Tune(runner, [drawn], (), steps=20, budget_s=1e6, clock=clock).run()
    assert verdicts(outcome) == {"drawn": "keep"}
    assert len(runner.plans) == 2 * EQUAL_PAIRS + 12


def test_other_samples_are_not_kept_however_fast():
    def drawn(*samples):
        return {"l0e0": {"counts": [2], "sums": [sum(samples)], "complete": True}}

    class Drawing(Replay):
        def run(self, plan, steps, label, seed_shift=0):
            trial = super().run(plan, steps, label, seed_shift)
            return replace(trial, samples=drawn(1, 1) if plan.applications else drawn(1, 2))

    clock = Clock()
    runner = Drawing(clock, {"fast": 2.0})
    outcome = Tune(runner, [candidate("fast")], (), steps=20, budget_s=1e6, clock=clock).run()
    assert verdicts(outcome) == {"fast": "reject"}
    assert "other samples are drawn" in outcome.experiments[0].reason


@pytest.mark.parametrize("safety", ["safe", "numerics"])
def test_unknown_losses_are_no_proof(safety):
    outcome, _ = tune([candidate("fast", safety=safety)], gains={"fast": 2.0}, fast={"losses": {}})
    assert verdicts(outcome) == {"fast": "reject"}


def test_a_tail_that_gets_worse_is_not_kept():
    outcome, _ = tune([candidate("fast")], gains={"fast": 2.0}, fast={"p95_s": 0.1})
    assert outcome.experiments[0].reason == "its slow steps are slower than before"


def test_a_gain_that_is_not_the_fix_s_own_is_not_kept():
    outcome, _ = tune(
        [candidate("fast", verifies=("step.gc_share", "down"))],
        gains={"fast": 2.0},
        fast={"shares": {"step.gc_share": 0.2}},
    )
    assert verdicts(outcome) == {"fast": "keep"}  # the other arm shows no share: nothing to compare


def test_two_gains_are_proven_together():
    outcome, runner = tune(
        [candidate("first"), candidate("second")], gains={"first": 1.3, "second": 1.2}
    )
    assert verdicts(outcome) == {"first": "keep", "second": "keep"}
    assert {c.application.fix for c in outcome.final.candidates} == {"first", "second"}
    assert outcome.final.ratio.low <= 1.56 <= outcome.final.ratio.high
    assert ["first", "second"] in runner.plans


def test_fixes_that_spoil_each_other_leave_the_better_one():
    class Spoiled(Replay):
        def run(self, plan, steps, label, seed_shift=0):
            trial = super().run(plan, steps, label, seed_shift)
            if len(plan.applications) < 2:
                return trial
            return Trial(0.02, p95_s=0.02, losses=trial.losses, fixes=trial.fixes)

    clock = Clock()
    runner = Spoiled(clock, {"first": 1.3, "second": 1.2})
    candidates = [candidate("first"), candidate("second")]
    outcome = Tune(runner, candidates, (), steps=20, budget_s=1e6, clock=clock).run()
    assert [c.application.fix for c in outcome.final.candidates] == ["first"]


class Together(Replay):
    """Two fixes together are worse than each by itself; a third suits either."""

    def run(self, plan, steps, label, seed_shift=0):
        trial = super().run(plan, steps, label, seed_shift)
        fixes = {one.fix for one in plan.applications}
        return replace(trial, seconds=trial.seconds * (2 if {"first", "second"} <= fixes else 1))


def test_of_a_combination_that_is_no_gain_one_is_left_out():
    clock = Clock()
    runner = Together(clock, {"first": 1.3, "second": 1.25, "third": 1.2})
    candidates = [candidate(name) for name in ("first", "second", "third")]
    outcome = Tune(runner, candidates, (), steps=20, budget_s=1e6, clock=clock).run()
    tried = [(one.name, one.verdict) for one in outcome.combinations]
    assert tried == [
        ("first + second + third", "reject"),
        ("first + second", "reject"),
        ("first + third", "keep"),
    ]
    assert outcome.final is outcome.combinations[-1]


def test_a_second_round_finds_what_became_worth_its_while():
    class Hidden(Replay):
        def run(self, plan, steps, label, seed_shift=0):
            fixes = [one.fix for one in plan.applications]
            self.gains["next"] = 1.5 if "first" in fixes else 1.0
            return super().run(plan, steps, label, seed_shift)

    def again(plan):
        assert [one.fix for one in plan.applications] == ["first"]
        return [candidate("first"), candidate("next")]

    clock = Clock()
    runner = Hidden(clock, {"first": 1.3})
    one = Tune(runner, [candidate("first")], (), steps=20, budget_s=1e6, clock=clock, again=again)
    outcome = one.run()
    assert verdicts(outcome) == {"first": "keep", "next": "keep"}
    assert [c.application.fix for c in outcome.final.candidates] == ["first", "next"]
    assert outcome.final.ratio.low <= 1.95 <= outcome.final.ratio.high
    pairs = [plan for plan in runner.plans if plan in (["first"], ["first", "next"])]
    assert len(pairs) == 6 + 12 + 6  # alone; with what is kept in both arms; against the original


@pytest.mark.parametrize("budget_s", [5.0 * (2 * EQUAL_PAIRS + 13), 1e6])
def test_no_second_round_where_nothing_is_kept_or_no_time_is_left(budget_s):
    asked = []
    clock = Clock()
    runner = Replay(clock, {"fast": 1.5 if budget_s < 1e6 else 0.8})
    one = Tune(
        runner, [candidate("fast")], (), steps=20, budget_s=budget_s, clock=clock,
        again=lambda plan: asked.append(plan) or [],
    )  # fmt: skip
    one.run()
    assert asked == []


def test_pairs_that_waited_for_a_cpu_do_not_count_and_are_told():
    class Crowded(Replay):
        def run(self, plan, steps, label, seed_shift=0):
            trial = super().run(plan, steps, label, seed_shift)
            crowded = len(self.plans) == 2 * EQUAL_PAIRS + 11  # of the sixth pair
            slower = 3.0 if crowded else 1.0
            share = 0.5 if crowded else 0.02
            return replace(trial, seconds=trial.seconds * slower, delay_share=share)

    clock = Clock()
    runner = Crowded(clock, {"fast": 1.3})
    outcome = Tune(runner, [candidate("fast")], (), steps=20, budget_s=1e6, clock=clock).run()
    assert (outcome.dropped, verdicts(outcome)) == (1, {"fast": "keep"})
    assert len(runner.plans) == 2 * EQUAL_PAIRS + 14
    assert outcome.final.ratio.pairs == 6


def test_a_machine_that_is_always_crowded_is_like_that():
    delays = Delays()
    calm, crowded = Trial(1.0, delay_share=0.01), Trial(1.0, delay_share=0.9)
    for _ in range(4):
        assert delays.objection("x", [calm, calm], 0) is None
    told = "a trial waited for a CPU 90 % of its time, where 1 % is usual"
    assert delays.objection("x", [crowded, calm], 0) == told
    assert delays.objection("x", [crowded, calm], 4) is None
    assert Delays().objection("x", [Trial(1.0), crowded], 0) is None


def test_candidates_share_the_error():
    ratios = [0.02, 0.05, 0.03, 0.08, 0.06, 0.04]  # t = 5.2 with 5 degrees of freedom
    assert (decide(ratios), decide(ratios, tests=20)) == ("keep", "more")


def test_a_safe_fix_beside_one_that_rounds_is_held_to_rounding():
    rounded = {"losses": {step: 1.001 / (step + 1) for step in range(20)}}
    candidates = [candidate("first"), candidate("second", safety="numerics")]
    outcome, _ = tune(candidates, gains={"first": 1.3, "second": 1.2}, second=rounded)
    assert len(outcome.final.candidates) == 2


def test_where_time_is_short_fewer_equal_pairs_leave_room_for_a_verdict():
    outcome, runner = tune([candidate("fast")], gains={"fast": 1.5}, budget_s=5.0 * 17)
    assert (len(outcome.equal_log_ratios), verdicts(outcome)) == (2, {"fast": "keep"})
    assert len(runner.plans) == 4 + 12


def test_the_budget_ends_it_with_what_is_known():
    outcome, runner = tune(
        [candidate("fast"), candidate("other")],
        gains={"fast": 1.5, "other": 1.5},
        budget_s=5.0 * (2 * EQUAL_PAIRS + 12 + 3),
    )
    assert outcome.ended == "budget"
    assert verdicts(outcome) == {"fast": "keep", "other": "inconclusive"}
    assert outcome.final.name == "fast"
    assert outcome.experiments[1].reason.startswith("no time was left for the 6 pairs")
    assert runner.clock.now <= 5.0 * (2 * EQUAL_PAIRS + 12 + 3)


def test_in_a_short_budget_what_is_nearly_proven_goes_on_before_others_begin():
    """Six noisy pairs do not prove it among four; time for ten is there, or for the others."""
    others = [candidate(f"nothing{number}", predicted=None) for number in range(3)]
    pairs = EQUAL_PAIRS + 10 + 6
    outcome, _ = tune(
        [candidate("fast", predicted=None), *others],
        budget_s=5.0 * (2 * pairs + 1),
        gains={"fast": 1.3},
        noise=0.08,
        seed=4,
    )
    fast = outcome.experiments[0]
    assert (fast.verdict, len(fast.log_ratios)) == ("keep", 10)
    assert [len(one.log_ratios) for one in outcome.experiments[1:]] == [6, 0, 0]


def test_an_interrupt_leaves_what_was_proven():
    class Interrupted(Replay):
        def run(self, plan, steps, label, seed_shift=0):
            if plan.applications and plan.applications[0].fix == "other":
                raise KeyboardInterrupt
            return super().run(plan, steps, label, seed_shift)

    clock = Clock()
    one = Tune(
        Interrupted(clock, {"fast": 1.5}),
        [candidate("fast"), candidate("other")],
        (),
        steps=20,
        budget_s=1e6,
        clock=clock,
    )
    with pytest.raises(KeyboardInterrupt):
        one.run()
    outcome = one.outcome()
    assert (outcome.ended, outcome.final.name) == ("interrupted", "fast")
    assert verdicts(outcome) == {"fast": "keep", "other": "inconclusive"}


def test_an_interrupt_before_any_pair_forgets_no_candidate():
    one = Tune(Replay(Clock()), [candidate("x")], (), steps=20, budget_s=1e6, clock=Clock())
    assert verdicts(one.outcome()) == {"x": "inconclusive"}
    assert one.outcome().experiments[0].reason == "interrupted after 0 pairs"


def test_a_script_that_fails_unchanged_ends_it():
    class Broken(Replay):
        def run(self, plan, steps, label, seed_shift=0):
            return Trial(None, problem="it ended with exit status 1: ValueError")

    clock = Clock()
    with pytest.raises(BaselineFailed, match="ValueError"):
        Tune(Broken(clock), [candidate("x")], (), steps=20, budget_s=1e6, clock=clock).run()


SLOW_START = {"step_s": 0.005, "start_s": 20.0}


def slowly(run_steps):
    """A fix that halves a step of 10 ms, after a start of 20 s."""

    class Timed(Replay):
        def run(self, plan, *args):
            trial = super().run(plan, *args)
            return trial if plan.applications else replace(trial, step_s=0.01, start_s=0.05)

    clock = Clock()
    runner = Timed(clock, {"compile": 2.0}, compile=SLOW_START)
    late = replace(candidate("compile"), pays_off_later=True)
    outcome = Tune(
        runner, [late], (), steps=20, budget_s=1e6, clock=clock, run_steps=run_steps
    ).run()
    return outcome.experiments[0]


def test_a_slow_start_must_pay_within_the_training():
    kept = slowly(10_000)
    assert kept.verdict == "keep"
    assert kept.reason.endswith("its start is earned back after 3,990 steps")
    short = slowly(1_000)
    assert short.verdict == "reject"
    assert "pays from 3,990 steps on, and the training does 1,000" in short.reason


def test_a_slow_start_of_a_training_of_unknown_length_is_no_proof():
    unknown = slowly(None)
    assert unknown.verdict == "inconclusive"
    assert "pays from 3,990 steps on; say with --run-steps" in unknown.reason


def test_a_start_that_was_not_measured_is_not_taken_for_none():
    assert why_it_does_not_pay([Trial(0.01)], [Trial(0.005)], 10_000) == (
        "what its start costs was not measured"
    )
