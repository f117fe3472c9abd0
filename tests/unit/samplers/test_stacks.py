"""The thread that lets py-spy look at a run: with a stand-in for it, and with the real one."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from trainprof.profiler.samplers import stacks as stacks_module
from trainprof.profiler.samplers.ptrace import Permission, read_permission
from trainprof.profiler.samplers.stacks import (
    OUTPUT,
    StackPlan,
    StackSampler,
    find_py_spy,
    plan_stacks,
)
from trainprof.profiler.store.layout import STACKS_FILE, STACKS_INSIDE_FILE
from trainprof.profiler.store.lines import Problems
from trainprof.profiler.store.stacks import read_stacks

PATIENCE_S = 50.0

GOOD = """
import json
frame = {"args": {"filename": "/home/somebody/train.py", "line": 3}, "cat": "py-spy",
         "name": "main", "ph": "B", "pid": 7, "tid": 1, "ts": 40000}
open(output, "w").write(json.dumps([frame, {**frame, "ph": "E", "ts": 90000}]))
"""
SECOND_THREAD = """
import json
if "--gil" in sys.argv:
    text = "thread (7): MainThread;main (/t.py:3) 9\\nthread (8);Thread._bootstrap "
    text += "(/lib/threading.py:1);work (/t.py:7) 70\\n"
    open(output, "w").write(text)
else:
    def event(name, file, line, tid, ph, ts):
        args = {"filename": file, "line": line}
        return {"args": args, "cat": "py-spy", "name": name, "ph": ph, "pid": 7, "tid": tid,
                "ts": ts}
    both = [("main", "/t.py", 3, 1)]
    both += [("Thread._bootstrap", "/lib/threading.py", 1, 2), ("work", "/t.py", 7, 2)]
    begun = [event(*one, "B", 40000) for one in both]
    ended = [event(*one, "E", 90000) for one in reversed(both)]
    open(output, "w").write(json.dumps([*begun, *ended]))
"""
REFUSED = """
sys.stderr.write("Permission Denied: Try running again with elevated permissions\\n")
sys.exit(1)
"""
NOTHING = 'open(output, "w").write("[]")'
STUBBORN = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
open(output + ".started", "w").close()
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path):
    """A run folder in which a process trains already."""
    process = tmp_path / "procs" / "node-7-1"
    process.mkdir(parents=True)
    (process / "steps.jsonl").touch()
    return tmp_path


@pytest.fixture
def sampler(folder, tmp_path_factory):
    """A sampler with a script in the place of py-spy; stopped after the test."""
    made = []

    def make(body, pause_s=0.01, plan=None):
        program = tmp_path_factory.mktemp("bin") / "py-spy"
        head = f"#!{sys.executable} -SE\nimport sys\noutput = sys.argv[-1]\n"
        program.write_text(head + body)
        program.chmod(0o755)
        plan = plan or StackPlan("py-spy", str(program))
        made.append(StackSampler(folder, os.getpid(), plan, 5, (pause_s,)))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def wait_until(satisfied):
    deadline = time.monotonic() + PATIENCE_S
    while not satisfied():
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.01)


def test_each_window_is_kept(folder, sampler):
    one = sampler(GOOD)
    one.start()
    wait_until(lambda: one._samples >= 2)
    one.stop()
    (status,) = one.statuses()
    assert (status.status, status.reason) == ("ok", None)
    read = read_stacks(folder, Problems())
    assert len(read.windows) >= 2
    assert {window.source for window in read.windows} == {"py-spy"}
    sample = read.samples[0]
    assert (sample.pid, sample.thread, sample.duration_ns) == (7, 1, 50_000_000)
    assert sample.stack[-1] == ("main", "/home/somebody/train.py", 3)
    assert sample.at_ns - read.windows[0].start_ns == pytest.approx(40_000_000, abs=100)
    assert not (folder / OUTPUT).exists()


def test_where_a_second_thread_computes_the_lock_is_asked_for(folder, sampler):
    one = sampler(SECOND_THREAD)
    one.start()
    wait_until(lambda: one._samples >= 3)
    one.stop()
    window = read_stacks(folder, Problems()).lock_windows[0]
    assert (window.pid, window.looks) == (7, 79)  # the stand-in takes no time
    assert [(holder.main, holder.looks) for holder in window.holders] == [(True, 9), (False, 70)]
    assert not (folder / OUTPUT).exists()


@pytest.mark.parametrize(
    ("body", "words"),
    [(REFUSED, "Permission Denied"), (NOTHING, "saw no stack"), ("", "No such file")],
)
def test_two_failures_hand_over_to_the_agents(folder, sampler, body, words, monkeypatch):
    monkeypatch.setattr(stacks_module, "RETRY_S", 0.01)
    one = sampler(body)
    one.start()
    wait_until((folder / STACKS_INSIDE_FILE).exists)
    one.stop()
    (status,) = one.statuses()
    assert status.status == "partial"
    assert "from inside" in status.reason
    assert words in status.reason


def test_a_py_spy_that_does_not_end_is_killed(folder, sampler, monkeypatch):
    monkeypatch.setattr(stacks_module, "END_WAIT_S", 0.2)
    one = sampler(STUBBORN)
    one.start()
    wait_until((folder / f"{OUTPUT}.started").exists)
    began_s = time.monotonic()
    one.stop()
    assert time.monotonic() - began_s < 30  # it sleeps for 60 s
    assert not one._thread.is_alive()
    assert OUTPUT not in " ".join(
        word for child in psutil.Process().children() for word in child.cmdline()
    )


def test_a_program_that_cannot_be_started_is_a_reason(folder, sampler, monkeypatch):
    monkeypatch.setattr(stacks_module, "RETRY_S", 0.01)
    one = sampler("", plan=StackPlan("py-spy", str(folder / "absent")))
    one.start()
    wait_until((folder / STACKS_INSIDE_FILE).exists)
    assert "cannot be started" in one.statuses()[0].reason


def test_a_run_that_never_trains_is_never_sampled(tmp_path):
    one = StackSampler(tmp_path, os.getpid(), StackPlan("py-spy", "/absent"))
    one.start()
    one.stop()
    assert one.statuses()[0].status == "missing"
    assert not (tmp_path / STACKS_FILE).exists()


def test_a_file_that_cannot_be_written_ends_it(folder, sampler):
    (folder / STACKS_FILE).mkdir()
    one = sampler(GOOD)
    one.start()
    one._thread.join(PATIENCE_S)
    assert "cannot be written" in one.statuses()[0].reason


@pytest.mark.parametrize(
    ("permission", "source", "told"),
    [
        (Permission(True, True), "py-spy", "outside"),
        (Permission(True, False, must_ask=True), "py-spy", str(os.getpid())),
        (Permission(False, False, reason="no"), "agent", "inside"),
    ],
    ids=["outside", "asked", "inside"],
)
def test_the_plan_follows_what_is_permitted(monkeypatch, permission, source, told):
    monkeypatch.setattr(stacks_module, "find_py_spy", lambda: "/home/somebody/py-spy")
    plan = plan_stacks(permission=permission)
    assert (plan.source, plan.for_agent()) == (source, told)


def test_without_py_spy_the_agents_sample(monkeypatch):
    monkeypatch.setattr(stacks_module, "find_py_spy", lambda: None)
    plan = plan_stacks()
    assert (plan.source, plan.reason) == ("agent", "py-spy is not installed")


def test_unwanted_stacks_leave_nothing(folder):
    plan = plan_stacks(wanted=False)
    sampler = StackSampler(folder, os.getpid(), plan)
    sampler.start()
    sampler.stop()
    assert plan.for_agent() == ""
    assert sampler.statuses() == ()


def test_py_spy_itself(folder):
    """The real one, where it is installed and may look."""
    program = find_py_spy()
    if program is None:
        pytest.skip("py-spy is not installed here")
    if not read_permission().any_process:
        pytest.skip("this system does not let a sibling look at a process (ptrace)")
    code = "import time\ndef dream():\n    time.sleep(60)\ndream()"
    target = subprocess.Popen([sys.executable, "-c", code])
    try:
        sampler = StackSampler(folder, target.pid, StackPlan("py-spy", program), 1, (0.1,))
        sampler.start()
        wait_until(lambda: sampler._samples or sampler._failure)
        sampler.stop()
    finally:
        target.kill()
        target.wait()
    if sampler._failure and "ermission" in sampler._failure:
        pytest.skip("this sandbox does not let a sibling look at a process")
    samples = read_stacks(folder, Problems()).samples
    functions = {frame.function for sample in samples for frame in sample.stack}
    assert "dream" in functions
    assert json.loads((folder / STACKS_FILE).read_text().splitlines()[0])["format"] == 1
