"""What every collector promises: a status with a reason, and samples that the reader reads back."""

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.records import (
    GpuSample,
    MachineSample,
    ProcessSample,
    RunInfo,
    Sample,
)
from trainprof.profiler.samplers.gpu import GpuSampler
from trainprof.profiler.samplers.host import HostSampler
from trainprof.profiler.samplers.recorder import SampleRecorder, encode_sample
from trainprof.profiler.store.folder import write_run_info
from trainprof.profiler.store.reader import read_run

STATUSES = {"ok", "partial", "missing", "failed"}
SAMPLERS = {
    "host": lambda folder: HostSampler(os.getpid()),
    "host without /proc": lambda folder: HostSampler(os.getpid(), folder),
    "host of a process that has ended": lambda folder: HostSampler(2**22 + 1),
    "gpu": lambda folder: GpuSampler(),
}

counts = st.none() | st.integers(0, 2**63 - 1)
shares = st.none() | st.floats(0, 1)
figures = st.none() | st.floats(0, 1e12)
words = st.none() | st.text(max_size=20)
OF_TYPE = {
    "int": st.integers(0, 2**63 - 1),
    "float": st.floats(0, 1e12),
    "str": st.text(max_size=20),
    "bool | None": st.none() | st.booleans(),
    "int | None": counts,
    "float | None": figures,
    "str | None": words,
    "tuple[int, ...]": st.lists(st.integers(0, 2**31), max_size=3).map(tuple),
    "tuple[str, ...]": st.lists(st.text(max_size=20), max_size=3).map(tuple),
    "tuple[float, ...]": st.lists(st.floats(0, 1), max_size=3).map(tuple),
}


def any_of(record):
    """Records with any value of its type in each field."""
    kinds = {name: OF_TYPE[kind] for name, kind in record.__annotations__.items()}
    return st.builds(record, **kinds)


samples = st.builds(
    Sample,
    at_ns=st.integers(0, 2**62),
    machine=any_of(MachineSample),
    processes=st.lists(any_of(ProcessSample), max_size=3).map(tuple),
    gpus=st.lists(any_of(GpuSample), max_size=2).map(tuple),
)


def start_run(folder):
    now_ns = time.perf_counter_ns()
    write_run_info(folder, RunInfo(1, "run", ("train.py",), "/", time.time(), now_ns, "0.1"))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_status_that_is_not_ok_has_a_reason(name, tmp_path):
    sampler = SAMPLERS[name](tmp_path)
    sampler.sample()
    sampler.sample()
    statuses = sampler.statuses()
    assert len({status.name for status in statuses}) == len(statuses) > 0
    for status in statuses:
        assert status.status in STATUSES
        assert status.status == "ok" or len(status.reason) > 10
        assert "\n" not in (status.reason or "")


@given(sample=samples)
def test_what_is_written_is_read_back(tmp_path_factory, sample):
    folder = tmp_path_factory.mktemp("run")
    start_run(folder)
    (folder / "host.jsonl").write_text(f'{{"format":1}}\n{encode_sample(sample)}')
    assert read_run(folder).samples == (sample,)


def test_the_recorders_file_is_read_back(tmp_path):
    start_run(tmp_path)
    recorder = SampleRecorder(tmp_path, os.getpid(), 0.01)
    before_ns = time.perf_counter_ns()
    recorder.start()
    deadline = time.monotonic() + 60
    while len(read_run(tmp_path).samples) < 3:  # also while it is written
        assert time.monotonic() < deadline
        time.sleep(0.01)
    recorder.stop()
    recorder._thread.join(60)
    run = read_run(tmp_path)
    assert run.problems == ()
    times_ns = [sample.at_ns for sample in run.samples]
    assert before_ns <= times_ns[0] < times_ns[-1] <= time.perf_counter_ns()
    if sys.platform == "linux":
        assert os.getpid() in {process.pid for process in run.samples[-1].processes}
        assert run.samples[-1].machine.memory_available_bytes > 0


@pytest.fixture
def ten_processes():
    """A command with nine children, each of which moves now and then."""
    program = (
        "import os, time\n"
        "for _ in range(9):\n"
        "    if os.fork() == 0: break\n"
        "else: print(flush=True)\n"
        "while True: time.sleep(0.02)\n"
    )
    command = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True
    )
    command.stdout.readline()
    yield command.pid
    os.killpg(command.pid, 9)
    command.stdout.close()
    command.wait()


def test_two_looks_a_second_at_ten_processes_cost_under_one_percent_of_a_core(ten_processes):
    """CPU time of this thread, the least of some looks: what else runs here does not count."""
    sampler = HostSampler(ten_processes)
    costs_s = []
    for look in range(30):
        before_s = time.thread_time()
        _, processes = sampler.sample()
        costs_s.append(time.thread_time() - before_s)
        assert len(processes) == 10, look
    assert 2 * min(costs_s) < 0.01
