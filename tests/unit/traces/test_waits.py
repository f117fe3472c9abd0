"""Waits for a device, copies, and what both cost, against a plain second reckoning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_waits import plain_waits
from trace_builder import TraceBuilder

from trainprof.profiler.traces.copies import FROM_DEVICE, TO_DEVICE, copies
from trainprof.profiler.traces.nesting import innermost, outermost
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace
from trainprof.rules.trace_signals.traced import Traced

REAL = Path(__file__).parents[4] / "shared" / "traces"


def traced(path):
    trace = read_trace(path)
    return Traced(trace, timeline(trace))


def real(name):
    found = sorted(REAL.glob(f"{name}*"))
    if not found:
        pytest.skip("the real traces are not there")
    return found[0]


def compared(path):
    one = traced(path)
    found, window = one.synchronisations, one.timeline.window
    theirs = plain_waits(path, one.timeline.devices[0].device, window.start_ns, window.end_ns)
    if found is None:
        return [], [] if not any(row[3] for row in theirs) else theirs
    columns = (found.start_ns, found.end_ns, found.blocked_ns, found.cost_ns, found.behind_ns)
    ours = list(zip(*(one.tolist() for one in columns), found.copies_to_device, strict=True))
    return ours, theirs


@pytest.mark.parametrize(
    "name",
    [
        *(f"dlrm-8ranks-v100/worker{rank}" for rank in (0, 1, 7)),
        "launch-bound-h100-inference/gaunernst",
        "edge-cases/amd-mi250-toy",
        "edge-cases/gpu-user-annotation",
    ],
)
def test_real_traces_are_reckoned_alike(name):
    ours, theirs = compared(real(name))
    assert ours == theirs


@st.composite
def traces(draw):
    """Launches, copies and waits of one thread after the other, some of them within operators."""
    builder = TraceBuilder()
    if draw(st.booleans()):
        builder.step(1, 20, draw(st.integers(100, 500)))
    at, free = 0, 0
    for number, kind in enumerate(
        draw(st.lists(st.sampled_from("kkkcsiwd"), min_size=1, max_size=14))
    ):
        at += draw(st.integers(0, 30))
        length = draw(st.integers(1, 40))
        begin, free = max(at + 3, free), max(at + 3, free) + length
        if kind == "k":
            builder.call("cudaLaunchKernel", at, 2, number).kernel(
                "gemm", begin, length, 7, 0, number
            )
            at += 2
        elif kind in "ci":  # to the device, or a value of it
            name = "aten::to" if kind == "c" else "aten::item"
            builder.operator(name, at, free + 6 - at)
            builder.call("cudaMemcpyAsync", at + 1, free - at, number)
            builder.copy(begin, length, draw(st.sampled_from([8, 10**6])), correlation=number)
            builder.events[-1]["name"] = f"Memcpy {'HtoD' if kind == 'c' else 'DtoH'} (Pageable)"
            builder.call("cudaStreamSynchronize", free + 2, 3)
            at = free + 6
        elif kind == "s":
            builder.call("cudaDeviceSynchronize", at, max(free - at, 1))
            at = max(free, at + 1)
        elif kind == "w":
            builder.wait(at, length)
            at += length
        else:
            builder.kernel("elsewhere", at, length, 20)
    return builder


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(traces())
def test_any_trace_is_reckoned_alike(tmp_path, builder):
    builder.kernel("gemm", 5, 5)
    ours, theirs = compared(builder.write(tmp_path / "trace.json"))
    assert ours == theirs


def reading(tmp_path, kernel_us, gap_us, steps=4):
    """Steps in which the loss is read after 10 kernels, and the next launch comes later."""
    builder = TraceBuilder()
    length = 10 * kernel_us + gap_us + 30
    for number in range(steps):
        start = 1000 + number * length
        builder.step(number, start, length)
        builder._add("python_function", "train.py(12): train_one", start, length, 100)
        builder._add("python_function", "torch/_tensor.py(9): item", start + 35, length - 40, 100)
        for place in range(10):
            own = 100 * number + place
            builder.call("cudaLaunchKernel", start + 3 * place, 2, own)
            builder.kernel("gemm", start + 5 + kernel_us * place, kernel_us, correlation=own)
        end = start + 5 + 10 * kernel_us
        builder.operator("aten::item", start + 36, end - start - 30)
        builder.operator("aten::_local_scalar_dense", start + 37, end - start - 32)
        builder.call("cudaMemcpyAsync", start + 38, 3, 100 * number + 50)
        builder.copy(end, 1, 4, correlation=100 * number + 50)
        builder.events[-1]["name"] = "Memcpy DtoH (Device -> Pinned)"
        builder.call("cudaStreamSynchronize", start + 42, end - start - 39)
    return builder.write(tmp_path / "trace.json")


def test_a_wait_costs_the_idle_time_after_it_and_not_its_length(tmp_path):
    """Each blocks the host for 166 us; the device is idle for 30 us after three of the four."""
    found = traced(reading(tmp_path, 20, 4)).synchronisations
    assert found.blocked_ns.tolist() == [166_000] * 4
    assert found.cost_ns.tolist() == [33_000] * 3 + [0]
    path = reading(tmp_path, 20, 4)
    finding = next(one for one in diagnose_trace(path).findings if one.rule == "loop-sync-item")
    assert finding.share == pytest.approx(3 * 33 / (4 * 234))
    assert "mostly with aten::item in train_one" in finding.summary
    assert (finding.where.file, finding.where.line) == ("train.py", 12)


def test_waits_behind_which_the_device_works_on_are_no_finding(tmp_path):
    """Half of the host's time is spent in .item(), and 1.4 % of the device's after it."""
    path = reading(tmp_path, 200, 4)
    signals = traced(path)
    assert signals.synchronisations.blocked_ns.sum() > 0.9 * signals.timeline.window.length_ns * 0.9
    assert "loop-sync-item" not in [one.rule for one in diagnose_trace(path).findings]


def test_a_host_that_comes_late_anyway_gains_nothing_without_the_wait(tmp_path):
    """The queue is empty when the wait begins: it returns at once, and 80 us of Python follow."""
    builder = TraceBuilder().step(1, 0, 300)
    builder.call("cudaLaunchKernel", 0, 5, 1).kernel("gemm", 6, 10, correlation=1)
    builder.call("cudaStreamSynchronize", 100, 2)
    builder.call("cudaLaunchKernel", 180, 5, 2).kernel("gemm", 186, 10, correlation=2)
    found = traced(builder.write(tmp_path / "trace.json")).synchronisations
    assert found.cost_ns.tolist() == [2_000]


def test_idle_time_in_which_a_batch_was_awaited_is_not_the_wait_s(tmp_path):
    builder = TraceBuilder().step(1, 0, 300)
    builder.call("cudaLaunchKernel", 0, 5, 1).kernel("gemm", 6, 100, correlation=1)
    builder.call("cudaStreamSynchronize", 10, 97).wait(110, 60)
    builder.call("cudaLaunchKernel", 180, 5, 2).kernel("gemm", 186, 10, correlation=2)
    found = traced(builder.write(tmp_path / "trace.json")).synchronisations
    assert found.cost_ns.tolist() == [20_000]


def test_a_call_that_waits_is_no_slow_copy(tmp_path):
    """800 bytes take 2 us on the device, and 126 ms in the call."""
    builder = TraceBuilder().step(1, 0, 130_000)
    builder.call("cudaLaunchKernel", 0, 5, 1).kernel("gemm", 10, 126_000, correlation=1)
    builder.call("hipMemcpyWithStream", 20, 126_000, 2).copy(126_010, 2, 800, correlation=2)
    builder.events[-1]["name"] = "Memcpy DtoH (Device -> Pageable)"
    one = traced(builder.write(tmp_path / "trace.json"))
    found = copies(one.trace, one.launched, 0, one.timeline.window, FROM_DEVICE)
    assert found.bytes_per_s == pytest.approx(400e6)
    assert found.waited_ns.tolist() == [125_998_000]
    assert found.pageable.tolist() == [True]


@pytest.mark.parametrize(
    ("name", "exposed", "rate"),
    [
        ("input-bound-v100-workers0/worker0.1623143089861", 0.0110, 10.06e9),
        ("input-fixed-v100-workers4/worker0.1623212756351", 0.0226, 6.098e9),
        ("dlrm-8ranks-v100/worker0", 0.00097, 2.222e9),
    ],
)
def test_copies_of_real_traces(name, exposed, rate):
    one = traced(real(name))
    window, device = one.timeline.window, one.timeline.devices[0]
    found = copies(one.trace, one.launched, device.device, window, TO_DEVICE)
    assert found.exposed_ns / window.length_ns == pytest.approx(exposed, rel=0.01)
    assert found.bytes_per_s == pytest.approx(rate, rel=0.01)
    assert found.says_memory.all()


@pytest.mark.confirms("data-pageable-copies", on="recorded traces")
def test_pageable_copies_are_a_finding_where_the_device_pays():
    """The same training before and after workers: only then is a large part of a step copies."""
    after = diagnose_trace(real("input-fixed-v100-workers4/worker0.1623212756351"))
    finding = next(one for one in after.findings if one.rule == "data-pageable-copies")
    assert finding.share == pytest.approx(0.0679, abs=2e-4)
    before = diagnose_trace(real("input-bound-v100-workers0/worker0.1623143089861"))
    assert "data-pageable-copies" not in [one.rule for one in before.findings]


def test_what_is_called_around_a_moment(tmp_path):
    builder = TraceBuilder().operator("aten::a", 0, 100).operator("aten::b", 10, 30)
    builder.operator("aten::c", 20, 5).operator("aten::d", 100, 10).operator("aten::e", 25, 0)
    events = read_trace(builder.write(tmp_path / "trace.json"))
    times = np.array([0, 12_000, 22_000, 25_000, 50_000, 100_000, 200_000])
    for find, expected in ((outermost, "aaaaad-"), (innermost, "abcbad-")):
        places = find(events.events, times).tolist()
        names = [events.names[events.events.name[one]][-1] if one >= 0 else "-" for one in places]
        assert "".join(names) == expected
