"""The window of torch's profiler: opened for one step, read elsewhere, and never in the way."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from trainprof.profiler.agent import kineto, operator_window
from trainprof.profiler.agent.operator_window import OperatorWindow
from trainprof.profiler.agent.recorder import Recorder


class Hooks:
    """What the window needs of the training's hooks: errands wait for the next forward."""

    profiler_used = False

    def __init__(self):
        self.errands = []

    def ask(self, errand):
        self.errands.append(errand)

    def forward(self):
        while self.errands:
            self.errands.pop(0)()


class Writer:
    def __init__(self):
        self.facts, self.events = {}, []

    def fact(self, fact):
        self.facts[fact.key] = fact.data

    def event(self, event):
        self.events.append(event)


class Training:
    """A loop whose window is due after the first step."""

    def __init__(self, **options):
        torch.manual_seed(0)
        self.hooks, self.writer, self.recorder = Hooks(), Writer(), Recorder()
        self.recorder.follow_thread()
        self.window = OperatorWindow(torch, self.hooks, self.recorder, **options)
        self.model = nn.Linear(4, 2)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.steps = 0
        self.losses = []

    def step(self, inside=None):
        self.hooks.forward()
        loss = self.model(torch.full((3, 4), 0.5)).square().mean()
        if inside is not None:
            inside()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.steps += 1
        self.losses.append(loss.item())

    def run(self, count, inside=None):
        for _ in range(count):
            self.step(inside)
            self.window.tick(self.writer, self.steps)


@pytest.fixture
def training(monkeypatch):
    from torch._dynamo.utils import counters

    counters.clear()  # where something was compiled, lines are not looked for
    monkeypatch.setattr(operator_window, "STEPS_ANYHOW", 2)
    monkeypatch.setattr(kineto, "script_profiles", lambda: False)
    made = []

    def make(**options):
        made.append(Training(**options))
        return made[-1]

    before = dict(sys.modules["torch.optim.optimizer"]._global_optimizer_post_hooks)
    prepare = sys.modules["torch.autograd.profiler"]._prepare_profiler
    yield make
    for one in made:
        one.window.uninstall()
    assert dict(sys.modules["torch.optim.optimizer"]._global_optimizer_post_hooks) == before
    assert sys.modules["torch.autograd.profiler"]._prepare_profiler is prepare
    assert sys.getprofile() is None
    assert not torch.autograd._profiler_enabled()


def names(fact):
    return [fact["operators"][number][0] for number in fact["calls"]["operator"]]


def test_one_step_is_recorded_and_the_hook_goes(training):
    loop = training()
    loop.run(8)
    fact = loop.writer.facts["w0"]
    assert names(fact)[-1] == "Optimizer.step#SGD.step"
    assert "aten::linear" in names(fact)
    assert len(fact["parameters"]) == 2
    assert len(fact["gradients"]) == 2
    ((function, file, *_),) = [row for row in fact["lines"] if row[0] == "square"]
    assert (function, file) == ("square", __file__)
    assert loop.window._handle is None


QUIET = """
import runpy, sys
names = runpy.run_path(sys.argv[1])
names["operator_window"].STEPS_ANYHOW = 2
names["kineto"].script_profiles = lambda: False
loop = names["Training"]()
loop.run(8)
assert "w0" in loop.writer.facts
"""


def test_torch_prints_nothing_about_the_window():
    """In a process of its own: the profiler's first use decides what it prints later on."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", QUIET, __file__], capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")


def test_the_event_holds_the_whole_disturbance(training):
    loop = training()
    loop.run(8)
    (event,) = loop.writer.events
    fact = loop.writer.facts["w0"]
    assert event.kind == "operators"
    assert event.start_ns == fact["start_ns"]
    assert event.duration_ns >= fact["wall_ns"] + fact["cost_ns"]["stop"]


def test_losses_are_the_same_to_the_last_bit(training):
    watched, plain = training(), training(enabled=False)
    watched.run(8)
    plain.run(8)
    assert watched.losses == plain.losses


def test_a_second_window_waits_for_its_budget(training):
    loop = training()
    loop.run(30)
    assert list(loop.writer.facts) == ["w0"]


def test_a_profiler_of_the_script_goes_first(training):
    loop = training()
    loop.run(3)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as theirs:
        loop.run(6)
    loop.window.finish(loop.writer)
    assert any(event.key == "aten::linear" for event in theirs.key_averages())
    assert loop.writer.facts == {"status": {"reason": "the script uses torch's profiler itself"}}


def test_a_profiler_that_the_script_starts_meanwhile_loses_nothing(training):
    loop = training()
    loop.run(2)
    loop.step()  # the window opens behind this step's update
    assert torch.autograd._profiler_enabled()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as theirs:
        loop.step()
    loop.run(3)
    assert sum(event.key == "aten::linear" for event in theirs.key_averages()) == 1
    assert "w0" not in loop.writer.facts


def test_what_takes_too_long_is_given_up(training, monkeypatch):
    loop = training()
    loop.run(2)
    loop.step()
    monkeypatch.setattr(operator_window.time, "perf_counter_ns", lambda: 10**18)
    loop.window.tick(loop.writer, loop.steps)
    loop.hooks.forward()  # of a validation, say
    assert not torch.autograd._profiler_enabled()
    loop.window.finish(loop.writer)
    (event,) = loop.writer.events  # its step took longer all the same
    assert event.duration_ns > 0


def test_somebody_elses_profile_function_stays(training):
    loop = training()

    def theirs(*_):
        pass

    sys.setprofile(theirs)
    try:
        loop.run(8)
        assert sys.getprofile() is theirs
    finally:
        sys.setprofile(None)
    assert loop.writer.facts["w0"]["lines"] == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda loop: setattr(loop.hooks, "profiler_used", True), "profiler itself"),
        (lambda loop: setattr(loop.window, "_reason", "why not"), "why not"),
    ],
)
def test_reasons_for_staying_out(training, change, reason):
    loop = training()
    change(loop)
    loop.run(6)
    loop.window.finish(loop.writer)
    assert reason in loop.writer.facts["status"]["reason"]


def test_a_model_of_thousands_of_parts_is_left_alone(training, monkeypatch):
    monkeypatch.setattr(operator_window, "MOST_TENSORS", 1)
    loop = training()
    loop.run(8)
    loop.window.finish(loop.writer)
    assert "so many parameters" in loop.writer.facts["status"]["reason"]
    assert "w0" not in loop.writer.facts


def test_a_short_training_says_so(training):
    loop = training()
    loop.run(1)
    loop.window.finish(loop.writer)
    assert "ended before" in loop.writer.facts["status"]["reason"]


def test_kinetos_level_is_the_scripts_own(training, monkeypatch):
    monkeypatch.setenv("KINETO_LOG_LEVEL", "0")
    loop = training()
    loop.run(6)
    loop.window.finish(loop.writer)
    assert "KINETO_LOG_LEVEL" in loop.writer.facts["status"]["reason"]
