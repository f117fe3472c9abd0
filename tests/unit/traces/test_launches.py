"""Launches and queues, against a plain second reckoning."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_launches import plain_launches
from trace_builder import TraceBuilder

from trainprof.profiler.traces.launches import launch_queue, launched
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline

REAL = Path(__file__).parents[4] / "shared" / "traces"


def queue_of(path):
    trace = read_trace(path)
    found = timeline(trace)
    return launch_queue(launched(trace), found.devices[0], found.window), found


def compared(path):
    queue, found = queue_of(path)
    device, window = found.devices[0].device, found.window
    ours = {
        "delays": sorted(queue.delays_ns.tolist()),
        "lengths": sorted(queue.lengths.tolist()),
        "empty": queue.empty_ns,
        "idle_queued": queue.idle_queued_ns,
        "idle": queue.idle_empty_ns + queue.idle_queued_ns,
        "late": int(queue.late_gaps.sum()),
    }
    return ours, plain_launches(path, device, window.start_ns, window.end_ns)


@pytest.mark.parametrize(
    "name",
    [
        "dlrm-8ranks-v100/worker0",
        "dlrm-8ranks-v100/worker3",  # launches are missing
        "launch-bound-h100-inference/gaunernst",
        "edge-cases/gpu-only-mi210",
        "edge-cases/gpu-user-annotation",
        "edge-cases/torch-compile-triton",
    ],
)
def test_real_traces_are_reckoned_alike(name):
    found = sorted(REAL.glob(f"{name}*"))
    if not found:
        pytest.skip("the real traces are not there")
    ours, theirs = compared(found[0])
    assert ours == theirs


@st.composite
def traces(draw):
    """Calls and their work on two streams; some of either is missing, some work needs no call."""
    builder = TraceBuilder(capitals=draw(st.booleans()))
    if draw(st.booleans()):
        builder.step(1, 30, draw(st.integers(1, 300)))
    builder.kernel("gemm", draw(st.integers(0, 100)), 5)
    for number in range(draw(st.integers(0, 12))):
        at, delay = draw(st.integers(0, 300)), draw(st.integers(-5, 40))
        if draw(st.integers(0, 9)):
            builder.call("cudaLaunchKernel", at, draw(st.integers(1, 9)), correlation=number)
        for _ in range(draw(st.integers(0, 2))):
            length, stream = draw(st.integers(0, 30)), draw(st.sampled_from([7, 20]))
            builder.kernel("gemm", max(at + delay, 0), length, stream, correlation=number)
    return builder


def test_calls_of_one_moment_count_each(tmp_path):
    builder = TraceBuilder().kernel("gemm", 0, 5)
    for number in (1, 2):
        builder.call("cudaLaunchKernel", 10, 5, correlation=number)
        builder.kernel("gemm", 20, 5, 7 + number, correlation=number)
    ours, theirs = compared(builder.write(tmp_path / "trace.json"))
    assert ours == theirs
    assert ours["lengths"] == [0, 0]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(traces())
def test_any_trace_is_reckoned_alike(tmp_path, builder):
    ours, theirs = compared(builder.write(tmp_path / "trace.json"))
    assert ours == theirs


def test_a_host_that_is_ahead_and_one_that_is_late(tmp_path):
    """Three launches ahead of their work, then one that the device waits for."""
    builder = TraceBuilder().step(1, 0, 200)
    for number in range(3):
        builder.call("cudaLaunchKernel", 10 * number, 5, correlation=number)
        builder.kernel("gemm", 10 + 32 * number, 30, correlation=number)
    builder.call("cudaLaunchKernel", 140, 5, correlation=3).kernel("gemm", 147, 53, correlation=3)
    queue, _ = queue_of(builder.write(tmp_path / "trace.json"))
    assert queue.lengths.tolist() == [0, 1, 2, 0]
    assert queue.delays_ns.tolist() == [10_000, 32_000, 54_000, 7_000]
    lengths = queue.gaps.end - queue.gaps.start
    assert lengths.tolist() == [10_000, 2_000, 2_000, 43_000]
    assert queue.late_gaps.tolist() == [True, False, False, True]
    assert queue.idle_empty_ns == 5_000 + 41_000
    assert queue.idle_queued_ns == 5_000 + 2_000 + 2_000 + 2_000
    assert queue.classes() == [(2, 4_000), (2, 53_000), (0, 0), (0, 0)]


def test_a_graph_is_one_call_with_much_work(tmp_path):
    builder = TraceBuilder().step(1, 0, 100).call("cudaGraphLaunch", 0, 5, correlation=1)
    for number in range(4):
        builder.kernel("gemm", 10 + 10 * number, 10, correlation=1)
    builder.call("cudaGraphLaunch", 20, 5, correlation=2).kernel("gemm", 50, 10, correlation=2)
    queue, _ = queue_of(builder.write(tmp_path / "trace.json"))
    assert queue.lengths.tolist() == [0, 3]
    assert queue.matched == queue.work == 5


def test_real_queues_tell_who_waits_for_whom():
    """A device-bound training has a full queue, a launch-bound one an empty one."""
    paths = [*REAL.glob("gpu-bound-v100/*"), *REAL.glob("launch-bound-h100-inference/*")]
    if len(paths) != 2:
        pytest.skip("the real traces are not there")
    (bound, _), (launching, found) = map(queue_of, paths)
    assert 1000 < bound.lengths.max() <= 1024  # the driver lets so many launches wait
    assert (launching.lengths == 0).all()
    assert launching.idle_empty_ns / found.window.length_ns > 0.9
