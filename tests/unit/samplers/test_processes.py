"""The process tree, looked at in real children: one burns, one allocates, one ends, one is lost."""

import os
import sys
import time
from itertools import pairwise

import psutil
import pytest

from trainprof.profiler.samplers import processes as processes_module
from trainprof.profiler.samplers.processes import (
    PSS_EARLY_LOOKS,
    PSS_EVERY_LOOKS,
    ProcessTree,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux has")

WAIT = "sum(range(3_000_000)); print(flush=True); input()"  # CPU time comes in ticks of 10 ms
BURN = "print(flush=True)\nwhile True: sum(range(1000))"
ALLOCATE = "block = b'x' * 64_000_000; print(flush=True); input()"
SPEND_AND_WAIT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {program!r}])
print(child.pid, flush=True)
input()
"""
LEAVE_AN_ORPHAN = """
import os, sys
print(flush=True)
sys.stdin.readline()
reading, writing = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.write(writing, b"x")
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])
    sys.stdin.readline()
    os._exit(0)
os.read(reading, 1)
print(flush=True)
os.wait()
print(flush=True)
sys.stdin.readline()
"""
PATIENCE_S = 50.0


def status_of(tree):
    (status,) = tree.statuses()
    assert status.name == "processes"
    return status


def look(tree):
    return {sample.pid: sample for sample in tree.sample()}


def look_until(tree, satisfied):
    """Looks until what is seen satisfies; fails after some seconds."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        seen = look(tree)
        if satisfied(seen):
            return seen
        time.sleep(0.02)
    raise AssertionError(f"not seen within {PATIENCE_S} s; the last look: {seen}")


def tell(child):
    child.stdin.write(b"\n")
    child.stdin.flush()


def test_one_that_waits(start):
    child = start(WAIT)
    tree = ProcessTree(child.pid)
    sample = look_until(tree, lambda seen: seen[child.pid].status == "sleeping")[child.pid]
    assert sample.parent_pid == os.getpid()
    assert sample.name.startswith("python")
    assert sample.threads == 1
    assert 0 < sample.cpu_total_s < PATIENCE_S
    assert sample.read_calls_total_bytes > 10_000  # it read Python's modules
    assert sample.written_total_bytes is not None
    assert sample.run_delay_total_ns is not None  # 0 where a core was free all along
    assert sample.major_faults_total is not None
    assert sample.switches_voluntary_total > 0
    assert status_of(tree).status == "ok"


def test_what_ended_children_used_is_kept(start):
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    child = start(
        f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {burn!r}]); "
        "print(flush=True); input()"
    )
    tree = ProcessTree(child.pid)
    look_until(tree, lambda seen: (seen[child.pid].children_cpu_total_s or 0.0) >= 0.1)


def test_one_that_burns_cpu(start):
    child = start(BURN)
    tree = ProcessTree(child.pid)
    before = look(tree)[child.pid].cpu_total_s
    look_until(tree, lambda seen: seen[child.pid].cpu_total_s >= before + 0.1)


def test_one_that_allocates(start):
    child = start(ALLOCATE)
    sample = look(ProcessTree(child.pid))[child.pid]
    assert 64_000_000 < sample.pss_bytes <= sample.rss_bytes < 128_000_000


def test_pss_is_asked_for_seldom(start, monkeypatch):
    child = start(WAIT)
    now_s = 1000.0
    monkeypatch.setattr(processes_module.time, "monotonic", lambda: now_s)
    tree = ProcessTree(child.pid)
    asked = [look(tree)[child.pid].pss_bytes is not None for _ in range(21)]
    assert [index for index, yes in enumerate(asked) if yes] == [0, 10, 20]


def test_pss_that_is_dear_is_asked_for_more_seldom(start, monkeypatch):
    child = start(WAIT)
    clock_s = [0.0]
    tree = ProcessTree(child.pid)
    monkeypatch.setattr(processes_module.time, "monotonic", lambda: clock_s[0])

    def dear(pid):
        clock_s[0] += 0.5
        return 1

    monkeypatch.setattr(tree, "_pss", dear)
    asked_s = []
    for _ in range(1000):
        if look(tree)[child.pid].pss_bytes is not None:
            asked_s.append(clock_s[0])
        clock_s[0] += 2.0
    # Half a second of looking, so at most once in 500 s, but for the beginning.
    early = PSS_EARLY_LOOKS // PSS_EVERY_LOOKS
    assert max(b - a for a, b in pairwise(asked_s[:early])) < 30
    assert len(asked_s) == early + 3
    assert min(b - a for a, b in pairwise(asked_s[early - 1 :])) >= 500


def test_children_that_come_later_and_one_that_ends(start):
    program = SPEND_AND_WAIT.format(program="import time; time.sleep(60)")
    child = start(program)
    tree = ProcessTree(os.getpid())
    before = look(tree)
    assert {os.getpid(), child.pid} <= set(before)
    later = start(program)
    seen = look_until(tree, lambda seen: len(seen) == len(before) + 2)
    (grandchild,) = (pid for pid, one in seen.items() if one.parent_pid == later.pid)
    os.kill(grandchild, 9)  # a zombie from then on: its parent does not wait for it
    look_until(tree, lambda seen: grandchild not in seen)
    assert psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
    later.kill()
    look_until(tree, lambda seen: later.pid not in seen)
    assert child.pid in look(tree)
    assert status_of(tree).status == "ok"


def test_an_orphan_stays_in_the_tree(start):
    child = start(LEAVE_AN_ORPHAN)
    tree = ProcessTree(child.pid)
    tell(child)
    child.stdout.readline()  # child and grandchild live
    seen = look_until(tree, lambda seen: len(seen) == 3)
    (orphan,) = (pid for pid, one in seen.items() if one.parent_pid not in (child.pid, os.getpid()))
    tell(child)
    child.stdout.readline()
    seen = look(tree)
    try:
        assert set(seen) == {child.pid, orphan}
        assert seen[orphan].parent_pid != child.pid
    finally:
        os.kill(orphan, 9)


def test_another_process_under_a_known_number_is_not_ours(start, tmp_path):
    """The number is told from the later one's by its start time."""
    child = start(WAIT)
    stat = tmp_path / str(child.pid) / "stat"
    stat.parent.mkdir()
    fields = f"{child.pid} (python) S {os.getpid()} " + "0 " * 7 + "5 " + "0 " * 9
    stat.write_text(f"{fields}1000 0 0\n")
    tree = ProcessTree(child.pid, tmp_path)
    assert look(tree)[child.pid].major_faults_total == 5
    stat.write_text(f"{fields}2000 0 0\n")
    assert look(tree) == {}
    stat.write_text(f"{fields}1000 0 0\n")
    assert look(tree) == {}


def test_one_that_vanishes_in_mid_look(start, monkeypatch):
    child = start(WAIT)
    tree = ProcessTree(child.pid)
    real = psutil.Process.num_ctx_switches

    def die_first(process):
        child.kill()
        child.wait()
        return real(process)

    monkeypatch.setattr(psutil.Process, "num_ctx_switches", die_first)
    assert look(tree) == {}
    assert status_of(tree).status == "missing"


def test_a_command_that_has_ended_already(start):
    child = start("print(flush=True)")
    child.wait()
    tree = ProcessTree(child.pid)
    assert look(tree) == {}
    assert status_of(tree).reason == "the command had ended before the first look"


def test_one_whose_io_is_forbidden(start, monkeypatch):
    def refuse(process):
        raise psutil.AccessDenied(process.pid)

    child = start(WAIT)
    monkeypatch.setattr(psutil.Process, "io_counters", refuse)
    tree = ProcessTree(child.pid)
    sample = look(tree)[child.pid]
    assert sample.read_total_bytes is None
    assert sample.cpu_total_s > 0
    assert status_of(tree).status == "partial"
    assert "/proc/PID/io" in status_of(tree).reason


def test_one_that_is_forbidden_altogether(start, monkeypatch):
    def refuse(process):
        raise psutil.AccessDenied(process.pid)

    child = start(WAIT)
    monkeypatch.setattr(psutil.Process, "num_threads", refuse)
    tree = ProcessTree(child.pid)
    assert look(tree) == {}
    assert "another user" in status_of(tree).reason


def test_a_system_without_proc(start, tmp_path, monkeypatch):
    """As on macOS: psutil still knows the processes, what needs /proc is missing."""

    def unknown(process):
        raise AttributeError("io_counters")

    child = start(WAIT)
    monkeypatch.setattr(psutil.Process, "io_counters", unknown)
    tree = ProcessTree(child.pid, tmp_path / "proc")
    sample = look(tree)[child.pid]
    assert sample.rss_bytes > 0
    assert sample.run_delay_total_ns is None
    assert sample.major_faults_total is None
    assert sample.pss_bytes is None
    status = status_of(tree)
    assert status.status == "partial"
    for word in ("schedstat", "PSS", "IO"):
        assert word in status.reason
    child.kill()
    child.wait()
    assert look(tree) == {}
