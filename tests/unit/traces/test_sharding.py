"""What FSDP gathers in traces, against loops over the file."""

from __future__ import annotations

import pytest
from exchanges import BACKWARD, RANKS, TRAINS, WORLD, PlainExchanges, exchange
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trace_builder import TraceBuilder

from trainprof.profiler.traces.collectives import collectives
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.sharding import sharding
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace

PASSES = {
    "FSDP::pre_forward (layers.0)": False,
    "FSDP::backward_prefetch for layers.0": True,
    "FSDP::pre_backward (layers.backward)": True,
    "FSDP::pre_forward (my.backward)": False,
    "FSDP::post_backward_reduce (layers.0)": True,
    "FullyShardedDataParallel._pre_forward": False,
    "FullyShardedDataParallel._pre_backward_hook": True,
    "FullyShardedDataParallel.forward": None,
    "a block of tensor parallelism": None,
}
"""Whether they are of the backward; None for what is not FSDP's own."""


def exchange_in_pass(builder, number, inside, kind, at, begins, length, elements):
    """A collective, launched within a pass that has a name."""
    thread = BACKWARD if "backward" in inside else TRAINS
    builder._add("user_annotation", inside, at, 4, thread)
    name = "FSDP::all_gather (layers.0)" if kind == "all_gather" else "a copy"
    if PASSES[inside] is not None:
        builder._add("user_annotation", name, at, 3, thread)
    exchange(builder, number, kind, at + 1, begins, length, elements, thread)


def plain_sharding(path, window):
    """Gathers, those for the backward, reductions, bytes and ns that nothing hides, by loops."""
    plain = PlainExchanges(path)
    sent, again, reductions, size = [], 0, 0, 0
    for kernel, call, span in plain.sent:
        (of,) = [e["name"] for e in plain.around(call) if e["name"] in PASSES]
        if PASSES[of] is None or span[0] >= window[1] or span[1] <= window[0]:
            continue
        if "ReduceScatter" in kernel["name"]:
            reductions += 1
            continue
        size += plain.size(call) * RANKS
        again += PASSES[of]
        sent.append(span)
    if not sent:
        return None
    return len(sent), again, reductions, size, plain.uncovered_ns(sent, window)


pieces = st.tuples(
    st.sampled_from(sorted(PASSES)),
    st.sampled_from(["all_gather", "all_gather", "reduce_scatter", "gemm"]),
    st.integers(5, 40),
    st.integers(0, 60),
    st.integers(1, 50),
    st.integers(1, 5000),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(pieces, min_size=1, max_size=40), st.booleans())
def test_built_traces_agree_with_loops_over_them(tmp_path, events, marked):
    builder = TraceBuilder()
    builder.call("cudaLaunchKernel", 90, 1, correlation=1).kernel("gemm", 100, 5, correlation=1)
    time = 100
    for number, (inside, kind, pause, later, length, elements) in enumerate(events, 2):
        time += pause
        if kind == "gemm":
            builder.call("cudaLaunchKernel", time, 1, correlation=number)
            builder.kernel("gemm", time + later, length, correlation=number)
        else:
            exchange_in_pass(builder, number, inside, kind, time, time + later, length, elements)
    if marked:
        builder.step(1, 150, 300)
    path = builder.write(tmp_path / "trace.json", **WORLD)
    trace = read_trace(path)
    lines = timeline(trace)
    found = sharding(trace, lines, collectives(trace, lines))
    got = found and (
        found.gathers,
        found.again,
        found.reductions,
        found.gathered_bytes,
        found.exposed_ns,
    )
    assert got == plain_sharding(path, (lines.window.start_ns, lines.window.end_ns))


FULLY = ("FSDP::pre_forward (layers.0)", "FSDP::pre_backward (layers.backward)")


def training(tmp_path, gathered=FULLY, reserved=4_000_000, memory=True, reduced=1):
    """Three steps of 1 ms: four layers of 256 KiB, that are gathered in 50 us each time."""
    builder = TraceBuilder()
    for step in range(3):
        start = 1000 * step
        builder.step(step, start, 1000)
        builder.kernel("gemm", start + 5, 490)
        for one in range(4):
            for place, inside in enumerate(gathered):
                number = 1000 * step + 10 * one + place + 1
                at, begins = start + 100 + 10 * one + 50 * place, start + 500 + 50 * one
                begins += 200 * place
                exchange_in_pass(builder, number, inside, "all_gather", at, begins, 50, 2**14)
            for place in range(reduced):
                number, at = 1000 * step + 10 * one + 7 + place, start + 300 + 10 * one
                last = "FSDP::post_backward_reduce (layers.0)"
                last = last if "FSDP::" in gathered[0] else gathered[-1]
                begins = start + 910 + one
                exchange_in_pass(builder, number, last, "reduce_scatter", at, begins, 1, 2**16)
        if memory:
            said = {"Bytes": 4, "Total Allocated": reserved - 9, "Total Reserved": reserved}
            said |= {"Device Id": 0, "Device Type": 1}
            builder.events.append({"ph": "i", "name": "[memory]", "ts": start + 9, "args": said})
    devices = [{"id": 0, "totalGlobalMem": 8_000_000}]
    path = builder.write(tmp_path / "trace.json", deviceProperties=devices, **WORLD)
    return diagnose_trace(path)


@pytest.mark.parametrize(
    "gathered",
    [
        FULLY,
        (
            "FullyShardedDataParallel._pre_forward",
            "FullyShardedDataParallel._pre_backward_hook",
        ),
    ],
)
def test_parameters_that_are_gathered_twice_though_they_fit(tmp_path, gathered):
    found = training(tmp_path, gathered)
    signals = found.facts["signals"]
    assert signals["sharding.gathers_per_reduction"]["value"] == 2.0
    assert signals["sharding.again_share"]["value"] == 0.5
    assert signals["sharding.bytes_per_step"]["value"] == 8 * 2**14 * 4 * RANKS
    assert signals["sharding.exposed_share"]["value"] == pytest.approx(0.4)
    (finding,) = [one for one in found.findings if one.rule == "dist-overshard"]
    assert "50 % of them again for the backward" in finding.summary
    assert finding.severity in ("info", "warn")
    assert "dist-comm-unhidden" in finding.suppresses


@pytest.mark.parametrize(
    "how",
    [
        {"gathered": FULLY[:1]},
        {"gathered": ("a block of tensor parallelism",) * 2},
        {"reserved": 7_000_000},
        {"memory": False},
        {"reduced": 0},
    ],
)
def test_silent_where_they_are_kept_or_do_not_fit_or_nothing_tells(tmp_path, how):
    found = training(tmp_path, **how)
    assert "dist-overshard" not in [one.rule for one in found.findings]


def test_what_the_trace_does_not_tell_is_named(tmp_path):
    skipped = {one.rule: one.reason for one in training(tmp_path, memory=False).skipped_rules}
    assert "profile_memory=True" in skipped["dist-overshard"]
    skipped = {one.rule: one.reason for one in training(tmp_path, reduced=0).skipped_rules}
    assert "reduces no gradients" in skipped["dist-overshard"]
    other = training(tmp_path, ("a block of tensor parallelism",) * 2, reduced=0)
    assert "dist-overshard" not in [one.rule for one in other.skipped_rules]
