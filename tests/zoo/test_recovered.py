"""The figures of `make recovered`, from rounds whose times are known."""

import sys
from dataclasses import replace

import pytest

from trainprof.profiler.model.plan import Application, Target
from zoo.cases import REPOSITORY, all_cases

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
from recovered_page import page, result, summary
from recovered_plan import _in_case, is_fixable, plan_in


def row_of(*rounds, **fields):
    empty = {"dropped": {}, "refused": [], "by_hand": [], "source_only": []}
    applied = [{"fix": "optimizer-fused", "params": {"fused": True}}]
    timed = [
        {arm: {"seconds": seconds, "problem": None} for arm, seconds in one.items()}
        for one in rounds
    ]
    return {
        **{"case": "cases/a", "rule": "opt-unfused", "applications": applied, **empty},
        **{"rounds": timed, "kept": [0], "found": True, "advised": True, **fields},
    }


def test_what_is_recovered_is_a_share_of_the_time_that_the_repair_saves():
    row = row_of({"train": 1.0, "plan": 0.6, "patched": 0.6, "fixed": 0.5})
    assert result(row).recovered == pytest.approx(0.8)


def test_drift_of_the_machine_strikes_all_arms_alike():
    quick = {"train": 1.0, "plan": 0.6, "patched": 0.6, "fixed": 0.5}
    row = row_of(*({arm: drift * one for arm, one in quick.items()} for drift in (1, 3, 2)))
    found = result(row)
    assert found.recovered == pytest.approx(0.8)
    assert (found.plan.low, found.plan.high) == pytest.approx((1 / 0.6, 1 / 0.6))


def test_two_rounds_give_no_interval():
    row = row_of(*2 * [{"train": 1.0, "plan": 0.6, "patched": 0.7, "fixed": 0.5}])
    assert (result(row).plan.low, result(row).plan.pairs) == (None, 2)
    assert "(or within 5% where there are too few rounds for one): 0 of 1" in page([row], 1)


def test_nothing_applied_recovers_nothing():
    row = row_of({"train": 1.0, "fixed": 0.5}, applications=[], kept=[])
    assert result(row).recovered == 0.0


def test_a_repair_that_gains_nothing_does_not_count():
    row = row_of({"train": 1.0, "plan": 0.9, "fixed": 0.99})
    assert result(row).recovered is None
    assert "it does not count" in summary(row)


def test_a_repair_that_changes_the_training_does_not_count():
    row = row_of({"train": 1.0, "fixed": 0.5}, kept=[], advised=False)
    assert result(row).recovered is None
    assert "changes the training: it does not count" in summary(row)


def test_a_diagnosis_that_misses_recovers_nothing():
    row = row_of({"train": 1.0, "fixed": 0.5}, kept=[], advised=False, found=False)
    assert result(row).recovered == 0.0


def test_of_what_only_the_source_can_follow_the_patch_counts():
    row = row_of(
        {"train": 1.0, "patched": 0.5, "fixed": 0.5},
        applications=[],
        kept=[],
        source_only=[{"fix": "loss-detach"}],
    )
    assert result(row).recovered == pytest.approx(1.0)


def test_a_failed_trial_is_no_time():
    row = row_of({"train": 1.0, "plan": None, "fixed": 0.5})
    row["rounds"][0]["plan"]["problem"] = "optimizer-fused was not in force: it is sparse"
    assert result(row).plan is None
    assert "not in force: it is sparse" in page([row], 1)


def test_the_page_names_plans_that_are_slower():
    slow = row_of(*[{"train": 1.0, "plan": 1.5 + 0.01 * n, "fixed": 0.5} for n in range(4)])
    assert "slower than the unchanged script: cases/a" in page([slow], 1)
    fast = row_of(*[{"train": 1.0, "plan": 0.5 + 0.01 * n, "fixed": 0.5} for n in range(4)])
    assert "slower than the unchanged script: none" in page([fast], 1)


def test_patches_are_compared_with_plans_over_all_cases():
    rows = [
        row_of({"train": 1.0, "plan": 0.5, "patched": 0.5 / one, "fixed": 0.5}) for one in (1, 4)
    ]
    assert "patch / plan over all of these cases: 2.00 (" in page(rows, 2)


def test_a_setting_that_was_left_out_is_named():
    row = row_of({"train": 1.0, "fixed": 0.5}, kept=[], dropped={"optimizer-fused": "slower, 0.80"})
    assert "`optimizer-fused` was left out: slower, 0.80" in page([row], 1)


def test_a_target_follows_the_copy_wherever_it_was_recorded(tmp_path):
    case = next(case for case in all_cases() if case.name == "cases/big_layers_adam")
    target = Target(f"/elsewhere/{case.folder.name}/parts/train.py", 33)
    inside = _in_case(Application("optimizer-fused", {"fused": True}, target), case)
    assert inside.target == replace(target, file="parts/train.py")
    (placed,) = plan_in(tmp_path, (inside,)).applications
    assert placed.target.file == str(tmp_path / "parts" / "train.py")


def test_which_cases_can_be_fixed():
    fixable = {case.name: is_fixable(case) for case in all_cases() if case.plants}
    assert fixable["cases/big_layers_adam"]
    assert not fixable["cases/unscaled_pixels"]  # only with what changes the training
    assert not fixable["cases/hf_vision_from_scratch"]
