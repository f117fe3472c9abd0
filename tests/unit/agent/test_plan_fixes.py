"""Fixes applied in the training process: in force, read back, refused with a reason, and undone."""

from __future__ import annotations

import gc

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from trainprof.profiler.agent import guard  # noqa: E402
from trainprof.profiler.agent.patching import Patches  # noqa: E402
from trainprof.profiler.agent.plan_fixes import PlanFixes  # noqa: E402
from trainprof.profiler.model.plan import Application, Plan, Target, plan_to_json  # noqa: E402

DATA = TensorDataset(torch.randn(64, 4), torch.randn(64, 1))


@pytest.fixture
def applied(tmp_path):
    """Applies fixes; gives a function that reads them back. All is undone at the end."""
    installed = []
    threads = torch.get_num_threads()

    def apply(*applications):
        path = tmp_path / f"plan{len(installed)}.json"
        path.write_text(plan_to_json(Plan(tuple(applications))))
        patches, fixes = Patches(), PlanFixes(torch, str(path))
        fixes.install(patches)
        installed.append((patches, fixes))
        return lambda: [fact.data for fact in _fresh(fixes)]

    yield apply
    for patches, fixes in reversed(installed):
        fixes.uninstall()
        patches.undo()
    torch.set_num_threads(threads)
    guard.reset()


def _fresh(fixes):
    fixes.after_fork()
    return fixes.facts()


def here(lines_below):
    """A target in this file, so many lines below the call."""
    import inspect

    frame = inspect.currentframe().f_back
    return Target(__file__, frame.f_lineno + lines_below)


def train(optimizer_of, steps=6):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    optimizer = optimizer_of(model.parameters())
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_loader_settings_are_changed_at_the_line_that_makes_it(applied):
    read = applied(
        Application("loader-workers", {"num_workers": 2, "persistent_workers": True}, here(2))
    )
    loader = DataLoader(DATA, batch_size=16)
    other = DataLoader(DATA, batch_size=16)
    assert (loader.num_workers, loader.persistent_workers) == (2, True)
    assert other.num_workers == 0
    assert read()[0] == {
        "fix": "loader-workers",
        "params": {"num_workers": 2, "persistent_workers": True},
        "active": True,
        "seen": {"num_workers": 2, "persistent_workers": True},
        "reason": None,
    }


def test_workers_are_taken_away_with_what_needs_them(applied):
    read = applied(Application("loader-workers", {"num_workers": 0}))
    loader = DataLoader(DATA, 16, False, num_workers=2, persistent_workers=True, prefetch_factor=4)
    assert (loader.num_workers, loader.persistent_workers) == (0, False)
    assert len(list(loader)) == 4
    assert read()[0]["active"] is True


def test_two_loaders_without_a_target_are_not_guessed(applied):
    read = applied(Application("loader-workers", {"num_workers": 2}))
    first = DataLoader(DATA, batch_size=16)
    second = DataLoader(DATA, batch_size=16)
    assert (first.num_workers, second.num_workers) == (2, 0)
    fact = read()[0]
    assert (
        fact["active"] is False
    )  # the first is changed already, but was it the one that is meant?
    assert fact["reason"].startswith("loaders are made at ")


def test_no_loader_at_that_line(applied):
    read = applied(Application("loader-workers", {"num_workers": 2}, Target(__file__, 1)))
    DataLoader(DATA, batch_size=16)
    fact = read()[0]
    assert fact["active"] is False
    assert "no loader is made at" in fact["reason"]


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=1e-2),
        lambda p: torch.optim.AdamW(p, lr=1e-2),
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9),
    ],
)
def test_a_fused_optimizer_learns_the_same(applied, make):
    plain = train(make)
    read = applied(Application("optimizer-fused"))
    fused = train(make)
    assert read()[0]["seen"] == {"fused": True}
    assert fused == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: torch.optim.RMSprop(p), "RMSprop has no fused form"),
        (lambda p: torch.optim.Adam(p, differentiable=True), "the optimizer is differentiable"),
        (lambda p: type("Mine", (torch.optim.Adam,), {})(p), "Mine has no fused form"),
    ],
)
def test_what_cannot_be_fused_is_left_alone(applied, make, reason):
    read = applied(Application("optimizer-fused"))
    optimizer = make([torch.nn.Parameter(torch.ones(2))])
    assert not optimizer.param_groups[0].get("fused")
    assert (read()[0]["active"], read()[0]["reason"]) == (False, reason)


def test_threads_stay_as_they_were_measured(applied):
    read = applied(Application("intra-op-threads", {"num_threads": 1}))
    torch.set_num_threads(4)
    assert torch.get_num_threads() == 1
    assert read()[0]["active"] is True


def test_anomaly_detection_stays_off(applied):
    read = applied(Application("anomaly-off"))
    assert read()[0]["active"] is False  # nobody has switched it on yet
    with torch.autograd.set_detect_anomaly(True):
        assert not torch.is_anomaly_enabled()
        assert read()[0]["active"] is True
    torch.autograd.set_detect_anomaly(True)
    assert not torch.is_anomaly_enabled()


def test_the_collector_freezes_what_stays(applied):
    read = applied(Application("gc-freeze"))
    try:
        train(lambda p: torch.optim.SGD(p, lr=0.1), steps=4)
        assert read()[0]["active"] is None
        train(lambda p: torch.optim.SGD(p, lr=0.1), steps=4)
        assert read()[0]["seen"]["frozen"] > 0
    finally:
        gc.unfreeze()


def test_the_collector_keeps_a_pace(applied):
    read = applied(Application("gc-paced", {"collect_every_steps": 3, "generation": 1}))
    try:
        train(lambda p: torch.optim.SGD(p, lr=0.1))
        assert not gc.isenabled()
        assert read()[0]["active"] is True
    finally:
        gc.enable()


def test_a_fix_that_does_not_exist_is_told_and_the_rest_applied(applied):
    read = applied(Application("no-such-fix"), Application("gc-freeze"))
    first, second = read()
    assert (first["active"], "there is no fix no-such-fix" in first["reason"]) == (False, True)
    assert second["fix"] == "gc-freeze"


@pytest.mark.parametrize("name", ["../../etc", "fix", "registry", "os", ""])
def test_nothing_but_fixes_can_be_named(applied, name):
    assert applied(Application(name))()[0]["active"] is False


def test_torch_is_as_before_when_all_is_undone(tmp_path):
    loader, optimizer = DataLoader.__init__, torch.optim.Optimizer.__init__
    threads = torch.set_num_threads
    path = tmp_path / "plan.json"
    fixes = ("loader-workers", "optimizer-fused", "anomaly-off", "gc-freeze", "gc-paced")
    path.write_text(plan_to_json(Plan(tuple(Application(fix) for fix in fixes))))
    patches, applied = Patches(), PlanFixes(torch, str(path))
    applied.install(patches)
    applied.uninstall()
    patches.undo()
    assert (DataLoader.__init__, torch.optim.Optimizer.__init__) == (loader, optimizer)
    assert torch.set_num_threads is threads
    guard.reset()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 7, "applications": []}'])
def test_a_plan_that_is_none_leaves_the_script_alone(tmp_path, text):
    path = tmp_path / "plan.json"
    path.write_text(text)
    fixes = PlanFixes(torch, str(path))
    fixes.install(Patches())
    assert fixes.facts() == []
    assert any(collector == "plan" for collector, _, _ in guard.failures)
    guard.reset()
