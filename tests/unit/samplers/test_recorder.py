"""The thread that writes host.jsonl: how often, how much, and what ends it."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.records import GpuSample, MachineSample, ProcessSample, Sample
from trainprof.profiler.samplers import recorder as recorder_module
from trainprof.profiler.samplers.host import HostSampler
from trainprof.profiler.samplers.recorder import (
    COST_SHARE_MAX,
    HOUR_BYTES_MAX,
    SampleRecorder,
    affordable_interval_s,
    encode_sample,
    next_interval_s,
)

PATIENCE_S = 50.0
HOUR_S = 3600.0


def lines_of(folder):
    return [json.loads(line) for line in (folder / "host.jsonl").read_text().splitlines()]


def wait_until(satisfied):
    deadline = time.monotonic() + PATIENCE_S
    while not satisfied():
        assert time.monotonic() < deadline, "not seen in time"
        time.sleep(0.01)


@pytest.fixture
def recorder(tmp_path):
    """A recorder of this very process; stopped after the test."""
    made = []

    def make(interval_s=0.01):
        made.append(SampleRecorder(tmp_path, os.getpid(), interval_s))
        return made[-1]

    yield make
    for one in made:
        one._stopping.set()
        if one._thread.ident is not None:
            one._thread.join(PATIENCE_S)


@pytest.mark.parametrize(
    ("elapsed_s", "interval_s"),
    [
        (0, 0.5),
        (119.9, 0.5),
        (120, 1.0),
        (239, 1.0),
        (240, 2.0),
        (3599, 2.0),
        (3600, 5.0),
        (1e7, 5.0),
    ],
)
def test_the_interval_grows_with_the_run(elapsed_s, interval_s):
    assert next_interval_s(elapsed_s, 0.5) == interval_s


@given(first_s=st.floats(0.01, 60), one_s=st.floats(0, 1e7), other_s=st.floats(0, 1e7))
def test_the_interval_never_shrinks(first_s, one_s, other_s):
    early, late = sorted((one_s, other_s))
    assert first_s <= next_interval_s(early, first_s) <= next_interval_s(late, first_s)
    assert next_interval_s(late, first_s) <= max(5.0, first_s)


@given(look_bytes=st.integers(1, 10**8), look_cpu_s=st.floats(0, 10))
def test_an_hour_of_looks_of_any_size_keeps_both_limits(look_bytes, look_cpu_s):
    looks = HOUR_S / affordable_interval_s(look_bytes, look_cpu_s)
    assert looks * look_bytes <= HOUR_BYTES_MAX * 1.000001
    assert looks * look_cpu_s <= HOUR_S * COST_SHARE_MAX * 1.000001


BUSY = Sample(
    at_ns=10**15,
    machine=MachineSample(
        **{
            name: (0.123,) * 16 if name == "cpu_busy_per_core" else 10**13
            for name in MachineSample.__slots__
        }
    ),
    processes=(
        ProcessSample(
            **{
                name: "pt_data_worker" if name in ("name", "status") else 10**10
                for name in ProcessSample.__slots__
            }
        ),
    )
    * 10,
    gpus=(
        GpuSample(
            **{
                name: {"uuid": "GPU-" + "0" * 36, "name": "NVIDIA H100 80GB HBM3"}.get(name, 10**9)
                for name in GpuSample.__slots__
                if not name.startswith(("process_", "rows_remap_", "mig_"))
            }
        ),
    ),
)


def test_a_name_that_is_no_utf_8_ends_no_recording():
    """A process may call itself anything."""
    odd = dataclasses.replace(BUSY.processes[0], name="tr\udce4in")
    line = json.loads(encode_sample(dataclasses.replace(BUSY, processes=(odd,))))
    assert line["processes"][0]["name"] == "tr\\udce4in"


def bytes_per_hour(sample, hour):
    """Size of the samples of the hour'th hour, by the schedule alone."""
    size = len(encode_sample(sample))
    at_s, total = 0.0, 0
    while at_s < hour * HOUR_S:
        total += size * (at_s >= (hour - 1) * HOUR_S)
        at_s += max(next_interval_s(at_s, 0.5), affordable_interval_s(size, 0.0))
    return total


def test_size_per_hour_of_ten_processes_and_a_gpu():
    """The figures that docs/collectors.md states."""
    assert bytes_per_hour(BUSY, 1) < 13_000_000
    assert bytes_per_hour(BUSY, 2) < 5_000_000


def test_size_per_hour_of_a_thousand_processes_is_bounded():
    crowd = Sample(BUSY.at_ns, BUSY.machine, BUSY.processes * 100, BUSY.gpus * 8)
    assert bytes_per_hour(crowd, 1) <= HOUR_BYTES_MAX + len(encode_sample(crowd))


def test_what_was_not_measured_is_not_written():
    bare = Sample(5, MachineSample(cpu_busy_share=0.0), (), (GpuSample(0, nvlink_active=0),))
    assert json.loads(encode_sample(bare)) == {
        "at_ns": 5,
        "machine": {"cpu_busy_share": 0.0},
        "processes": [],
        "gpus": [{"index": 0, "nvlink_active": 0}],
    }


def test_it_writes_a_header_and_looks_until_it_is_stopped(recorder, tmp_path, no_driver):
    recording = recorder()
    recording.start()
    wait_until(lambda: (tmp_path / "host.jsonl").exists() and len(lines_of(tmp_path)) > 3)
    before_ns = time.perf_counter_ns()
    recording.stop()
    recording._thread.join(PATIENCE_S)
    header, *samples = lines_of(tmp_path)
    assert header == {"format": 1, "interval_s": 0.01}
    times_ns = [sample["at_ns"] for sample in samples]
    assert times_ns == sorted(times_ns)
    assert times_ns[-1] > before_ns  # a last look, after the call
    assert {os.getpid()} <= {process["pid"] for process in samples[-1]["processes"]}
    found = {status.name: status.status for status in recording.statuses()}
    assert list(found) == ["processes", "machine", "pressure", "cgroup", "gpu"]
    assert found["processes"] == "ok" if sys.platform == "linux" else "partial"
    assert found["gpu"] == "missing"


def test_looks_that_cost_much_are_taken_seldom(recorder, monkeypatch, no_driver):
    waits_s = []
    recording = recorder(0.5)
    clock_s = iter([1.0, 1.1, 2.0, 2.2, 3.0, 3.2, 4.0])
    here = threading.current_thread()
    # A look at this very process is as large as what earlier tests have left running below it.
    monkeypatch.setattr(recorder_module, "HOUR_BYTES_MAX", 10**12)
    monkeypatch.setattr(
        recorder_module.time,
        "thread_time",
        lambda: next(clock_s) if here is threading.current_thread() else 0.0,
    )
    monkeypatch.setattr(
        recording._stopping, "wait", lambda s: waits_s.append(s) or len(waits_s) > 2
    )
    recording._run()
    # 100 ms, then 200 ms twice, at most 1 % of a core; the first look has none to compare with.
    assert waits_s == pytest.approx([0.5, 10.0, 20.0])


def test_stop_waits_for_no_slow_look(recorder, monkeypatch, no_driver):
    slow = threading.Event()
    release = threading.Event()

    def sample(host):
        slow.set()
        release.wait(PATIENCE_S)
        return MachineSample(), ()

    monkeypatch.setattr(HostSampler, "sample", sample)
    recording = recorder(0.001)
    recording.start()
    assert slow.wait(PATIENCE_S)
    before_s = time.perf_counter()
    recording.stop()
    assert time.perf_counter() - before_s < PATIENCE_S / 2  # the look lasts longer
    assert recording._thread.is_alive()
    release.set()


def test_start_imports_nothing_itself():
    """In a fresh interpreter: what takes long is imported by the thread."""
    program = (
        "import sys\n"
        "from trainprof.profiler.samplers.recorder import SampleRecorder\n"
        "from pathlib import Path\n"
        "SampleRecorder(Path('.'), 1)\n"
        "print({'psutil', 'pynvml', 'msgspec', 'numpy'} & set(sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr


def test_a_full_disk_ends_the_writing_and_is_told(recorder, tmp_path, no_driver):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    (tmp_path / "host.jsonl").symlink_to("/dev/full")
    recording = recorder()
    recording.start()
    recording._thread.join(PATIENCE_S)
    assert not recording._thread.is_alive()
    recording.stop()
    first = recording.statuses()[0]
    assert (first.name, first.status) == ("samples", "failed")
    assert "No space left on device" in first.reason


def test_a_folder_that_is_gone_is_told(recorder, tmp_path, no_driver):
    recording = SampleRecorder(tmp_path / "gone", os.getpid())
    recording.start()
    recording._thread.join(PATIENCE_S)
    assert recording.statuses()[0].status == "failed"


@pytest.mark.parametrize("error", [OSError("odd"), RuntimeError("odd"), ImportError("odd")])
def test_what_no_collector_foresaw_is_a_status_not_a_traceback(
    recorder, monkeypatch, capfd, no_driver, error
):
    def fail(host):
        raise error

    monkeypatch.setattr(HostSampler, "sample", fail)
    recording = recorder()
    recording.start()
    recording._thread.join(PATIENCE_S)
    assert recording.statuses()[0].status == "failed"
    assert "odd" in recording.statuses()[0].reason
    assert capfd.readouterr().err == ""


def test_a_run_that_ends_before_the_first_look(recorder):
    (status,) = recorder().statuses()
    assert (status.name, status.status) == ("samples", "missing")
