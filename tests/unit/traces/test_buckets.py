"""Buckets of DDP in traces, against loops over the file."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from exchanges import BACKWARD, TRAINS, WORLD, PlainExchanges, exchange
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_builder import TraceBuilder

from trainprof.profiler.traces.buckets import gradient_buckets
from trainprof.profiler.traces.collectives import collectives
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace

REAL = Path(__file__).parents[4] / "shared" / "traces"


def forward(builder, at):
    builder._add("user_annotation", "DistributedDataParallel.forward", at, 5, TRAINS)


def update(builder, at):
    builder._add("user_annotation", "Optimizer.step#SGD.step", at, 5, TRAINS)


def plain_buckets(path, window):
    """Backwards, median count and bytes, and ns that nothing hides, by loops."""
    plain = PlainExchanges(path)
    marks = [
        (e["ts"], e["name"].startswith("Optim"), e["tid"])
        for e in plain.events
        if e["name"].startswith(("Optimizer.step#", "DistributedDataParallel.forward"))
    ]
    sent, groups = [], {}
    for kernel, call, span in plain.sent:
        before = [mark for mark in marks if mark[0] <= call["ts"]]
        inside = span[0] < window[1] and span[1] > window[0]
        if not before or not inside or "AllReduce" not in kernel["name"]:
            continue
        at, updates, thread = max(before)
        if updates or thread == call["tid"] or at * 1000 < window[0]:
            continue
        if call["ts"] * 1000 >= window[1]:
            continue
        groups.setdefault(at, []).append(plain.size(call))
        sent.append(span)
    if not sent:
        return None
    return (
        len(groups),
        median(len(one) for one in groups.values()),
        median(sum(one) for one in groups.values()),
        plain.uncovered_ns(sent, window),
    )


pieces = st.tuples(
    st.sampled_from(["forward", "update", "bucket", "bucket", "loss", "broadcast", "gemm"]),
    st.integers(5, 40),
    st.integers(0, 60),
    st.integers(1, 50),
    st.integers(1, 5000),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(pieces, min_size=1, max_size=40), st.booleans())
def test_built_traces_agree_with_loops_over_them(tmp_path, events, marked):
    builder = TraceBuilder()
    builder.kernel("gemm", 100, 5, correlation=1)
    builder.call("cudaLaunchKernel", 90, 1, correlation=1)
    time = 100
    for number, (what, pause, later, length, elements) in enumerate(events, 2):
        time += pause
        if what == "forward":
            forward(builder, time)
        elif what == "update":
            update(builder, time)
        elif what == "gemm":
            builder.call("cudaLaunchKernel", time, 1, correlation=number)
            builder.kernel("gemm", time + later, length, correlation=number)
        else:
            thread = TRAINS if what == "loss" else BACKWARD
            kind = "broadcast" if what == "broadcast" else "all_reduce"
            exchange(builder, number, kind, time, time + later, length, elements, thread)
    update(builder, time + 20)
    if marked:
        builder.step(1, 150, 300)
    path = builder.write(tmp_path / "trace.json", **WORLD)
    trace = read_trace(path)
    lines = timeline(trace)
    found = gradient_buckets(trace, lines, collectives(trace, lines))
    plain = plain_buckets(path, (lines.window.start_ns, lines.window.end_ns))
    got = found and (found.backwards, found.count, found.gradient_bytes, found.exposed_ns)
    assert got == plain


def training(tmp_path, buckets, thread=BACKWARD, layer="addmm", named=True):
    """Three steps of 1 ms: 500 us of computing, then buckets of 16 KiB until 900 us."""
    builder = TraceBuilder()
    for step in range(3):
        start = 1000 * step
        builder.step(step, start, 1000)
        if named:
            forward(builder, start + 5)
        builder.operator(layer, start + 15, 2)
        builder.kernel("gemm", start + 10, 490)
        each = 400 // buckets
        for one in range(buckets):
            number = 1000 * step + one + 1
            begins = start + 500 + one * each
            at = start + 100 + 5 * one
            exchange(builder, number, "all_reduce", at, begins, each, 4096, thread)
        update(builder, start + 950)
    return diagnose_trace(builder.write(tmp_path / "trace.json", **WORLD))


def test_small_buckets_are_found(tmp_path):
    found = training(tmp_path, 10)
    signals = found.facts["signals"]
    assert signals["distributed.bucket_count"]["value"] == 10
    assert signals["distributed.gradient_bytes"]["value"] == 10 * 4 * 4096
    assert signals["distributed.transfer_share"]["value"] == pytest.approx(0.4)
    (finding,) = [one for one in found.findings if one.rule == "dist-bucket"]
    assert finding.severity == "info"
    assert "10 buckets of 16 KiB, and 40 % of 3 whole steps waits for them" in finding.summary


@pytest.mark.parametrize(
    "how",
    [{"thread": TRAINS}, {"named": False}, {"layer": "SyncBatchNormBackward"}, {"buckets": 3}],
)
def test_other_all_reduces_are_no_buckets(tmp_path, how):
    found = training(tmp_path, **{"buckets": 10, **how})
    assert "dist-bucket" not in [one.rule for one in found.findings]
    count = found.facts["signals"].get("distributed.bucket_count", {})
    assert count.get("value") == (3 if "buckets" in how else None)
    if "buckets" not in how:
        assert "DistributedDataParallel" in count["reason"]


def test_buckets_of_a_real_training():
    paths = sorted(REAL.glob("dlrm-8ranks-v100/*"))
    if not paths:
        pytest.skip("the real traces are not there")
    for path in paths:
        trace = read_trace(path)
        lines = timeline(trace)
        found = gradient_buckets(trace, lines, collectives(trace, lines))
        assert (found.backwards, found.count, found.gradient_bytes) == (1, 3, 2_485_252)
