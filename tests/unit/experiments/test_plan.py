"""A plan is data: what it may hold, what is refused, and what the command line makes of it."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.cli.planning import application, read_plan, write_plan
from trainprof.errors import UsageError
from trainprof.profiler.model.plan import (
    Application,
    Plan,
    PlanError,
    Target,
    plan_from_json,
    plan_to_json,
)

values = st.one_of(st.booleans(), st.integers(-9, 9), st.text(max_size=5))
targets = st.builds(
    Target,
    file=st.text(min_size=1, max_size=9),
    line=st.integers(1, 999),
    type=st.none() | st.text(max_size=5),
    ordinal=st.none() | st.integers(0, 5),
)
applications = st.builds(
    Application,
    fix=st.text(max_size=9),
    params=st.dictionaries(st.text(max_size=5), values, max_size=3),
    target=st.none() | targets,
)


@given(st.lists(applications, max_size=4))
def test_a_plan_comes_back_as_it_was(some):
    plan = Plan(tuple(some), {"train.py": "abc"}, "2.13.0", {"speedup": 1.5})
    assert plan_from_json(plan_to_json(plan)) == plan


@given(st.text(max_size=40) | st.from_type(dict).map(repr))
def test_no_text_does_worse_than_to_be_refused(text):
    with contextlib.suppress(PlanError):
        plan_from_json(text)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "does not list applications"),
        ({"format": 9, "applications": []}, "its format is 9"),
        ({"format": 1, "applications": [{}]}, "does not name its fix"),
        ({"format": 1, "applications": [{"fix": "x", "params": []}]}, None),
        ({"format": 1, "applications": [{"fix": "x", "params": [1]}]}, "no mapping"),
        ({"format": 1, "applications": [{"fix": "x", "target": {"file": "a"}}]}, "names no line"),
    ],
)
def test_what_is_wrong_is_said(data, said):
    text = json.dumps(data)
    if said is None:
        assert plan_from_json(text).applications[0].params == {}
    else:
        with pytest.raises(PlanError, match=said):
            plan_from_json(text)


def test_a_fix_on_the_command_line():
    one = application("loader-workers:num_workers=2,persistent_workers=true,at=train.py:61")
    assert one.params == {"num_workers": 2, "persistent_workers": True}
    assert one.target == Target(str(Path("train.py").resolve()), 61)
    assert application("gc-freeze") == Application("gc-freeze")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loader-workers:num_workers", "not of the form name=value"),
        ("loader-workers:at=train.py", "not of the form file:line"),
    ],
)
def test_what_is_no_fix(text, said):
    with pytest.raises(UsageError, match=said):
        application(text)


@pytest.mark.parametrize(
    ("fix", "said"),
    [
        ("no-such-fix", "there is no fix no-such-fix; these can be applied: allocator-segments"),
        ("loader-workers:workers=2", "loader-workers has no parameter workers"),
        ("loader-workers:num_workers=two", "num_workers of loader-workers is 'two', not int"),
        ("loader-workers:num_workers=true", "num_workers of loader-workers is True, not int"),
    ],
)
def test_only_known_fixes_get_into_a_plan(tmp_path, fix, said):
    with pytest.raises(UsageError, match=said):
        write_plan(None, (fix,), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_plan_and_fixes_add_up(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(plan_to_json(Plan((Application("gc-freeze"),), torch="2.13.0")))
    copy = write_plan(path, ("optimizer-fused",), tmp_path)
    plan = read_plan(copy)
    assert [one.fix for one in plan.applications] == ["gc-freeze", "optimizer-fused"]
    assert plan.torch == "2.13.0"


def test_a_plan_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        read_plan(tmp_path / "absent.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        read_plan(tmp_path / "b.json")
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(UsageError, match="`trainprof tune` writes one"):
        read_plan(tmp_path / "c.json")


def test_a_fix_of_somebody_else_may_not_set_any_variable(tmp_path, monkeypatch):
    from trainprof.cli import planning
    from trainprof.profiler.model.plan import Application, Plan, plan_to_json
    from trainprof.rules.fixes.fix import Fix

    class Preloads(Fix):
        id = "preloads"

        def environment(self):
            return {"LD_PRELOAD": "/tmp/theirs.so"}

    monkeypatch.setattr(planning, "fix_named", lambda name: Preloads)
    path = tmp_path / "plan.json"
    path.write_text(plan_to_json(Plan((Application("preloads"),))))
    with pytest.raises(planning.UsageError, match="a fix may not set LD_PRELOAD"):
        planning.environment_of(path)
    assert planning.environment_of(None) == {}
