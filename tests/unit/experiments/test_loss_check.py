"""When the losses of a changed run are unharmed, and when nobody can tell."""

import math

import numpy as np
import pytest

from trainprof.rules.experiments.loss_check import check_losses


def losses(offset=0.0, factor=1.0, steps=100, seed=0, noise=0.0):
    random = np.random.default_rng(seed)
    return {
        step: factor * (1.0 / (1 + 0.1 * step)) + offset + noise * random.normal()
        for step in range(steps)
    }


def check(baseline, changed, safety="safe", rounding=True, **more):
    return check_losses(baseline, changed, safety=safety, rounding=rounding, **more)


def test_equal_losses_pass():
    assert check([losses()], [losses()]).passed is True


def test_safe_means_equal():
    found = check([losses()], [losses(factor=1.00001)])
    assert found.passed is False
    assert found.difference == pytest.approx(1e-5, rel=0.1)


def test_what_equal_runs_differ_by_is_allowed_twice():
    assert check([losses(), losses(factor=1.001)], [losses(factor=1.0015)]).passed is True
    assert check([losses(), losses(factor=1.001)], [losses(factor=1.003)]).passed is False


def test_rounding_may_move_the_curve_by_half_a_per_cent():
    assert check([losses()], [losses(factor=1.004)], "numerics").passed is True
    assert check([losses()], [losses(factor=1.01)], "numerics").passed is False


@pytest.mark.parametrize(
    ("parts_at", "end", "passed"), [(50, 0.0, False), (150, 0.0, True), (150, 0.1, False)]
)
def test_rounding_that_grows_late_is_held_against_other_seeds(parts_at, end, passed):
    """In a deep network the curves part by themselves; then only where they end counts."""
    baseline = losses(steps=300, seed=1, noise=0.02)
    parted = {
        step: loss * (1.03 if step >= parts_at else 1.0) + (end if step >= parts_at else 0.0)
        for step, loss in baseline.items()
    }
    unchanged = [losses(steps=300, seed=seed, noise=0.02) for seed in range(10, 15)]
    assert check([baseline], [parted], "numerics", seeded=unchanged).passed is passed
    few = check([baseline], [parted], "numerics", seeded=unchanged[:2])
    assert (few.passed, few.by_seeds) == ((False, False) if parts_at < 100 else (None, True))


def seeded(count=5):
    return [losses(seed=seed, noise=0.02) for seed in range(10, 10 + count)]


def test_other_random_numbers_may_move_single_losses_not_the_end():
    baseline = [losses(seed=1, noise=0.02)]
    alike = [losses(seed=3, noise=0.02)]
    worse = [losses(offset=0.1, seed=3, noise=0.02)]
    better = [losses(offset=-0.05, seed=3, noise=0.02)]
    drawn = {"safety": "numerics", "rounding": False, "seeded": seeded()}
    assert check(baseline, alike, **drawn).passed is True
    assert check(baseline, worse, **drawn).passed is False
    assert check(baseline, better, **drawn).passed is False  # fewer different data, perhaps


def test_few_seeds_tell_nothing():
    baseline, other = [losses(seed=1, noise=0.02)], [losses(seed=3, noise=0.02)]
    found = check(baseline, other, "numerics", rounding=False, seeded=seeded(2))
    assert (found.passed, found.by_seeds) == (None, True)


@pytest.mark.parametrize("safety", ["safe", "numerics"])
def test_where_no_seed_is_set_equal_runs_say_how_far_apart_runs_end(safety):
    runs = [losses(seed=seed, noise=0.05) for seed in range(8)]
    assert check(runs, [losses(seed=20, noise=0.05)], safety).passed is True
    assert check(runs, [losses(offset=0.2, seed=20, noise=0.05)], safety).passed is False
    assert check(runs[:2], [losses(seed=20, noise=0.05)], safety).passed is None


def test_random_numbers_that_are_the_same_after_all_need_no_seeds():
    assert check([losses()], [losses()], "numerics", rounding=False).passed is True


@pytest.mark.parametrize("safety", ["safe", "numerics"])
@pytest.mark.parametrize("rounding", [True, False])
def test_a_loss_that_becomes_no_number_fails(safety, rounding):
    broken = losses() | {50: math.nan}
    assert check([losses()], [broken], safety, rounding).passed is False


def test_losses_that_were_no_numbers_before_tell_nothing():
    broken = losses() | {50: math.inf}
    assert check([broken], [broken]).passed is None


@pytest.mark.parametrize(
    ("baseline", "changed"), [([{}], [losses()]), ([losses()], [{}]), ([], [])]
)
def test_unseen_losses_tell_nothing(baseline, changed):
    assert check(baseline, changed).passed is None


def test_losses_of_other_steps_are_not_compared():
    shifted = {step + 1000: value for step, value in losses().items()}
    assert check([losses()], [shifted]).passed is False
