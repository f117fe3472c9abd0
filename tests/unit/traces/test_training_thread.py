"""What the thread that trains did: the shares, by loops over intervals too; and on the CPU, why."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_timeline import clipped, union
from trace_builder import TraceBuilder

from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.profiler.traces.training_thread import ACTIVITIES, training_thread
from trainprof.rules.trace_diagnosis import diagnose_trace

REAL = Path(__file__).parents[4] / "shared" / "traces"
FILES = sorted(REAL.glob("*/*.json.gz"))
NAMES = (
    ("data wait", r"enumerate\(DataLoader\)|DataLoaderIter\.__next__"),
    ("optimizer", r"Optimizer\.step#"),
    ("zero grad", r"Optimizer\.zero_grad#"),
)
SYNCHRONISES = r"(cuda|hip|cu)(Device|Stream|Event|Ctx)Synchronize|(cuda|hip)Memcpy(?!.*Async)"
ALLOCATES = r"(cuda|hip|cu)(Malloc|Free|MemAlloc|MemFree|HostAlloc|HostRegister|MemMap)"


def plain_activities(path, lane, start, end):
    """Length in ns of each activity: a time goes to the first that holds it."""
    raw = path.read_bytes()
    data = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw, parse_float=Decimal)
    found = {name: [] for name in ACTIVITIES[:-1]}
    for event in data if isinstance(data, list) else data["traceEvents"]:
        if event.get("ph") != "X":
            continue
        name, kind = event["name"], str(event.get("cat")).lower()
        own = (str(event["pid"]), str(event["tid"])) == lane
        operator, call = kind in ("cpu_op", "operator"), kind.endswith(("runtime", "cuda_driver"))
        annotated = operator or kind == "user_annotation"
        times = round(event["ts"] * 1000), round((event["ts"] + event["dur"]) * 1000)
        for activity, pattern in NAMES if own and annotated else ():
            if re.search(pattern, name):
                found[activity].append(times)
        if annotated and "autograd::engine::evaluate_function" in name:
            found["backward"].append(times)
        if own and call and re.match(SYNCHRONISES, name):
            found["synchronisation"].append(times)
        if own and call and re.match(ALLOCATES, name):
            found["allocator"].append(times)
        marks = "ProfilerStep" in name or re.search(NAMES[0][1], name)
        if own and (call or (operator and not marks)):
            found["operators"].append(times)
        if annotated and re.match("(gloo|mpi|ucc|nccl|c10d):", name, re.IGNORECASE):
            found["collective wait"].append(times)
        if not own and operator and not marks:
            found["work of other threads"].append(times)
    lengths, before = {}, []
    for activity in ACTIVITIES[:-1]:
        together = union([*map(tuple, before), *clipped(found[activity], start, end)])
        lengths[activity] = sum(b - a for a, b in together) - sum(b - a for a, b in before)
        before = together
    lengths[ACTIVITIES[-1]] = end - start - sum(b - a for a, b in before)
    return lengths


def check(path):
    trace = read_trace(path)
    window = timeline(trace).window
    thread = training_thread(trace, window)
    if thread is not None:
        plain = plain_activities(path, trace.lanes[thread.lane], window.start_ns, window.end_ns)
        assert thread.activities == plain
        assert sum(thread.activities.values()) == window.length_ns
    return thread


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name[:16]}")
def test_real_traces_by_loops_over_intervals(path):
    if path.stat().st_size > 2_000_000:
        pytest.skip("the plain reckoning takes long on it")
    if "cupti-counters" in path.name:
        pytest.skip("it has events without a length, which the plain reckoning does not read")
    check(path)


def test_there_are_real_traces():
    if not FILES:
        pytest.skip("the real traces are not there")
    assert len(FILES) > 15


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["mm", "wait", "Optimizer.step#SGD.step", "gloo:all_reduce", "backward"]),
        st.integers(0, 900),
        st.integers(0, 300),
        st.sampled_from([100, 101]),
    ),
    min_size=1,
    max_size=30,
)


@given(EVENTS)
def test_random_traces_by_loops_over_intervals(tmp_path_factory, events):
    builder = TraceBuilder().step(1, 0, 500).step(2, 500, 500)
    for name, start, length, thread in events:
        if name == "wait":
            builder.wait(start, length)
        elif name == "backward":
            name = "autograd::engine::evaluate_function: MmBackward0"
            builder.operator(name, start, length, thread)
        else:
            builder.operator(name, start, length, thread)
    assert check(builder.write(tmp_path_factory.mktemp("random") / "trace.json")) is not None


def on_cpu(tmp_path, wait=60, devices=(), work="aten::mm"):
    """Steps of 10 ms on the CPU, of which a part is a wait for a batch."""
    builder = TraceBuilder()
    for number in range(4):
        start = 10_000 * number
        builder.step(number, start, 10_000).wait(start, 100 * wait)
        builder.operator(work, start + 100 * wait, 10_000 - 100 * wait)
    return builder.write(tmp_path / "trace.json", deviceProperties=list(devices))


def test_a_training_on_the_cpu_that_waits_for_batches(tmp_path):
    found = diagnose_trace(on_cpu(tmp_path))
    assert [finding.rule for finding in found.findings] == ["data-device-starved"]
    assert found.headline.startswith("In 60 % of 4 whole steps the training waited for a batch")
    assert found.training_thread.shares["data wait"] == pytest.approx(0.6)
    assert found.findings[0].fixes[0].fix == "loader-workers"


def test_a_batch_that_is_ready_at_once_is_no_work_for_workers(tmp_path):
    builder = TraceBuilder()
    for number in range(4):
        builder.step(number, 700 * number, 700).wait(700 * number, 300)
        builder.operator("aten::mm", 700 * number + 300, 400)
    path = builder.write(tmp_path / "trace.json", deviceProperties=[])
    (finding,) = diagnose_trace(path).findings
    assert (finding.fixes[0].fix, finding.gain.low) == ("dataset-indexed", 1.0)


def test_a_training_on_the_cpu_that_computes_is_healthy(tmp_path):
    found = diagnose_trace(on_cpu(tmp_path, wait=1))
    assert found.headline == "Healthy: the training computes for 99 % of 4 whole steps."


def test_a_device_that_was_not_recorded_is_no_evidence(tmp_path):
    found = diagnose_trace(on_cpu(tmp_path, devices=[{"id": 0, "name": "Made-up 9000"}]))
    assert (found.verdict, found.findings) == ("insufficient", ())


def test_time_that_nothing_explains_is_no_health(tmp_path):
    builder = TraceBuilder()
    for number in range(4):
        builder.step(number, 1_000 * number, 1_000).operator("aten::mm", 1_000 * number, 400)
    found = diagnose_trace(builder.write(tmp_path / "trace.json", deviceProperties=[]))
    assert found.verdict == "insufficient"
    assert "computes for 40 % of 4 whole steps only" in found.headline


@pytest.mark.confirms("dist-collective-wait", on="recorded traces")
def test_a_real_training_on_the_cpu_waits_for_its_collectives():
    paths = sorted(REAL.glob("cpu-only-adagrad/*"))
    if not paths:
        pytest.skip("the real traces are not there")
    found = diagnose_trace(paths[0])
    assert found.findings[0].rule == "dist-collective-wait"
    assert found.headline.startswith("In 83 % of 5 whole steps the training did nothing but wait")


@pytest.mark.confirms("data-device-starved", on="trainings on the CPU")
def test_a_trace_that_is_recorded_here(tmp_path):
    """A loader whose samples sleep, under torch.profiler in a process of its own."""
    script = tmp_path / "train.py"
    path = tmp_path / "trace.json"
    script.write_text(TRAINING.format(path=str(path)), encoding="utf-8")
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script)]
    subprocess.run(command, check=True, capture_output=True, timeout=120, env=one_thread)
    found = diagnose_trace(path)
    assert found.findings[0].rule == "data-device-starved"
    assert found.training_thread.shares["data wait"] > 0.5
    assert found.steps.count == 3


TRAINING = """
import time
import torch
from torch.profiler import ProfilerActivity, profile, schedule

class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 16
    def __getitem__(self, place):
        time.sleep(0.02)
        return torch.randn(16), place % 4

model = torch.nn.Linear(16, 4)
optimizer = torch.optim.SGD(model.parameters(), 0.1)

def epoch(after_step):
    for samples, labels in torch.utils.data.DataLoader(Slow(), batch_size=4):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(samples), labels).backward()
        optimizer.step()
        after_step()

epoch(lambda: None)
with profile(
    activities=[ProfilerActivity.CPU],
    schedule=schedule(wait=0, warmup=1, active=3, repeat=1),
    on_trace_ready=lambda one: one.export_chrome_trace({path!r}),
) as profiler:
    epoch(profiler.step)
"""
