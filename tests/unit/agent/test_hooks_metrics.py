"""Values that a script logs: read where that is free, bounded, and never in the script's way."""

import sys
import types

import numpy as np
import pytest
import torch

from trainprof.profiler.agent import guard, hooks_logging, hooks_metrics


@pytest.fixture
def writer(hooks, monkeypatch):
    """A SummaryWriter that takes anything, with the hooks of logging below those of metrics."""

    class SummaryWriter:
        def __init__(self):
            self.got = []

        def add_scalar(self, tag, scalar_value, global_step=None, walltime=None):
            self.got.append((tag, scalar_value, global_step))

        def add_scalars(self, main_tag, tag_scalar_dict, global_step=None):
            self.got.append((main_tag, tag_scalar_dict, global_step))

    module = types.ModuleType("tensorboardX.writer")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "tensorboardX.writer", module)
    hooks.install(hooks_logging)
    hooks.collector = hooks.install(hooks_metrics)
    return SummaryWriter()


def taken(hooks):
    """Values by tag, without their times."""
    events = hooks.collector.take_events()
    values = events[0].data["values"] if events else {}
    return {tag: [point[1:] for point in points] for tag, points in values.items()}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (0.5, 0.5),
        (3, 3.0),
        (torch.tensor(0.25), 0.25),
        (torch.tensor(0.25, requires_grad=True), 0.25),
        (np.float64(0.75), 0.75),
        (np.float32(0.5), 0.5),
        (float("inf"), float("inf")),
    ],
)
def test_numbers_are_read(hooks, writer, value, read):
    writer.add_scalar("loss/val", value, 7)
    writer.add_scalar("loss/val", value, 8)

    assert taken(hooks) == {"loss/val": [(7, read), (8, read)]}
    assert writer.got[0][1] is value


@pytest.mark.parametrize(
    "value", ["blob", None, True, [1.0], torch.ones(2), torch.empty((), device="meta"), object()]
)
def test_what_is_no_number_or_not_on_the_host_is_left(hooks, writer, value):
    writer.add_scalar("loss", value, 1)

    assert taken(hooks) == {}
    assert len(writer.got) == 1


def test_keywords_and_several_scalars(hooks, writer):
    line = sys._getframe().f_lineno + 1
    writer.add_scalar(tag="a", scalar_value=1.0, global_step=np.int64(3))
    writer.add_scalars("run", {"train": 1.0, "val": 2.0}, 5)

    (event,) = hooks.collector.take_events()

    assert event.kind == "metrics"
    assert event.data["where"]["a"]["line"] == line
    assert {tag: p[0][1:] for tag, p in event.data["values"].items()} == {
        "a": (None, 1.0),
        "run/train": (5, 1.0),
        "run/val": (5, 2.0),
    }
    assert 0 <= event.data["values"]["a"][0][0] <= event.duration_ns // 1_000


def test_a_wrong_call_fails_as_it_would_have(hooks, writer):
    with pytest.raises(TypeError, match="scalar_value"):
        writer.add_scalar("loss")
    guard.reset()


@pytest.mark.parametrize(
    ("module", "owner", "method", "call"),
    [
        ("transformers.trainer", "Trainer", "log", lambda o, m: o.log(m)),
        (
            "lightning.fabric.loggers.csv_logs",
            "CSVLogger",
            "log_metrics",
            lambda o, m: o.log_metrics(metrics=m, step=4),
        ),
        (
            "lightning_fabric.loggers.csv_logs",
            "CSVLogger",
            "log_metrics",
            lambda o, m: o.log_metrics(m, 4),
        ),
    ],
)
def test_libraries_that_log_mappings(hooks, monkeypatch, module, owner, method, call):
    """Stand-ins with the signatures of transformers and Lightning."""

    def log(self, *values, step=None, data=None, metrics=None):
        return "logged"

    state = types.SimpleNamespace(global_step=4)
    planted = types.ModuleType(module)
    setattr(planted, owner, type(owner, (), {method: log, "state": state}))
    monkeypatch.setitem(sys.modules, module, planted)
    hooks.collector = hooks.install(hooks_metrics)

    assert call(getattr(planted, owner)(), {"eval_loss": 0.5, "name": "x"}) == "logged"
    assert taken(hooks) == {"eval_loss": [(4, 0.5)]}


def test_wandb_s_values_and_which_run_they_go_to(hooks, monkeypatch):
    class Run:
        def __init__(self, run_id):
            self._settings = types.SimpleNamespace(
                run_id=run_id, project="digits", entity=None, mode="offline", sync_dir="/w/offline"
            )

        def log(self, data, step=None):
            return "logged"

    planted = types.ModuleType("wandb.sdk.wandb_run")
    planted.Run = Run
    monkeypatch.setitem(sys.modules, "wandb.sdk.wandb_run", planted)
    hooks.collector = hooks.install(hooks_metrics)

    for run in (Run("a"), Run("b")):
        assert run.log({"eval_loss": 0.5, "name": "x"}, step=4) == "logged"
        assert run.log(data={"eval_loss": 0.5}, step=5) == "logged"
    *runs, values = hooks.collector.take_events()
    assert [one.kind for one in (*runs, values)] == ["wandb_run", "wandb_run", "metrics"]
    assert [one.data["run_id"] for one in runs] == ["a", "b"]
    assert runs[0].data == {
        "run_id": "a",
        "project": "digits",
        "mode": "offline",
        "sync_dir": "/w/offline",
    }
    assert [point[1:] for point in values.data["values"]["eval_loss"]] == [(4, 0.5), (5, 0.5)] * 2
    assert hooks.collector.take_events() == []


def test_a_wandb_of_another_make_still_logs(hooks, monkeypatch):
    planted = types.ModuleType("wandb.sdk.wandb_run")
    planted.Run = type("Run", (), {"log": lambda self, data: "logged"})
    monkeypatch.setitem(sys.modules, "wandb.sdk.wandb_run", planted)
    hooks.collector = hooks.install(hooks_metrics)

    assert planted.Run().log({"loss": 0.5}) == "logged"
    assert taken(hooks) == {"loss": [(None, 0.5)]}


@pytest.mark.slow  # transformers alone takes seconds to import
@pytest.mark.parametrize(
    ("module", "owner", "method"), [target[:3] for target in hooks_metrics._TARGETS]
)
def test_the_libraries_installed_here_have_what_is_hooked(module, owner, method):
    library = pytest.importorskip(module, exc_type=ImportError)

    assert callable(getattr(getattr(library, owner), method))


def test_a_second_keeps_a_bounded_part_and_the_last(hooks, writer):
    for step in range(1_000):
        writer.add_scalar("loss", float(step), step)
    first = taken(hooks)["loss"]
    for step in range(10 * hooks_metrics.MOST_WAITING):
        writer.add_scalar("loss", float(step), step)
    later = taken(hooks)["loss"]

    assert len(first) <= hooks_metrics.MOST_A_SECOND
    assert first[-1] == (999, 999.0)
    assert len(later) <= hooks_metrics.MOST_A_SECOND_LATER
    assert later[-1] == (10 * hooks_metrics.MOST_WAITING - 1,) * 2


def test_tags_without_end_are_bounded(hooks, writer):
    for step in range(2 * hooks_metrics.MOST_TAGS):
        writer.add_scalar(f"loss/{step}", 1.0, step)

    assert len(taken(hooks)) == hooks_metrics.MOST_TAGS


def test_a_place_is_written_once(hooks, writer):
    for expected in (1, 0):
        writer.add_scalar("loss", 1.0, 1)
        (event,) = hooks.collector.take_events()
        assert len(event.data["where"]) == expected


def test_the_cost_of_a_scalar(hooks, writer, nanoseconds_per_call):
    """The budget is 1 us for the common form; the bound leaves room for a slow machine."""
    original = type(writer).add_scalar.__wrapped__
    noted = hooks.collector.wrap_scalar(original)
    noted(writer, "loss", 1.0, 1)
    plain_ns = nanoseconds_per_call(lambda: original(writer, "loss", 1.0, 1))

    assert nanoseconds_per_call(lambda: noted(writer, "loss", 1.0, 1)) - plain_ns < 3_000
    writer.got.clear()


def test_a_tag_that_cannot_be_looked_up_is_the_writers_business(hooks, writer):
    writer.add_scalar(["loss"], 0.5, 1)
    writer.add_scalar(["loss"], 0.5, 2)

    assert writer.got == [(["loss"], 0.5, 1), (["loss"], 0.5, 2)]
    assert taken(hooks) == {}
