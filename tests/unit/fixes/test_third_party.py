"""Fixes of other packages: found by their entry point, loaded where nothing is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from distribution_of_a_fix import FLAG_SET, install

from trainprof.cli.planning import write_plan
from trainprof.errors import UsageError
from trainprof.profiler.agent import guard, third_party
from trainprof.profiler.launch import child_environment, home
from trainprof.rules.fixes.registry import all_fixes, fix_named
from trainprof.rules.fixes.third_party import files_of, third_party_fixes


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    _forget()
    yield
    monkeypatch.undo()
    _forget()


def _forget():
    third_party_fixes.cache_clear()
    all_fixes.cache_clear()
    guard.reset()
    for name in ("flag_set", "broken_fix"):
        sys.modules.pop(name, None)


def test_an_installed_fix_is_one_like_ours(tmp_path, monkeypatch):
    install(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    assert fix_named("flag-set").title == "A flag"
    assert third_party_fixes().usable["flag-set"].package == "flags 1.0"
    assert files_of(["flag-set", "gc-freeze"]) == {
        "flag-set": (str(tmp_path / "flag_set.py"), "FlagSet")
    }
    plan = json.loads(write_plan(None, ("flag-set:value=3",), tmp_path).read_text())
    assert [one["fix"] for one in plan["applications"]] == ["flag-set"]
    assert "flag_set" not in json.dumps(plan)  # a plan names no file and no module


@pytest.mark.parametrize(
    ("name", "place", "text", "said"),
    [
        ("flag-set", "flag_set:Absent", FLAG_SET, "AttributeError"),
        ("flag-set", "flag_set:Process", FLAG_SET, "is no subclass of"),
        ("other-name", "flag_set:FlagSet", FLAG_SET, "its id is 'flag-set'"),
        ("flag-set", "flag_set:FlagSet", "raise RuntimeError('not today')", "not today"),
    ],
)
def test_one_that_cannot_be_used_is_one_sentence(tmp_path, monkeypatch, name, place, text, said):
    install(tmp_path, ((name, place),), {"flag_set.py": text})
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(UsageError, match="cannot be used") as caught:
        fix_named(name)
    assert said in str(caught.value)
    assert "gc-freeze" in all_fixes()  # the others are there all the same


def test_two_of_one_name_are_not_chosen_between(tmp_path, monkeypatch):
    for name in ("flags", "banners"):
        (tmp_path / name).mkdir()
        install(tmp_path / name, name=name)
        monkeypatch.syspath_prepend(tmp_path / name)

    with pytest.raises(UsageError, match="both declare a fix flag-set"):
        fix_named("flag-set")


def test_a_name_of_ours_means_ours(tmp_path, monkeypatch):
    text = FLAG_SET.replace('"flag-set"', '"gc-freeze"')
    install(tmp_path, (("gc-freeze", "flag_set:FlagSet"),), {"flag_set.py": text})
    monkeypatch.syspath_prepend(tmp_path)

    assert fix_named("gc-freeze").__module__ == "trainprof.rules.fixes.gc_freeze"


LOAD = """
import sys
home, path = sys.argv[1:]
root = type(sys)("_trainprof")
root.__path__ = [home]
sys.modules["_trainprof"] = root
from _trainprof.profiler.agent.third_party import load
kind = load("flag-set", {"flag-set": (path, "FlagSet")})
fix = kind({"value": 7})
class Process:
    torch = type(sys)("torch")
fix.install(Process)
print(fix.read_back().seen, "trainprof" in sys.modules)
"""


def test_the_training_process_needs_nothing_installed(tmp_path):
    (tmp_path / "flag_set.py").write_text(FLAG_SET)
    command = [sys.executable, "-I", "-S", "-c", LOAD, str(home()), str(tmp_path / "flag_set.py")]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr) == ("{'value': 7} False\n", "")


def test_a_plan_alone_names_no_module(tmp_path, apply, monkeypatch):
    """Neither a name that looks like one nor a variable of the user's gets a file loaded."""
    (tmp_path / "flag_set.py").write_text("raise SystemExit('was run')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("flag_set", "flag_set:FlagSet", str(tmp_path / "flag_set.py"), "../flag_set"):
        with pytest.raises(ValueError, match="there is no fix"):
            third_party.load(name, {})
    forged = {"TRAINPROF_FIXES": json.dumps({"x": [str(tmp_path / "flag_set.py"), "FlagSet"]})}
    assert "TRAINPROF_FIXES" not in child_environment(forged, tmp_path)


def test_a_file_that_holds_another_fix_is_refused(tmp_path):
    (tmp_path / "flag_set.py").write_text(FLAG_SET)
    with pytest.raises(ValueError, match="holds no fix other"):
        third_party.load("other", {"other": (str(tmp_path / "flag_set.py"), "FlagSet")})


def test_the_agent_applies_it_and_reads_it_back(tmp_path, apply, monkeypatch):
    (tmp_path / "flag_set.py").write_text(FLAG_SET)
    found = {"flag-set": [str(tmp_path / "flag_set.py"), "FlagSet"]}
    monkeypatch.setenv(third_party.VARIABLE, json.dumps(found))

    assert apply("flag-set", {"value": 5}).read() == (True, {"value": 5}, None)
    import torch

    del torch.flag_of_a_test


TRAINING = """
import torch
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(30):
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
print(torch.flag_of_a_test)
"""


def test_run_applies_it_to_an_unmodified_script(tmp_path):
    (tmp_path / "site").mkdir()
    install(tmp_path / "site")
    (tmp_path / "train.py").write_text(TRAINING)
    command = [sys.executable, "-m", "trainprof", "run", "--no-probe", "--fix", "flag-set:value=9"]

    done = subprocess.run(
        [*command, "train.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout == "9\n", done.stderr
    assert "flag-set was applied and in force (value=9)" in done.stderr
