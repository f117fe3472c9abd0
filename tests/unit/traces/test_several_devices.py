"""Devices of one process that take turns, against loops over the file."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_timeline import clipped, plain_timeline, total
from trace_builder import TraceBuilder

from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.several_devices import several_devices
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace

kernels = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 300), st.integers(1, 40),
              st.sampled_from(["gemm", "ncclDevKernel_AllReduce"])),
    min_size=1, max_size=40,
)  # fmt: skip


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kernels)
def test_built_traces_agree_with_loops_over_them(tmp_path, events):
    builder = TraceBuilder().step(1, 50, 200)
    for device, start, length, name in events:
        builder.kernel(name, start, length, device=device)
    path = builder.write(tmp_path / "trace.json")
    trace = read_trace(path)
    found = several_devices(trace, timeline(trace))
    compute = {one: work[1] for one, work in plain_timeline(path)["devices"].items()}
    chosen = [one for one in compute if compute[one] > 0.05 * max(compute.values())]
    if len(chosen) < 2:
        assert found is None
        return
    spans = [(1000 * start, 1000 * (start + length)) for device, start, length, name in events
             if name == "gemm" and device in chosen]  # fmt: skip
    busy = total(clipped(spans, 50_000, 250_000))
    assert (found.count, found.any_ns) == (len(chosen), busy)
    assert found.concurrency == pytest.approx(sum(compute[one] for one in chosen) / busy)


def two_devices(tmp_path, overlap, data_parallel=False):
    """Steps of 100 us in which two devices compute for 50 each."""
    builder = TraceBuilder()
    for step in range(4):
        start = 100 * step
        builder.step(step, start, 100)
        builder.kernel("gemm", start, 50).kernel("gemm", start + 50 - overlap, 50, device=1)
        if data_parallel:
            builder._add("user_annotation", "DataParallel.forward", start, 40, 100)
        else:
            builder._add("user_annotation", "DistributedDataParallel.forward", start, 40, 100)
    return builder.write(tmp_path / "trace.json")


def test_layers_on_two_devices_take_turns(tmp_path):
    found = diagnose_trace(two_devices(tmp_path, overlap=0))
    assert [finding.rule for finding in found.findings] == ["dist-taking-turns"]
    assert found.findings[0].gain.high == pytest.approx(2.0)
    assert found.findings[0].gain.low == pytest.approx(4 / 3)
    assert not diagnose_trace(two_devices(tmp_path, overlap=25)).findings


def test_data_parallel_is_told_by_its_name(tmp_path):
    found = diagnose_trace(two_devices(tmp_path, overlap=0, data_parallel=True))
    assert [finding.rule for finding in found.findings] == ["dist-dataparallel"]
    assert "copies the model to 2 GPUs in each step" in found.findings[0].summary
