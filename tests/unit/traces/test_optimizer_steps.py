"""What the optimizer costs in a trace: its kernels, and the device that ran dry meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_timeline import clipped, total
from trace_builder import TraceBuilder

from trainprof.profiler.traces.optimizer_steps import optimizer_steps
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace
from trainprof.rules.trace_signals.traced import Traced

REAL = Path(__file__).parents[4] / "shared" / "traces"


def steps_of(path):
    one = Traced(trace := read_trace(path), timeline(trace))
    return optimizer_steps(trace, one.timeline, one.kernels), one.timeline.window.length_ns


def mark(builder, start, length, kind="AdamW"):
    return builder._add("user_annotation", f"Optimizer.step#{kind}.step", start, length, 100)


@pytest.mark.parametrize(
    ("operator", "form"),
    [
        ("aten::add_", "forloop"),
        ("aten::_foreach_mul_", "foreach"),
        ("aten::_fused_adamw_", "fused"),
    ],
)
def test_the_form_is_told_by_the_operators_inside(tmp_path, operator, form):
    builder = TraceBuilder().step(1, 0, 100).operator("aten::_foreach_norm", 2, 5)
    mark(builder, 40, 20).operator(operator, 42, 5)
    found, _ = steps_of(builder.write(tmp_path / "trace.json"))
    assert (found.kind, found.form, found.host_ns) == ("AdamW", form, 20_000)


def test_a_for_loop_that_lets_the_device_run_dry_is_found(tmp_path):
    builder = TraceBuilder()
    for number in range(3):
        start = 1000 * number
        builder.step(number, start, 1000).call("cudaLaunchKernel", start, 5, 10 * number + 1)
        builder.kernel("gemm", start + 5, 595, correlation=10 * number + 1)
        mark(builder, start + 600, 400).operator("aten::addcdiv_", start + 610, 300)
        builder.call("cudaLaunchKernel", start + 620, 5, 10 * number + 2)
        builder.kernel("elementwise_kernel", start + 700, 100, correlation=10 * number + 2)
    path = builder.write(tmp_path / "trace.json")
    found, _ = steps_of(path)
    assert (found.kernels_ns, found.idle_ns) == (300_000, 900_000)
    findings = {one.rule: one for one in diagnose_trace(path).findings}
    assert findings["opt-unfused"].fixes[0].fix == "optimizer-fused"
    assert findings["opt-unfused"].evidence[0].value == pytest.approx(0.4)


def test_a_trace_without_marks_says_so(tmp_path):
    builder = TraceBuilder().step(1, 0, 100).kernel("gemm", 0, 50)
    path = builder.write(tmp_path / "trace.json")
    assert steps_of(path)[0] is None
    skipped = {one.rule: one.reason for one in diagnose_trace(path).skipped_rules}
    assert "marks no step of an optimizer" in skipped["opt-unfused"]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(st.data())
def test_any_steps_cost_what_a_loop_reckons(tmp_path, data):
    builder = TraceBuilder().step(1, 0, 500)
    marks, time = [], 0
    for _ in range(data.draw(st.integers(1, 3))):
        start, length = time + data.draw(st.integers(0, 50)), data.draw(st.integers(1, 80))
        marks.append((start, start + length))
        mark(builder, start, length)
        time = start + length
    kernels = []
    for number in range(1, data.draw(st.integers(2, 7))):
        call, start = data.draw(st.integers(0, 300)), data.draw(st.integers(0, 480))
        length = data.draw(st.integers(1, 60))
        builder.call("cudaLaunchKernel", min(call, start), 1, correlation=number)
        builder.kernel("elementwise_kernel", start, length, correlation=number)
        kernels.append((min(call, start), start, start + length))
    found, _ = steps_of(builder.write(tmp_path / "trace.json"))
    own = [
        kernel[1:] for kernel in kernels if any(begin <= kernel[0] < end for begin, end in marks)
    ]
    busy = [kernel[1:] for kernel in kernels]
    inside = total([*marks, *busy]) - total(busy)
    assert found.host_ns == 1000 * total(marks)
    assert found.kernels_ns == 1000 * total(clipped(own, 0, 500))
    assert found.idle_ns == 1000 * inside


def test_a_step_of_a_sixth_on_the_host_may_cost_the_device_next_to_nothing():
    """The device still had the backward to do: a fused optimizer would gain nothing there."""
    paths = sorted(REAL.glob("input-fixed-v100-workers4/*.1623212756351*"))
    if not paths:
        pytest.skip("the real traces are not there")
    found, window_ns = steps_of(paths[0])
    assert (found.kind, found.form, found.scales) == ("SGD", "forloop", True)
    assert found.host_ns / window_ns == pytest.approx(0.162, abs=0.001)
    assert (found.kernels_ns + found.idle_ns) / window_ns == pytest.approx(0.017, abs=0.001)
