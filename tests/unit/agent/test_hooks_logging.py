import builtins
import copy
import functools
import inspect
import io
import logging
import pickle
import sys
import threading
import types

import pytest
import torch

from trainprof.profiler.agent import hooks_compile, hooks_logging
from trainprof.profiler.agent import marks as m
from trainprof.profiler.agent.hooks_logging import CHANNELS, LOCATE_EVERY


@pytest.fixture
def collector(hooks):
    return hooks.install(hooks_logging)


def _only(collector):
    (event,) = collector.take_events()
    assert event.kind == "logging"
    return event


def test_print_writes_the_same_and_leaves_marks(hooks, collector, capsys):
    line = sys._getframe().f_lineno + 1
    print("a", 1, sep="-", end="!\n", flush=True)
    assert capsys.readouterr().out == "a-1!\n"
    assert [mark[:1] + mark[2:] for mark in hooks.recorder.marks] == [
        (m.LOG, 0, 0),
        (m.LOG_END, 0, 0),
    ]
    opening, closing = hooks.recorder.marks
    data = _only(collector).data
    assert data["calls"] == {"print": 1}
    assert 0 < data["total_ns"]["print"] <= closing[1] - opening[1]
    assert data["where"]["print"] == {
        "file": __file__,
        "line": line,
        "function": "test_print_writes_the_same_and_leaves_marks",
    }
    assert collector.take_events() == []


def test_summaries_hold_what_is_new(collector):
    stream = io.StringIO()
    print("a", file=stream)
    first = _only(collector)
    for _ in range(3):
        print("b", file=stream)
    second = _only(collector)
    assert (first.data["calls"], second.data["calls"]) == ({"print": 1}, {"print": 3})
    assert second.start_ns == first.start_ns + first.duration_ns
    assert stream.getvalue() == "a\nb\nb\nb\n"


class Closed(io.StringIO):
    def write(self, text):
        raise OSError("no space left")


def test_errors_are_the_originals_and_the_mark_is_closed(hooks, collector):
    with pytest.raises(OSError, match="no space left"):
        print("x", file=Closed())
    with pytest.raises(TypeError, match="'nothing' is an invalid keyword argument"):
        print("x", nothing=1)
    assert hooks.kinds() == [m.LOG, m.LOG_END] * 2


class Reporter:
    line = print


def test_print_is_as_good_as_the_builtin(hooks):
    original = builtins.print
    hooks.install(hooks_logging)

    class Late:
        line = print

    stream = io.StringIO()
    Reporter().line("before", file=stream)
    Late().line("after", file=stream)
    assert stream.getvalue() == "before\nafter\n"
    assert pickle.loads(pickle.dumps(functools.partial(print, "x"))).func is print
    assert copy.deepcopy({"log": print})["log"] is print
    assert (print.__name__, print.__module__, repr(print)) == ("print", "builtins", repr(original))
    assert print.__doc__ == original.__doc__
    assert inspect.signature(print) == inspect.signature(original)


def test_most_frequent_place_is_reported(collector):
    stream = io.StringIO()
    print("once", file=stream)
    often = sys._getframe().f_lineno + 2
    for _ in range(3 * LOCATE_EVERY):
        print("often", file=stream)
    assert _only(collector).data["where"]["print"]["line"] == often


def test_other_threads_and_a_closed_recorder_pass_through(hooks, collector, capsys):
    thread = threading.Thread(target=print, args=("thread",))
    thread.start()
    thread.join()
    hooks.recorder.close()
    print("closed")
    assert capsys.readouterr().out == "thread\nclosed\n"
    assert hooks.kinds() == []
    assert collector.take_events() == []


def test_logging_counts_records_that_are_handled(hooks, collector):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(filename)s %(funcName)s %(message)s"))
    logger = logging.getLogger("planted")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        logger.warning("loss %d", 3)
        logger.debug("not wanted")
    finally:
        logger.removeHandler(handler)
    function = "test_logging_counts_records_that_are_handled"
    assert stream.getvalue() == f"WARNING test_hooks_logging.py {function} loss 3\n"
    assert hooks.kinds() == [m.LOG, m.LOG_END]
    assert _only(collector).data["calls"] == {"logging": 1}


def test_print_inside_a_logging_handler_nests(hooks, collector, capsys):
    class Printing(logging.Handler):
        def emit(self, record):
            print(record.getMessage())

    logger = logging.getLogger("planted")
    logger.propagate = False
    handler = Printing()
    logger.addHandler(handler)
    try:
        logger.error("x")
    finally:
        logger.removeHandler(handler)
    marks = [(mark[0], mark[2]) for mark in hooks.recorder.marks]
    assert marks == [(m.LOG, 1), (m.LOG, 0), (m.LOG_END, 0), (m.LOG_END, 1)]
    data = _only(collector).data
    assert data["calls"] == {"print": 1, "logging": 1}
    assert data["total_ns"]["logging"] > data["total_ns"]["print"]


@pytest.mark.loops
def test_tqdm(hooks, collector):
    tqdm = pytest.importorskip("tqdm")
    stream = io.StringIO()
    for _ in tqdm.tqdm(range(3), file=stream, mininterval=0):
        pass
    data = _only(collector).data
    assert "3/3" in stream.getvalue()
    # refresh() calls display(): one call each time, not two
    updates = stream.getvalue().count("\r")
    assert data["calls"] == {"tqdm": updates}
    assert data["where"]["tqdm"]["file"] == __file__
    depth = 0
    for mark in hooks.recorder.marks:
        depth += 1 if mark[0] == m.LOG else -1
        assert depth in (0, 1, 2)
    assert depth == 0


@pytest.mark.loops
def test_summary_writer(hooks, collector, tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    original_name = SummaryWriter.add_scalar.__name__
    with SummaryWriter(tmp_path) as writer:
        for step in range(5):
            writer.add_scalar("loss", 1.0 / (step + 1), step)
        writer.add_scalars("both", {"a": 1, "b": 2}, 1)
        writer.add_histogram("weights", torch.arange(10.0), 0)
    files = list(tmp_path.rglob("events.out.tfevents.*"))
    assert files
    assert sum(file.stat().st_size for file in files) > 500
    data = _only(collector).data
    assert data["calls"]["tensorboard"] >= 7
    assert data["where"]["tensorboard"]["file"] == __file__
    assert original_name == "add_scalar"
    assert hasattr(SummaryWriter.add_scalar, "__wrapped__")
    hooks.uninstall()
    assert not hasattr(SummaryWriter.add_scalar, "__wrapped__")


@pytest.mark.parametrize(
    ("module", "owner", "method", "channel"),
    [
        ("wandb.sdk.wandb_run", "Run", "log", "wandb"),
        ("tensorboardX.writer", "SummaryWriter", "add_scalar", "tensorboardx"),
    ],
)
def test_libraries_that_are_not_installed_here(hooks, monkeypatch, module, owner, method, channel):
    """Stand-ins with the real modules' names: the method that these libraries have is wrapped."""
    cls = type(owner, (), {method: lambda self, value: value + 1})
    planted = types.ModuleType(module)
    setattr(planted, owner, cls)
    monkeypatch.setitem(sys.modules, module, planted)
    collector = hooks.install(hooks_logging)
    assert getattr(cls(), method)(1) == 2
    assert _only(collector).data["calls"] == {channel: 1}
    assert [mark[2] for mark in hooks.recorder.marks] == [CHANNELS.index(channel)] * 2


def test_print_in_a_compiled_function_breaks_the_graph_as_before(hooks, capsys):
    from torch._dynamo.utils import counters

    def compute(x):
        y = x * 2
        print("inside")
        return (y + 1).sum()

    def run():
        torch._dynamo.reset()
        counters.clear()
        compiled = torch.compile(compute, backend="eager")
        for _ in range(3):
            compiled(torch.ones(3))
        breaks = sum(counters["graph_break"].values())
        return breaks, counters["stats"]["unique_graphs"], counters["frames"]["ok"]

    without = run()
    collector = hooks.install(hooks_logging)
    hooks.install(hooks_compile)  # keeps dynamo away from our own functions
    assert run() == without
    assert capsys.readouterr().out == "inside\n" * 6
    assert _only(collector).data["calls"]["print"] >= 3  # dynamo prints into strings of its own
    assert without[0] == 1


def test_closing_the_recorder_recompiles_nothing(hooks, capsys):
    from torch._dynamo.utils import counters

    hooks.install(hooks_logging)
    torch._dynamo.reset()
    counters.clear()

    @torch.compile(backend="eager")
    def compute(x):
        print("inside")
        return x + 1

    compute(torch.ones(3))
    frames = counters["frames"]["ok"]
    hooks.recorder.close()
    compute(torch.ones(3))
    hooks.recorder.follow_thread()
    assert counters["frames"]["ok"] == frames
    assert capsys.readouterr().out == "inside\n" * 2


def test_cost_outside_of_the_original(hooks, nanoseconds_per_call):
    def original():
        return None

    plain_ns = nanoseconds_per_call(original)
    collector = hooks.install(hooks_logging)
    wrapped = collector.wrap(0, original)

    def call():
        wrapped()
        hooks.recorder.marks.clear()

    assert nanoseconds_per_call(call) - plain_ns < 4_000
