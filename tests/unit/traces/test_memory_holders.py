"""What holds a device's memory at the peak in traces, against a loop over the file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_builder import TraceBuilder

from trainprof.profiler.traces.memory import traced_memory
from trainprof.profiler.traces.memory_holders import HOLDERS
from trainprof.profiler.traces.opening import open_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace
from trainprof.rules.trace_signals.trace_memory import measure
from trainprof.rules.trace_signals.traced import Traced

REAL = Path(__file__).parents[4] / "shared" / "traces"
STEP, NODE = "Optimizer.step#SGD.step", "autograd::engine::evaluate_function: MmBackward0"


def real(name):
    paths = sorted(REAL.glob(f"{name}/*.json*"))
    if not paths:
        pytest.skip("the real traces are not there")
    return paths[0]


def memory_of(path):
    trace = open_trace(path)
    return traced_memory(trace, timeline(trace))


def plain_holders(path, device):
    """Each allocation in use at the peak, and the calls around it, one after the other."""
    raw = path.read_bytes()
    events = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)["traceEvents"]
    steps = [e for e in events if e.get("cat") == "user_annotation" and "ProfilerStep" in e["name"]]
    first, end = min(e["ts"] for e in steps), max(e["ts"] + e["dur"] for e in steps)
    rows = [e for e in events if e["name"] == "[memory]" and e["args"]["Device Id"] == device]
    rows.sort(key=lambda e: e["ts"])
    inside = [place for place, e in enumerate(rows) if first <= e["ts"] < end]
    peak = max(inside, key=lambda place: (rows[place]["args"]["Total Allocated"], -place))
    held = {}
    for e in rows[: peak + 1]:
        held.pop(e["args"]["Addr"], None)
        if e["args"]["Bytes"] > 0:
            held[e["args"]["Addr"]] = e
    sums = dict.fromkeys(HOLDERS, 0)
    for e in held.values():
        calls = [c for c in events if c.get("cat") in ("cpu_op", "user_annotation")
                 and (c["pid"], c["tid"]) == (e["pid"], e["tid"])
                 and c["ts"] <= e["ts"] < c["ts"] + c["dur"]]  # fmt: skip
        calls.sort(key=lambda c: (c["ts"], -c["dur"]))
        marks = [c for c in calls if c["name"].startswith(("Optimizer.step#", NODE[:35]))]
        operators = [c["name"] for c in calls if c["cat"] == "cpu_op"]
        moved = operators and (
            operators[0] in ("aten::to", "aten::_to_copy", "aten::copy_", "aten::pin_memory")
            or operators[0].startswith("Optimizer.")
        )
        if marks:
            kind = "optimizer" if marks[-1]["name"].startswith("Optimizer") else "gradients"
        else:
            computes = operators and not moved and e["ts"] >= first
            kind = "activations" if computes else "other"
        sums[kind] += e["args"]["Bytes"]
    before = rows[peak]["args"]["Total Allocated"] - sum(sums.values())
    return None if before < 0 else {**sums, "before the recording": before}


class Memory(TraceBuilder):
    """Of an allocator that counts by itself, from some bytes on."""

    def __init__(self, before=0):
        super().__init__()
        self.allocated, self.sizes = before, {}

    def take(self, at, address, size, thread=100):
        self.sizes[address] = size
        return self._memory(at, address, size, thread)

    def give_back(self, at, address, thread=100):
        return self._memory(at, address, -self.sizes.pop(address), thread)

    def _memory(self, at, address, change, thread):
        self.allocated += change
        now = {"Total Allocated": self.allocated, "Total Reserved": self.allocated + 64}
        args = {"Bytes": change, **now, "Addr": address, "Device Id": 0, "Device Type": 1}
        row = {"ph": "i", "s": "t", "name": "[memory]", "pid": 100, "tid": thread, "ts": at}
        self.events.append({**row, "args": args})
        return self


def training(before=1000):
    """Parameters, then a step: a batch, a forward, a backward on another thread, an optimizer."""
    builder = Memory(before).operator("aten::empty", 0, 10).take(5, 1, 100)
    builder.step(1, 20, 200).kernel("gemm", 60, 20)
    builder.operator("aten::to", 22, 6).operator("aten::copy_", 23, 4).take(24, 2, 20)
    builder.operator("aten::linear", 30, 20).operator("aten::mm", 32, 8).take(33, 3, 300)
    builder.take(55, 4, 7)  # in no operator
    builder.operator(NODE, 60, 30, thread=200).operator("aten::mm", 65, 10, thread=200)
    builder.take(66, 5, 50, thread=200).take(67, 6, 8, thread=200).give_back(80, 6, thread=200)
    builder._add("user_annotation", STEP, 100, 30, 100)
    builder.operator("aten::zeros_like", 105, 10).take(106, 7, 80)
    return builder.give_back(140, 3).take(150, 3, 5)


def test_each_allocation_in_use_at_the_peak_is_charged_to_what_its_thread_did(tmp_path):
    found = memory_of(training().write(tmp_path / "trace.json"))
    assert found.peak == 1557
    assert found.holders == {
        "optimizer": 80,
        "gradients": 50,
        "activations": 300,
        "parameters": 0,
        "other": 127,
        "before the recording": 1000,
    }


def test_a_report_says_what_holds_the_memory(tmp_path):
    (told,) = diagnose_trace(training(before=0).write(tmp_path / "trace.json")).problems
    assert told == (
        "at the peak 557 B are in use, of 621 B reserved, 54 % activations, 23 % by other code, "
        "14 % optimizer state and its temporaries, 9.0 % gradients"
    )


@pytest.mark.parametrize(("total", "found"), [(580, True), (5000, False)])
def test_activations_that_fill_the_device_are_a_finding_of_traces_too(tmp_path, total, found):
    devices = [{"id": 0, "name": "Made-up", "totalGlobalMem": total}]
    path = training(before=0).write(tmp_path / "trace.json", deviceProperties=devices)
    findings = {one.rule: one for one in diagnose_trace(path).findings}
    assert ("opt-ckpt-needed" in findings) is found
    if found:
        assert "Activations are 54 % of the memory" in findings["opt-ckpt-needed"].summary


@pytest.mark.parametrize("lacks", ["Addr", "steps", "some allocations"])
def test_where_the_trace_does_not_tell_all_of_it_nothing_is_charged(tmp_path, lacks):
    builder = training(before=0)
    if lacks == "Addr":
        for event in builder.events:
            event["args"].pop("Addr", None)
    elif lacks == "steps":
        builder.events = [one for one in builder.events if "ProfilerStep" not in one["name"]]
    else:  # the same bytes are said to be in use, by less than all events together
        for event in builder.events:
            event["args"]["Total Allocated"] = event["args"].get("Total Allocated", 0) // 2
    path = builder.write(tmp_path / "trace.json")
    trace = open_trace(path)
    signals = measure(Traced(trace, timeline(trace)))
    assert signals["memory.accelerator_peak_bytes"].value
    for name in ("device_memory.holders", "device_memory.activations_share"):
        assert signals[name].value is None
        assert "marks no steps, or does not tell" in signals[name].reason
    assert not diagnose_trace(path).problems


@st.composite
def traces(draw):
    """Calls of two threads, within each other, and an allocator that serves both."""
    builder = Memory(draw(st.integers(0, 500)))
    builder.step(1, draw(st.integers(0, 100)), 400).kernel("gemm", 150, 5)
    names = ["aten::mm", "aten::to", "aten::copy_", "Optimizer.zero_grad", NODE, STEP]
    for thread in (100, 200):
        at = 0
        for _ in range(draw(st.integers(0, 8))):
            at += draw(st.integers(0, 20))
            length = draw(st.integers(4, 60))
            for depth in range(draw(st.integers(1, 3))):
                name = draw(st.sampled_from(names))
                category = "user_annotation" if name == STEP else "cpu_op"
                builder._add(category, name, at + depth, length - 2 * depth, thread)
                if length - 2 * depth <= 3:
                    break
            at += length
    at = 0
    for _ in range(draw(st.integers(1, 25))):
        at += draw(st.integers(1, 40))
        thread = draw(st.sampled_from([100, 200]))
        if builder.sizes and draw(st.booleans()):
            builder.give_back(at, draw(st.sampled_from(sorted(builder.sizes))), thread)
        else:
            free = [one for one in range(30) if one not in builder.sizes]
            builder.take(at, draw(st.sampled_from(free)), draw(st.integers(1, 99)), thread)
    return builder


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(traces())
def test_any_trace_is_reckoned_alike(tmp_path, builder):
    path = builder.write(tmp_path / "trace.json")
    found = memory_of(path)
    if found is not None:  # something was allocated within the step
        assert found.holders == plain_holders(path, 0)
        assert sum(found.holders.values()) == found.peak


@pytest.mark.parametrize(
    ("name", "before", "activations", "gradients"),
    [
        ("unbucketed-allreduce-v100", 4_096_614_400, 1_333_781_504, 1_199_112_192),
        ("launch-bound-h100-inference", 91_360_768, 9_944_576, 0),
    ],
)
def test_real_traces(name, before, activations, gradients):
    """What is from before the recording is what each step leaves at its end, to the byte."""
    found = memory_of(real(name))
    assert found.holders["before the recording"] == before == min(found.levels)
    assert found.holders["activations"] == activations
    assert found.holders["gradients"] == gradients


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("unbucketed-allreduce-v100", marks=pytest.mark.slow),
        "launch-bound-h100-inference",
    ],
)
def test_real_traces_are_reckoned_alike(name):
    found = memory_of(real(name))
    assert found.holders == plain_holders(real(name), found.device)
