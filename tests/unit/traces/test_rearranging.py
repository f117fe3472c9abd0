"""Copies that only rearrange, and double precision: against loops over files, in findings."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_timeline import clipped, total
from trace_builder import TraceBuilder

from trainprof.profiler.traces.fp64 import double_kernels, double_operators
from trainprof.profiler.traces.kernels import read_kernels
from trainprof.profiler.traces.launches import launched
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.rearranging import rearranging_copies, rearranging_kernels
from trainprof.profiler.traces.timeline import timeline
from trainprof.profiler.traces.training_thread import training_thread
from trainprof.rules.trace_diagnosis import diagnose_trace

REAL = Path(__file__).parents[4] / "shared" / "traces"
ASKING = ("aten::contiguous", "aten::reshape")
DOUBLE = "void vectorized_elementwise_kernel<4, AddFunctor<double>>(x)"
NO_CALL = {None, -1, 0}


def lasting(path):
    raw = path.read_bytes()
    text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    data = json.loads(text, parse_float=Decimal)
    events = data if isinstance(data, list) else data["traceEvents"]
    return [
        (e, round(e["ts"] * 1000), round((e["ts"] + e["dur"]) * 1000))
        for e in events
        if e.get("ph") == "X"
    ]


def plain_kernels(path, device, window):
    """Times of kernels that were launched below contiguous() or reshape(), in ns."""
    events = lasting(path)
    kind = {id(e): str(e.get("cat")).lower() for e, _, _ in events}
    asks = [
        x for x in events if x[0]["name"] in ASKING and kind[id(x[0])] in ("cpu_op", "operator")
    ]
    calls = {}
    for one in events:
        if "runtime" in kind[id(one[0])]:
            calls[one[0].get("args", {}).get("correlation")] = one
    spans = []
    for event, start, end in events:
        if kind[id(event)] != "kernel" or event["args"]["device"] != device:
            continue
        call = calls.get(event["args"].get("correlation"))
        if call is None or event["args"].get("correlation") in NO_CALL:
            continue
        lane = (call[0]["pid"], call[0]["tid"])
        if any((a["pid"], a["tid"]) == lane and b <= call[1] < c for a, b, c in asks):
            spans.append((start, end))
    return total(clipped(spans, *window)), len(clipped(spans, *window))


def kernels_of(path):
    trace = read_trace(path)
    lines = timeline(trace)
    return trace, lines, read_kernels(trace, lines, launched(trace))


def agrees(path):
    trace, lines, kernels = kernels_of(path)
    if kernels is None:
        return None
    found = rearranging_kernels(trace, kernels)
    window = (lines.window.start_ns, lines.window.end_ns)
    assert (found.time_ns, found.count) == plain_kernels(path, lines.devices[0].device, window)
    return found.time_ns / lines.window.length_ns


@pytest.mark.parametrize(
    "name", ["dlrm-8ranks-v100/worker1_*", "launch-bound-h100-inference/*", "edge-cases/amd-mi250*"]
)
def test_real_traces_are_reckoned_alike(name):
    found = sorted(REAL.glob(name))
    if not found:
        pytest.skip("the real traces are not there")
    assert agrees(found[0]) < 0.05
    diagnosis = diagnose_trace(found[0])
    assert not {"kern-noncontig", "prec-fp64"} & {one.rule for one in diagnosis.findings}


NAMES = (*ASKING, "aten::matmul", "aten::clone", "aten::copy_", "aten::mm")
pieces = st.tuples(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3),
    st.integers(1, 40),
    st.sampled_from(["gemm", DOUBLE]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(pieces, min_size=1, max_size=20), st.booleans())
def test_built_traces_agree_with_loops_over_them(tmp_path, work, marked):
    builder, now, free, doubles = TraceBuilder(), 0, 0, []
    for number, (names, length, kernel) in enumerate(work, 1):
        for depth, name in enumerate(names):  # one inside of the other, and one call in the last
            builder.operator(name, now + depth, 20 - 2 * depth)
        builder.call("cudaLaunchKernel", now + 5, 2, correlation=number)
        free = max(free, now + 8)
        builder.kernel(kernel, free, length, correlation=number)
        doubles += [(free * 1000, (free + length) * 1000)] if kernel == DOUBLE else []
        free, now = free + length, now + 25
    if marked:
        builder.step(1, 10, 200)
    path = builder.write(tmp_path / "trace.json")
    agrees(path)
    _, lines, kernels = kernels_of(path)
    if kernels is not None:
        window = (lines.window.start_ns, lines.window.end_ns)
        assert double_kernels(kernels).time_ns == total(clipped(doubles, *window))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.booleans(),
            st.sampled_from([["double"], ["double", "float"], ["float"], ["double", "Scalar"]]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_operators_of_a_cpu_agree_with_loops_over_them(tmp_path, work):
    builder, copies, doubles = TraceBuilder().step(1, 0, 10 + 30 * len(work)), [], []
    for number, (name, inside, types) in enumerate(work):
        at = 10 + 30 * number
        shapes = {"Input type": types, "Input Dims": [[2]] * len(types)}
        builder.operator(name, at, 20, **shapes)
        if inside:
            builder.operator("aten::copy_", at + 2, 7)
        copies += [(at + 2, at + 9)] if inside and name in ASKING else []
        counts = types in (["double"], ["double", "Scalar"]) and name != "aten::copy_"
        doubles += [(at, at + 20)] if counts else []
    trace = read_trace(builder.write(tmp_path / "trace.json", deviceProperties=[]))
    lines = timeline(trace)
    thread = training_thread(trace, lines.window)
    found = rearranging_copies(trace, thread, lines.window)
    assert (found.time_ns, found.count) == (1000 * total(copies), len(copies))
    assert double_operators(trace, thread, lines.window).time_ns == 1000 * total(doubles)


def test_types_that_were_not_recorded_tell_nothing(tmp_path):
    builder = TraceBuilder().step(1, 0, 100).operator("aten::mm", 5, 50)
    trace = read_trace(builder.write(tmp_path / "trace.json", deviceProperties=[]))
    window = timeline(trace).window
    assert double_operators(trace, training_thread(trace, window), window) is None


def test_both_are_findings_with_the_operator_that_asked(tmp_path):
    builder = TraceBuilder()
    for number in range(4):
        at = 1000 * number
        builder.step(number, at, 1000).operator("aten::matmul", at, 40)
        builder.operator("aten::reshape", at + 5, 20).operator("aten::clone", at + 6, 18)
        builder.call("cudaLaunchKernel", at + 8, 4, correlation=2 * number + 1)
        builder.kernel("elementwise_kernel", at + 20, 200, correlation=2 * number + 1)
        builder.operator("aten::add", at + 50, 20)
        builder.call("cudaLaunchKernel", at + 55, 4, correlation=2 * number + 2)
        builder.kernel(DOUBLE, at + 220, 700, correlation=2 * number + 2)
    found = {one.rule: one for one in diagnose_trace(builder.write(tmp_path / "t.json")).findings}
    assert found["kern-noncontig"].summary == (
        "Copies that only rearrange tensors in memory take 20 % of 4 whole steps, most of them in "
        "matmul."
    )
    assert found["prec-fp64"].summary == (
        "70 % of 4 whole steps is computed in double precision, most of it in aten::add."
    )
    assert found["prec-fp64"].severity == "critical"
