"""Which object a fix is for, where a line makes several."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from trainprof.profiler.agent import guard  # noqa: E402
from trainprof.profiler.model.plan import Target  # noqa: E402

DATA = TensorDataset(torch.zeros(8, 2))

TWO = "one, two = DataLoader(data), DataLoader(data)"
LOOP = "made = []\nfor _ in range(3): made.append(DataLoader(data))"
LISTED = "made = [DataLoader(data) for _ in range(3)]"
EPOCHS = "made = []\nfor _ in range(2): made += [DataLoader(data), DataLoader(data)]"


def run(folder, text):
    """Runs a script of the user's and gives the loaders' numbers of workers."""
    path = folder / "script.py"
    path.write_text(text)
    names = {"DataLoader": DataLoader, "data": DATA}
    exec(compile(text, str(path), "exec"), names)
    made = names.get("made") or [names["one"], names["two"]]
    return [loader.num_workers for loader in made]


@pytest.fixture
def workers(apply, tmp_path):
    """Applies loader-workers to a line of the script."""

    def applied(line, ordinal=None):
        target = Target(str(tmp_path / "script.py"), line, ordinal=ordinal)
        return apply("loader-workers", {"num_workers": 1}, target)

    return applied


def test_two_calls_in_one_line_are_not_guessed_between(workers, tmp_path):
    applied = workers(1)
    assert run(tmp_path, TWO)[1] == 0
    active, _, reason = applied.read()
    assert active is False
    assert reason.startswith("several loaders are made at ")
    assert reason.endswith("script.py:1#0")


@pytest.mark.parametrize("ordinal", [0, 1])
def test_one_of_them_can_be_named(workers, tmp_path, ordinal):
    applied = workers(1, ordinal)
    expected = [0, 0]
    expected[ordinal] = 1
    assert run(tmp_path, TWO) == expected
    assert applied.read()[0] is True


def test_a_loop_is_one_call(workers, tmp_path):
    applied = workers(2)
    assert run(tmp_path, LOOP) == [1, 1, 1]
    assert applied.read()[0] is True


def test_one_of_a_loop_can_be_named(workers, tmp_path):
    applied = workers(1, 1)
    assert run(tmp_path, LISTED) == [0, 1, 0]
    assert applied.read()[0] is True


def test_what_is_named_is_meant_in_each_epoch(workers, tmp_path):
    workers(2, 1)
    assert run(tmp_path, EPOCHS) == [0, 1, 0, 1]


def test_without_a_line_two_calls_are_ambiguous_as_well(apply, tmp_path):
    applied = apply("loader-workers", {"num_workers": 1})
    assert run(tmp_path, TWO)[1] == 0
    active, _, reason = applied.read()
    assert (active, reason.startswith("several loaders are made at ")) == (False, True)


def test_another_torch_keeps_all_but_the_safe_away(tmp_path):
    from trainprof.profiler.agent.patching import Patches
    from trainprof.profiler.agent.plan_fixes import PlanFixes
    from trainprof.profiler.model.plan import Application, Plan, plan_to_json

    plan = Plan((Application("gc-freeze"), Application("optimizer-fused")), torch="0.4.1")
    for is_forced, active in ((False, False), (True, None)):
        path = tmp_path / "plan.json"
        path.write_text(plan_to_json(replace(plan, is_forced=is_forced)))
        patches, fixes = Patches(), PlanFixes(torch, str(path))
        fixes.install(patches)
        freeze, fused = [fact.data for fact in fixes.facts()]
        fixes.uninstall()
        patches.undo()
        assert freeze["remark"].startswith("it was proven with torch 0.4.1, and this is ")
        if not is_forced:
            assert fused["active"] is active
            assert fused["reason"].endswith("; --force-plan applies it all the same")
        else:
            assert fused["reason"] == "the script makes no optimizer"
    guard.reset()
