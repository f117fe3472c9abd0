import gc
import subprocess
import sys
import textwrap

import pytest
import torch

from trainprof.profiler.agent import (
    hooks_compile,
    hooks_gc,
    hooks_logging,
    hooks_metrics,
    hooks_saving,
)
from trainprof.profiler.agent import marks as m


@pytest.fixture
def dynamo():
    """Dynamo, reset before and after; collections would come in between at any time."""
    dynamo = pytest.importorskip("torch._dynamo")
    dynamo.reset()
    dynamo.utils.counters.clear()
    gc.disable()
    yield dynamo
    gc.enable()
    dynamo.reset()


def _callbacks(dynamo):
    handler = dynamo.callback_handler
    return [*handler.start_callbacks], [*handler.end_callbacks]


def test_marks_and_events_of_compilations(hooks, dynamo):
    collector = hooks.install(hooks_compile)
    compiled = torch.compile(lambda x: x * 2, backend="eager", dynamic=False)
    compiled(torch.ones(2))
    compiled(torch.ones(2))
    assert hooks.kinds() == [m.COMPILE, m.COMPILE_END]
    (event,) = collector.take_events()
    opening, closing = hooks.recorder.marks
    assert (event.data["frames"], event.data["recompiles"]) == (1, 0)
    assert event.data["where"]["file"] == __file__
    assert 0 < event.duration_ns <= closing[1] - opening[1]
    compiled(torch.ones(3))
    (event,) = collector.take_events()
    assert (event.data["frames"], event.data["recompiles"]) == (0, 1)


def test_reset_by_the_user_keeps_us_listening(hooks, dynamo):
    collector = hooks.install(hooks_compile)
    dynamo.reset()
    torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2))
    assert len(collector.take_events()) == 1


def test_uninstall_leaves_dynamo_as_it_was(hooks, dynamo):
    before = _callbacks(dynamo)
    hooks.install(hooks_compile)
    assert _callbacks(dynamo) != before
    hooks.uninstall()
    assert _callbacks(dynamo) == before
    assert "clear" not in vars(dynamo.callback_handler)
    dynamo.reset()
    assert _callbacks(dynamo) == ([], [])


def test_failing_compilation_closes_its_mark(hooks, dynamo):
    hooks.install(hooks_compile)

    def broken_backend(graph, inputs):
        raise RuntimeError("backend is broken")

    with pytest.raises(dynamo.exc.BackendCompilerFailed, match="backend is broken"):
        torch.compile(lambda x: x + 1, backend=broken_backend)(torch.ones(2))
    assert hooks.kinds() == [m.COMPILE, m.COMPILE_END]


def test_closed_recorder(hooks, dynamo):
    collector = hooks.install(hooks_compile)
    hooks.recorder.close()
    torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2))
    assert hooks.kinds() == []
    assert collector.take_events() == []


def _train(dynamo, folder):
    """A compiled loop that prints, saves and collects within and between the graphs."""
    dynamo.reset()
    dynamo.utils.counters.clear()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile(backend="aot_eager")
    def loss_of(x):
        loss = model(x).square().mean()
        print("in the middle of a compiled function")
        return loss * 2

    losses = []
    for step in range(6):
        loss = loss_of(torch.ones(2 if step < 3 else 5, 4))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        torch.save(model.state_dict(), folder / "model.pt")
        losses.append(loss.item())
    counters = dynamo.utils.counters
    return {
        "breaks": sum(counters["graph_break"].values()),
        "graphs": counters["stats"]["unique_graphs"],
        "frames": counters["frames"]["ok"],
        "losses": losses,
    }


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_no_graph_break_and_no_recompilation_by_us(hooks, dynamo, tmp_path, capsys):
    without = _train(dynamo, tmp_path)
    for module in (hooks_logging, hooks_metrics, hooks_saving, hooks_gc, hooks_compile):
        hooks.install(module)
    assert _train(dynamo, tmp_path) == without
    assert without["breaks"] >= 1
    assert without["graphs"] >= 2
    capsys.readouterr()


def test_dynamo_is_not_imported_by_us():
    script = """
        import sys, torch
        from trainprof.profiler.agent import hooks_compile
        from trainprof.profiler.agent.patching import Patches
        from trainprof.profiler.agent.recorder import Recorder

        recorder = Recorder()
        collector = hooks_compile.install(torch, recorder, Patches())
        assert "torch._dynamo" not in sys.modules
        torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2))
        assert "torch._dynamo" in sys.modules
        print([mark[0] for mark in recorder.marks], len(collector.take_events()))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.stdout, done.returncode) == (f"{[m.COMPILE, m.COMPILE_END]} 1\n", 0), done.stderr
