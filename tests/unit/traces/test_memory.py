"""Memory of a device in traces, against loops over the file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_timeline import clipped, total
from trace_builder import TraceBuilder

from trainprof.profiler.traces.memory import segment_calls, traced_memory
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace
from trainprof.rules.trace_signals.trace_memory import measure
from trainprof.rules.trace_signals.traced import Traced

REAL = Path(__file__).parents[4] / "shared" / "traces"


def plain_memory(path):
    """Peak, what was reserved then, the most, allocations, levels at the ends of steps."""
    raw = path.read_bytes()
    events = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)["traceEvents"]
    steps = [e for e in events if e.get("ph") == "X" and e["name"].startswith("ProfilerStep")
             and e["cat"] == "user_annotation"]  # fmt: skip
    start = min(e["ts"] for e in steps)
    end = max(e["ts"] + e["dur"] for e in steps)
    rows = [(e["ts"], e["args"]) for e in events if e["name"] == "[memory]"]
    rows = [(at, a) for at, a in rows if a["Device Id"] >= 0 and start <= at < end]
    rows.sort(key=lambda row: row[0])
    of_device = {}
    for at, args in rows:
        of_device.setdefault(args["Device Id"], []).append((at, args))
    most = {one: max(a["Total Reserved"] for _, a in of_device[one]) for one in sorted(of_device)}
    own = of_device[max(most, key=most.get)]
    peak = max(own, key=lambda row: row[1]["Total Allocated"])[1]
    levels = []
    for one in steps:
        before = [a["Total Allocated"] for at, a in own if at < one["ts"] + one["dur"]]
        levels += before[-1:]
    calls = [e for e in events if e.get("ph") == "X" and e["name"] in ("cudaMalloc", "cudaFree")]
    spans = [(e["ts"] * 1000, (e["ts"] + e["dur"]) * 1000) for e in calls]
    return {
        "peak": peak["Total Allocated"],
        "reserved": peak["Total Reserved"],
        "most": max(a["Total Reserved"] for _, a in own),
        "allocations": sum(a["Bytes"] > 0 for _, a in own),
        "levels": levels,
        "calls": sum(start <= e["ts"] < end for e in calls),
        "calls_ns": total(clipped(spans, start * 1000, end * 1000)),
    }


def agrees(path):
    trace = read_trace(path)
    lines = timeline(trace)
    found, calls = traced_memory(trace, lines), segment_calls(trace, lines)
    assert plain_memory(path) == {
        "peak": found.peak,
        "reserved": found.reserved,
        "most": found.most_reserved,
        "allocations": found.allocations,
        "levels": found.levels.tolist(),
        "calls": calls.count,
        "calls_ns": calls.time_ns,
    }


class Memory(TraceBuilder):
    def memory(self, at, change, allocated, reserved, device=0):
        given = {"Bytes": change, "Total Allocated": allocated, "Total Reserved": reserved}
        args = {**given, "Device Id": device, "Device Type": 1}
        row = {"ph": "i", "s": "t", "name": "[memory]", "pid": 1, "tid": 1, "ts": at, "args": args}
        self.events.append(row)
        return self


def test_a_real_training():
    found = sorted(REAL.glob("launch-bound-h100-inference/*"))
    if not found:
        pytest.skip("the real traces are not there")
    agrees(found[0])


rows = st.lists(
    st.tuples(st.integers(0, 900), st.integers(-50, 50), st.integers(0, 99), st.integers(0, 200),
              st.integers(0, 1)),
    min_size=1, max_size=30, unique_by=lambda row: row[0],
)  # fmt: skip


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows, st.lists(st.tuples(st.integers(0, 900), st.integers(1, 50)), max_size=8))
def test_built_traces_agree_with_loops_over_them(tmp_path, changes, calls):
    builder = Memory().step(1, 0, 300).step(2, 300, 300).step(3, 600, 400)
    builder.kernel("gemm", 1, 5)
    for at, change, allocated, reserved, device in changes:
        builder.memory(at, change, allocated, allocated + reserved, device)
    for number, (start, length) in enumerate(calls):
        builder.call("cudaMalloc" if number % 2 else "cudaFree", start, length)
    agrees(builder.write(tmp_path / "trace.json"))


def stepping(tmp_path, growth=0, stall=0, reserved=2000, total=10_000):
    """Six steps of 100 us; each ends with so much more, or asks the device for memory."""
    builder = Memory()
    for number in range(6):
        start = 100 * number
        builder.step(number, start, 100).kernel("gemm", start, 100 - stall)
        builder.memory(start + 50, 1, 1000 * 2**20 + growth * number, reserved * 2**20)
        if stall:
            builder.call("cudaMalloc", start + 100 - stall, stall)
    devices = [{"id": 0, "name": "Made-up", "totalGlobalMem": total * 2**20}]
    return builder.write(tmp_path / "trace.json", deviceProperties=devices)


def rules_of(path):
    return {finding.rule: finding for finding in diagnose_trace(path).findings}


def test_waiting_for_the_allocator_and_memory_in_pieces(tmp_path):
    assert not rules_of(stepping(tmp_path))
    stalled = rules_of(stepping(tmp_path, stall=15))["mem-frag"]
    assert stalled.severity == "warn"
    assert "In 15 % of 6 whole steps the device waited while the host asked" in stalled.summary
    assert stalled.gain.high == pytest.approx(1 / 0.85)
    assert rules_of(stepping(tmp_path, reserved=4000))["mem-frag"].severity == "info"
    assert not rules_of(stepping(tmp_path, reserved=4000, total=40_000))


def test_growth_from_step_to_step(tmp_path):
    found = rules_of(stepping(tmp_path, growth=2**20))["mem-leak-device"]
    assert "Each step leaves 1 MiB more allocated on the device" in found.summary
    assert "the device is full after 8,995 more" in found.summary


def test_what_a_trace_does_not_tell_is_missing(tmp_path):
    builder = TraceBuilder().step(1, 0, 100).kernel("gemm", 10, 50)
    trace = read_trace(builder.write(tmp_path / "trace.json"))
    signals = measure(Traced(trace, timeline(trace)))
    assert signals["memory.accelerator_peak_bytes"].value is None
    assert "profile_memory=True" in signals["memory.accelerator_peak_bytes"].reason
