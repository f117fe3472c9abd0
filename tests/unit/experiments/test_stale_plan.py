"""A plan in daily use: what is not as it was proven keeps all but safe fixes away."""

import json
from dataclasses import replace

import pytest

from trainprof.cli.plan_sources import changes_since, with_sources
from trainprof.cli.planning import application, read_plan, write_plan
from trainprof.errors import UsageError
from trainprof.profiler.model.plan import Application, Plan, plan_from_json, plan_to_json

SAFE, ROUNDING = Application("gc-freeze"), Application("optimizer-fused")


@pytest.fixture
def plan(tmp_path):
    """A plan of a script."""
    script = tmp_path / "train.py"
    script.write_text("import torch\n")
    return with_sources(Plan((SAFE, ROUNDING)), str(script))


def written(plan, tmp_path, **options):
    path, folder = tmp_path / "a.json", tmp_path / "run"
    path.write_text(plan_to_json(plan))
    folder.mkdir(exist_ok=True)
    return read_plan(write_plan(path, (), folder, **options))


def names(plan):
    return [one.fix for one in plan.applications]


def test_what_is_as_it_was_applies(plan, tmp_path):
    found = written(plan, tmp_path)
    assert (names(found), found.stale, found.refused) == (names(plan), (), ())


def test_a_changed_script_keeps_all_but_the_safe_away(plan, tmp_path):
    (tmp_path / "train.py").write_text("import torch, os\n")
    found = written(plan, tmp_path)
    assert names(found) == ["gc-freeze"]
    assert found.stale == ("train.py has changed since it was proven",)
    reason = "train.py has changed since it was proven; --force-plan applies it all the same"
    assert found.refused == (("optimizer-fused", reason),)


def test_force_applies_all_and_still_tells(plan, tmp_path):
    (tmp_path / "train.py").unlink()
    found = written(plan, tmp_path, force=True)
    assert (names(found), found.is_forced) == (names(plan), True)
    assert found.stale == ("train.py has changed since it was proven",)


def test_another_machine_is_told(plan):
    assert list(changes_since(replace(plan, machine="a Cray-1"))) == [
        "it was proven on another machine (a Cray-1)"
    ]


def test_safety_is_that_of_the_application(plan, tmp_path):
    workers = Application("loader-workers", {"num_workers": 2}, safety="safe")
    (tmp_path / "train.py").write_text("")
    assert names(written(replace(plan, applications=(workers,)), tmp_path)) == ["loader-workers"]


def test_a_plan_cannot_say_of_itself_that_it_is_fresh(plan, tmp_path):
    (tmp_path / "train.py").write_text("")
    claims = replace(plan, is_forced=True, refused=(("gc-freeze", "a lie"),))
    found = written(claims, tmp_path)
    assert (names(found), found.is_forced) == (["gc-freeze"], False)
    assert [fix for fix, _ in found.refused] == ["optimizer-fused"]


def test_it_comes_back_as_it_was(plan):
    whole = replace(plan, machine="m", stale=("a", "b"), refused=(("x", "y"),), is_forced=True)
    assert plan_from_json(plan_to_json(whole)) == whole
    torn = json.loads(plan_to_json(whole)) | {"stale": 3, "refused": [["x"], 4]}
    found = plan_from_json(json.dumps(torn))
    assert (found.stale, found.refused) == ((), ())


def test_one_of_several_objects_of_a_line_can_be_named():
    assert application("loader-workers:num_workers=1,at=train.py:7#1").target.ordinal == 1
    with pytest.raises(UsageError, match="not of the form file:line or file:line#0"):
        application("loader-workers:at=train.py:7#first")
