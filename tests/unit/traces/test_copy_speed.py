"""What the link to a device carried, against a plain second reckoning."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_builder import TraceBuilder

from trainprof.profiler.traces.opening import open_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_signals.copies import measure
from trainprof.rules.trace_signals.traced import Traced

MEBIBYTE = 1 << 20
MEMORIES = ["Pinned", "Pageable", "Managed", "Unknown"]
WAYS = {"h2d": "HtoD ({} -> Device)", "d2h": "DtoH (Device -> {})"}


def signal(path, way):
    trace = open_trace(path)
    return measure(Traced(trace, timeline(trace)))[f"copies.{way}_pinned_bytes_per_s"]


def plain_speed(path, way):
    """The copies of the only device: each is looked up among the calls."""
    events = json.loads(path.read_text())["traceEvents"]
    calls = {one["args"]["correlation"] for one in events if one["cat"] == "cuda_runtime"}
    steps = [one for one in events if one["name"].startswith("ProfilerStep")]
    sizes = lengths = 0
    for one in events:
        if one["cat"] != "gpu_memcpy" or "Pinned" not in one["name"]:
            continue
        inside = any(step["ts"] <= one["ts"] < step["ts"] + step["dur"] for step in steps)
        large = one["args"].get("bytes", 0) >= MEBIBYTE and one["dur"] > 0
        right = WAYS[way][:4] in one["name"] and one["args"]["correlation"] in calls
        if inside and large and right:
            sizes, lengths = sizes + one["args"]["bytes"], lengths + one["dur"]
    return sizes / lengths * 1e6 if lengths else None


@st.composite
def traces(draw):
    builder = TraceBuilder().step(1, 50, 2000).kernel("gemm", 60, 10)
    at = 0
    for number in range(1, draw(st.integers(0, 12)) + 1):
        at += draw(st.integers(10, 300))
        if draw(st.booleans()) or draw(st.booleans()):
            builder.call("cudaMemcpyAsync", at, 3, number)
        size = draw(st.sampled_from([1024, MEBIBYTE - 1, MEBIBYTE, 3 * MEBIBYTE]))
        builder.copy(at + 5, draw(st.integers(0, 100)), size, correlation=number)
        name = draw(st.sampled_from(sorted(WAYS.values()))).format(draw(st.sampled_from(MEMORIES)))
        builder.events[-1]["name"] = f"Memcpy {name}"
        if draw(st.integers(0, 5)) == 0:
            del builder.events[-1]["args"]["bytes"]
        at += 105
    return builder


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(traces())
def test_any_trace_is_reckoned_alike(tmp_path, builder):
    path = builder.write(tmp_path / "trace.json")
    for way in WAYS:
        expected = plain_speed(path, way)
        found = signal(path, way)
        assert found.value == (expected and pytest.approx(expected))
        assert found.value is not None or found.reason


def test_only_large_copies_from_pinned_memory_with_their_call_tell_of_the_link(tmp_path):
    """Two of 2 MiB, in 100 and 300 us; the other three are slower and say nothing of it."""
    builder = TraceBuilder().step(1, 0, 9000)
    for number, (length, size, memory) in enumerate(
        [
            (100, 2 * MEBIBYTE, "Pinned"),
            (300, 2 * MEBIBYTE, "Pinned"),
            (900, 2 * MEBIBYTE, "Pageable"),
            (900, MEBIBYTE - 1, "Pinned"),
            (900, 2 * MEBIBYTE, "Pinned"),
        ],
    ):
        if number < 4:
            builder.call("cudaMemcpyAsync", 1000 * number, 3, number)
        builder.copy(1000 * number + 5, length, size, correlation=number)
        builder.events[-1]["name"] = f"Memcpy HtoD ({memory} -> Device)"
    found = signal(builder.write(tmp_path / "trace.json"), "h2d")
    assert found.value == pytest.approx(4 * MEBIBYTE / 400e-6)
    assert found.samples == 2


def test_pageable_copies_tell_nothing_of_the_link(tmp_path):
    builder = TraceBuilder().step(1, 0, 9000).call("cudaMemcpyAsync", 10, 3, 1)
    builder.copy(20, 100, 2 * MEBIBYTE, correlation=1)
    found = signal(builder.write(tmp_path / "trace.json"), "h2d")
    assert found.value is None
    assert "page-locked" in found.reason
