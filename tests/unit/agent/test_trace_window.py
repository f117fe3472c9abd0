"""A trace of whole steps: opened and stopped between two of them, never in the way."""

import json
import sys
import threading

import pytest
import torch
from torch import nn

from trainprof.profiler.agent import kineto, trace_requests, trace_size, trace_window
from trainprof.profiler.agent import marks as m
from trainprof.profiler.agent.recorder import Recorder
from trainprof.profiler.agent.trace_requests import TraceRequests, Trainer
from trainprof.profiler.agent.trace_size import Load
from trainprof.profiler.agent.trace_window import ARMED, IDLE, OPEN, TraceWindow
from trainprof.profiler.store.traces import read_traces


class Modules:
    def __init__(self, *modules):
        self._modules = modules

    def __len__(self):
        return len(self._modules)

    def thing(self, number):
        return self._modules[number]


class Hooks:
    """What requests need of the training's hooks: errands wait for the next forward."""

    profiler_used = False

    def __init__(self, model):
        self.errands = []
        self.modules = Modules(model)

    def ask(self, errand):
        self.errands.append(errand)

    def forward(self):
        while self.errands:
            self.errands.pop(0)()


class Writer:
    def __init__(self):
        self.events = []

    def event(self, event):
        self.events.append(event)


class Training:
    """A loop that counts its own steps, and asks where a loader's ask would stand."""

    def __init__(self, run, asked="auto", rank=None, size=None):
        torch.manual_seed(0)
        self.model = nn.Linear(4, 2)
        self.hooks, self.writer, self.recorder = Hooks(self.model), Writer(), Recorder()
        self.recorder.follow_thread()
        self.free = True
        self.window = TraceWindow(torch, self.recorder, lambda: self.steps, lambda: self.free)
        self.requests = TraceRequests(torch, self.hooks, str(run), self.window, asked)
        self.trainer = Trainer(f"host-{rank or 0}-1", "together" if size else "alone", rank, size)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.steps = 0
        self.losses = []
        self.requests.begin(self.trainer)

    def step(self, inside=None):
        if self.recorder.watched:
            self.window.look(m.ASK)
        self.hooks.forward()
        loss = self.model(torch.full((3, 4), 0.5)).square().mean()
        if inside is not None:
            inside()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.recorder.updates += 1
        self.recorder.backwards = 0
        self.steps += 1
        self.losses.append(loss.item())

    def tick(self):
        self.requests.tick(self.writer, self.trainer, self.steps)

    def run(self, count, inside=None):
        for _ in range(count):
            self.step(inside)
            self.tick()


@pytest.fixture
def training(monkeypatch, tmp_path):
    monkeypatch.setattr(kineto, "script_profiles", lambda: False)
    prepare = sys.modules["torch.autograd.profiler"]._prepare_profiler
    made = []

    def make(*args, **options):
        made.append(Training(tmp_path, *args, **options))
        return made[-1]

    yield make
    for one in made:
        one.requests.end()
    assert sys.modules["torch.autograd.profiler"]._prepare_profiler is prepare
    assert not torch.autograd._profiler_enabled()


def steps_of(record):
    """Name and whether each step of a trace is whole."""
    with open(record.path) as file:
        events = json.load(file)["traceEvents"]
    return [
        (event["name"], event["args"].get("finished", True))
        for event in events
        if "ProfilerStep" in event["name"]
    ]


def the_trace(tmp_path):
    (record,) = read_traces(tmp_path)
    return record


@pytest.mark.parametrize(("told", "numbers"), [("4", [4]), ("5-7", [5, 6, 7]), ("40-41", [40, 41])])
def test_the_steps_that_were_told_are_traced_whole(training, tmp_path, told, numbers):
    loop = training(told)
    loop.run(60)
    record = the_trace(tmp_path)
    assert (record.first, record.steps) == (numbers[0], len(numbers))
    assert steps_of(record) == [(f"ProfilerStep#{number}", True) for number in numbers]


def test_the_trace_holds_operators_with_shapes(training, tmp_path):
    loop = training("3")
    loop.run(8)
    with open(the_trace(tmp_path).path) as file:
        events = json.load(file)["traceEvents"]
    (linear,) = [event for event in events if event["name"] == "aten::linear"]
    assert linear["args"]["Input Dims"][0] == [3, 4]


def test_the_events_hold_the_window_and_its_saving(training):
    loop = training("3-4")
    loop.run(9)
    window, saving = loop.writer.events
    assert window.data["steps"] == 2
    assert window.duration_ns > window.data["cost_ns"]["stop"] > 0
    assert saving.start_ns >= window.start_ns + window.duration_ns
    assert saving.duration_ns >= window.data["cost_ns"]["save"]


def test_outside_of_windows_the_hooks_take_their_quick_way(training):
    loop = training("12")
    recorder = loop.recorder
    recorder.started, recorder.inferring, recorder._next_detail = True, False, 10**30
    quick = []
    for _ in range(20):
        recorder.inferring = False
        loop.run(1)
        recorder.boundary(m.ASK)
        quick.append(recorder.quick == recorder.thread)
    assert quick == [False] * 13 + [True] * 7


def test_losses_are_the_same_to_the_last_bit(training):
    watched, plain = training("3-8"), training("off")
    watched.run(12)
    plain.run(12)
    assert watched.losses == plain.losses


def test_a_file_in_the_folder_asks_for_three_steps(training, tmp_path):
    loop = training()
    loop.run(5)
    (tmp_path / "trace-request").touch()
    loop.run(12)
    record = the_trace(tmp_path)
    assert record.steps == 3
    assert record.first > 5
    assert not (tmp_path / "trace-request").exists()


def test_two_requests_after_one_another_give_two_traces(training, tmp_path):
    loop = training()
    loop.run(2)
    for _ in range(2):
        (tmp_path / "trace-request").write_text("1")
        loop.run(8)
    assert [one.steps for one in read_traces(tmp_path)] == [1, 1]


def test_a_request_comes_before_steps_that_are_far_off(training, tmp_path):
    loop = training("400")
    loop.run(3)
    (tmp_path / "trace-request").write_text("2")
    loop.run(450)
    first, told = read_traces(tmp_path)
    assert (first.steps, told.first, told.steps) == (2, 400, 1)
    assert first.first < 50


def test_a_request_that_comes_meanwhile_waits(training, tmp_path):
    loop = training()
    loop.run(2)
    (tmp_path / "trace-request").write_text("4")
    loop.run(3)
    (tmp_path / "trace-request").write_text("2")
    loop.run(30)
    assert [one.steps for one in read_traces(tmp_path)] == [4, 2]


@pytest.mark.parametrize("text", ["none", "0", "21", '{"steps": "three"}', "[3]", "true"])
def test_a_request_for_no_number_of_steps_is_answered(training, tmp_path, text):
    loop = training()
    loop.run(2)
    (tmp_path / "trace-request").write_text(text)
    loop.run(9)
    assert "no number of steps from 1 to 20" in the_trace(tmp_path).reason


def test_ranks_take_the_same_steps(training, tmp_path, monkeypatch):
    monkeypatch.setattr(trace_requests, "LEAD_S", 0.0)
    first, second = training(rank=0, size=2), training(rank=1, size=2)
    (tmp_path / "trace-request").write_text("2")
    for _ in range(2):
        first.step()
        second.step()
    for _ in range(10):  # one after the other: a process has one profiler
        first.tick()
        second.tick()
        if first.window.state == ARMED and second.window.state == ARMED:
            break
        assert first.steps < 9
    assert first.window.first == second.window.first
    first.run(9)
    second.run(9)
    one, other = read_traces(tmp_path)
    assert (one.first, one.steps) == (other.first, other.steps)


def test_a_rank_that_sees_the_order_too_late_says_so(training, tmp_path):
    first, second = training(rank=0, size=2), training(rank=1, size=2)
    second.run(2)
    second.steps = 10**6
    first.run(2)
    (tmp_path / "trace-request").touch()
    first.run(1)
    second.tick()
    assert "saw the order when its first step had begun" in str(read_traces(tmp_path))


def test_an_order_of_another_training_is_none_of_ours(training, tmp_path):
    first, second = training(rank=0, size=2), training(rank=1, size=2)
    second.trainer = Trainer("host-1-1", "another", 1, 2)
    first.run(2)
    (tmp_path / "trace-request").touch()
    first.run(1)
    second.run(5)
    assert {one.process for one in read_traces(tmp_path)} <= {"host-0-1"}


@pytest.mark.parametrize(
    ("asked", "change", "reason"),
    [
        ("off", lambda loop, patch: None, "--trace off"),
        (
            "auto",
            lambda loop, patch: setattr(loop.hooks, "profiler_used", True),
            "uses torch's profiler itself",
        ),
        ("auto", lambda loop, patch: patch.setenv("KINETO_LOG_LEVEL", "0"), "KINETO_LOG_LEVEL"),
        (
            "auto",
            lambda loop, patch: patch.setattr(trace_requests, "LEAST_FREE_BYTES", 2**70),
            "the disk is full",
        ),
        (
            "auto",
            lambda loop, patch: (
                patch.setattr(trace_size, "MOST_EVENTS", 1),
                patch.setattr(trace_size, "MOST_TENSORS", 1),
            ),
            "one step would be a trace of more than",
        ),
    ],
)
def test_reasons_for_none(training, tmp_path, monkeypatch, asked, change, reason):
    loop = training(asked)
    loop.run(2)
    change(loop, monkeypatch)
    (tmp_path / "trace-request").touch()
    loop.run(9)
    assert reason in the_trace(tmp_path).reason
    assert loop.window.state == IDLE
    assert not loop.recorder.watched


def test_a_trace_that_would_grow_has_fewer_steps(training, tmp_path, monkeypatch):
    monkeypatch.setattr(trace_size, "MOST_EVENTS", 2 * 2 * trace_size.EVENTS_PER_TENSOR)
    loop = training()
    loop.run(2)
    (tmp_path / "trace-request").write_text("9")
    loop.run(15)
    assert the_trace(tmp_path).steps == 2


@pytest.mark.parametrize(
    ("load", "steps"),
    [
        (Load(), 20),
        (Load(events=10_000), 10),
        (Load(events=10**6), 0),
        (Load(micro_batches=100), 8),
        (Load(micro_batches=10**6), 1),
    ],
)
def test_how_many_steps_fit(training, load, steps):
    """Of a model of two parameters, of which 60 events each are guessed."""
    assert training().requests._fitting(20, load) == steps


def test_a_window_that_lasts_is_not_prolonged(training, tmp_path, monkeypatch):
    monkeypatch.setattr(trace_window, "MOST_S", 0.0)
    loop = training("3-9")
    loop.run(15)
    assert the_trace(tmp_path).steps == 1


def test_what_takes_too_long_is_given_up_and_comes_again(training, tmp_path, monkeypatch):
    loop = training("3-4")
    loop.run(3)
    loop.step()
    assert torch.autograd._profiler_enabled()
    with monkeypatch.context() as patch:
        patch.setattr(trace_window.time, "perf_counter_ns", lambda: 10**18)
        loop.tick()
    loop.hooks.forward()  # of a validation, say
    assert not torch.autograd._profiler_enabled()
    loop.run(9)
    record = the_trace(tmp_path)
    assert record.steps == 2
    assert record.first > 4


def test_the_steps_of_a_window_that_was_given_up_are_told(training, tmp_path):
    loop = training("3-4")
    loop.run(4)
    loop.requests.abandon()
    loop.run(6)
    given_up, window, _ = loop.writer.events
    assert "forked" in given_up.data["problem"]
    assert 0 < given_up.duration_ns < window.start_ns - given_up.start_ns
    assert the_trace(tmp_path).steps == 2


def test_what_always_takes_too_long_says_so(training, tmp_path, monkeypatch):
    monkeypatch.setattr(TraceWindow, "is_overdue", lambda window, step_s: window.state == OPEN)
    loop = training("3-4")
    loop.run(30, inside=lambda: (loop.tick(), loop.hooks.forward()))
    assert "something long came in between each time" in the_trace(tmp_path).reason


def test_a_profiler_that_the_script_starts_meanwhile_loses_nothing(training, tmp_path):
    loop = training("3-9")
    loop.run(4)
    assert torch.autograd._profiler_enabled()
    loop.hooks.profiler_used = True
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as theirs:
        loop.step()
    loop.run(3)
    assert sum(event.key == "aten::linear" for event in theirs.key_averages()) == 1
    assert "uses torch's profiler itself" in the_trace(tmp_path).reason


def test_the_profiler_of_the_operators_goes_first(training, tmp_path):
    loop = training("3")
    loop.free = False
    loop.run(6)
    assert loop.window.state == ARMED
    loop.free = True
    loop.run(4)
    assert the_trace(tmp_path).first > 3


def test_a_window_at_the_end_of_the_training_keeps_its_last_step(training, tmp_path):
    loop = training("3-9")
    loop.run(6)
    loop.requests.end()
    loop.requests.finish(loop.writer)
    record = the_trace(tmp_path)
    assert steps_of(record) == [(f"ProfilerStep#{number}", True) for number in (3, 4, 5)]


def test_a_step_that_the_end_cut_off_is_no_step(training, tmp_path):
    loop = training("3-9")
    loop.run(4)

    def leave():
        loop.recorder.backwards = 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.step(leave)
    loop.requests.end()
    loop.requests.finish(loop.writer)
    assert "ended inside the window" in the_trace(tmp_path).reason


def test_a_training_that_ends_before_says_so(training, tmp_path):
    loop = training("300")
    loop.run(4)
    loop.requests.end()
    loop.requests.finish(loop.writer)
    assert "ended before the window's first step" in the_trace(tmp_path).reason


def test_a_training_whose_steps_cannot_be_seen_says_so(training, tmp_path):
    loop = training("3")
    loop.window._count = lambda: 0
    loop.run(6)
    loop.recorder.updates = 0
    loop.requests.end()
    loop.requests.finish(loop.writer)
    assert "no update of the weights was seen" in the_trace(tmp_path).reason


def test_a_trace_that_did_not_become_whole_is_no_trace(training, tmp_path, monkeypatch):
    class Torn:
        def save(self, path):
            with open(path, "w") as file:
                file.write('{"traceEvents": [')

    monkeypatch.setattr(TraceWindow, "take", lambda window: window.reset() or Torn())
    loop = training("3")
    loop.run(6)
    assert "could not be written whole" in the_trace(tmp_path).reason
    assert not list((tmp_path / "traces").glob("*.part"))


def test_other_threads_do_not_open_it(training):
    loop = training("2")
    loop.run(2)
    other = threading.Thread(target=lambda: loop.window.look(m.ASK))
    other.start()
    other.join()
    assert loop.window.state == ARMED


# Accelerators, made up.


class Device:
    """Torch as it is where a CUDA device is in use, as far as windows ask."""

    class Cuda:
        capturing = False

        @staticmethod
        def is_initialized():
            return True

        @classmethod
        def is_current_stream_capturing(cls):
            return cls.capturing

    def __init__(self, supported):
        self.cuda = self.Cuda
        self._C = torch._C
        self.backends = torch.backends
        self.autograd = type("Autograd", (), {"_supported_activities": lambda: supported})


def test_the_devices_work_is_recorded_where_torch_can():
    kinds = torch._C._profiler.ProfilerActivity
    both = Device({kinds.CPU, kinds.CUDA})
    assert trace_window.device_activities(both) == [kinds.CUDA]
    assert trace_window.device_activities(Device({kinds.CPU})) == []
    assert trace_window.device_activities(torch) == []


class Marker:
    """An event that the device passes after some looks at it."""

    made = ()
    passed_after = 0

    def __init__(self):
        self.looks = 0
        type(self).made += (self,)

    def record(self):
        pass

    def query(self):
        self.looks += 1
        return self.looks > self.passed_after


@pytest.fixture
def on_device(monkeypatch):
    """Steps as they are on a device; what the profiler records is the CPU's."""

    def put(passed_after):
        cuda = type("cuda", (), {"Event": Marker, "is_initialized": lambda: False})
        monkeypatch.setattr(Marker, "made", ())
        monkeypatch.setattr(Marker, "passed_after", passed_after)
        monkeypatch.setattr(trace_window, "accelerator_in_use", lambda torch: "cuda")
        cpu = torch._C._profiler.ProfilerActivity.CPU
        monkeypatch.setattr(trace_window, "device_activities", lambda torch: [cpu])
        monkeypatch.setattr(torch, "cuda", cuda)

    return put


@pytest.mark.parametrize(("passed_after", "behind"), [(0, 0), (2, 2), (99, 3)])
def test_the_steps_that_count_are_whole_on_the_device_too(
    training, tmp_path, on_device, passed_after, behind
):
    """One step before them, and those in which the device comes after; nothing waits for it."""
    loop = training("5-6")
    on_device(passed_after)
    loop.run(5)
    assert torch.autograd._profiler_enabled()  # since step 4
    loop.run(2 + behind)
    assert torch.autograd._profiler_enabled()
    loop.run(1)
    assert not torch.autograd._profiler_enabled()
    loop.run(3)
    record = the_trace(tmp_path)
    assert (record.first, record.steps) == (5, 2)
    assert steps_of(record) == [("ProfilerStep#5", True), ("ProfilerStep#6", True)]
    (marker,) = Marker.made
    assert marker.looks == behind + 1


def test_a_training_that_ends_while_the_device_is_behind_keeps_its_steps(
    training, tmp_path, on_device
):
    loop = training("5-6")
    on_device(99)
    loop.run(8)
    assert torch.autograd._profiler_enabled()
    loop.requests.end()
    loop.requests.finish(loop.writer)
    assert the_trace(tmp_path).steps == 2


def test_no_profiler_is_opened_while_a_graph_is_captured(training, monkeypatch):
    loop = training("3")
    monkeypatch.setattr(loop.window, "_torch", Device(set()))
    monkeypatch.setattr(Device.Cuda, "capturing", True)
    loop.run(9)
    assert loop.window.state == ARMED


def test_a_steady_training_on_an_accelerator_is_traced_once(training, tmp_path, monkeypatch):
    monkeypatch.setattr(trace_requests, "device_activities", lambda torch: ["CUDA"])
    monkeypatch.setattr(trace_requests, "STEADY_S", 0.0)
    loop = training()
    loop.run(19)
    assert read_traces(tmp_path) == ()
    loop.run(40)
    record = the_trace(tmp_path)
    assert (record.steps, loop.writer.events[0].data["why"]) == (3, "auto")


def test_a_steady_training_on_a_cpu_is_not(training, tmp_path, monkeypatch):
    monkeypatch.setattr(trace_requests, "STEADY_S", 0.0)
    loop = training()
    loop.run(40)
    assert read_traces(tmp_path) == ()


def test_graphs_of_the_compiler_are_left_alone(training, tmp_path, monkeypatch):
    monkeypatch.setattr(trace_requests, "accelerator_in_use", lambda torch: "cuda")
    triton = type("triton", (), {"cudagraphs": True})
    config = type("config", (), {"triton": triton})
    monkeypatch.setitem(sys.modules, "torch._inductor.config", config)
    loop = training("3")
    loop.run(6)
    assert "CUDA graphs" in the_trace(tmp_path).reason
