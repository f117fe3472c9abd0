"""What each operator took by itself, on host and device, against the plainest reading."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_operators import plain_operators
from random_trainings import trainings
from trace_builder import TraceBuilder

from trainprof.profiler.traces.opening import open_trace
from trainprof.profiler.traces.operator_times import operator_sums
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace, read
from trainprof.rules.trace_operators import MOST_CHARACTERS, MOST_OPERATORS

REAL = Path(__file__).parents[4] / "shared" / "traces"
NAMES = (
    "aten::add",
    "aten::linear",
    "aten::mm",
    "autograd::engine::evaluate_function: MmBackward0",
)


def summed(path):
    one = read(path)
    return operator_sums(one.trace, one.timeline, one.launched)


def as_plain(path):
    found = summed(path)
    if found is None:
        return {}, None
    return {
        one.name: (one.calls, one.host_ns, one.device_ns or 0) for one in found.sums
    }, found.unlinked_ns


@st.composite
def nested(draw):
    """A training whose operators lie in each other, also where clocks let them overlap."""
    builder = draw(trainings())
    end = max(event["ts"] + event["dur"] for event in builder.events)
    for _ in range(draw(st.integers(1, 15))):
        start = draw(st.integers(0, end))
        length = draw(st.integers(0, 60))
        thread = draw(st.sampled_from([100, 200]))
        builder.operator(draw(st.sampled_from(NAMES)), start, length, thread)
    return builder


@given(nested())
def test_the_times_are_those_of_the_plainest_reading(builder):
    with tempfile.TemporaryDirectory() as folder:
        path = builder.write(Path(folder) / "trace.json")
        plain, unlinked = plain_operators(path)
        found, found_unlinked = as_plain(path)
        assert found == plain
        assert not found or found_unlinked == unlinked


@pytest.mark.parametrize(
    "name",
    [
        "dlrm-8ranks-v100/worker0",
        "edge-cases/amd-mi250",
        "edge-cases/no-gpu",
        "edge-cases/kineto-pr",
    ],
)
def test_the_times_of_real_traces_are_those_of_the_plainest_reading(name):
    paths = sorted(REAL.glob(f"{name}*"))
    if not paths:
        pytest.skip("the real traces are not there")
    assert as_plain(paths[0]) == plain_operators(paths[0])


def trained(tmp_path):
    """A step in which a linear layer launches 300 us and a copy stands by itself."""
    builder = TraceBuilder().step(1, 0, 1_000)
    sizes = {"Input Dims": [[64, 32], [32, 16]]}
    builder.operator("aten::linear", 0, 100, **sizes)
    builder.operator("aten::mm", 20, 50, **sizes)
    builder.call("cudaLaunchKernel", 30, 10, 1).kernel("sgemm", 100, 300, correlation=1)
    builder.operator("aten::mm", 200, 40, **{"Input Dims": [[8, 8], [8, 8]]})
    builder.call("cudaMemcpyAsync", 500, 10, 2).copy(600, 150, correlation=2)
    return builder.write(tmp_path / "trace.json", deviceProperties=[{"id": 0, "name": "V100"}])


def test_a_diagnosis_holds_operators_only_where_a_format_shows_them(tmp_path):
    path = trained(tmp_path)
    assert diagnose_trace(path).operators is None
    found = diagnose_trace(path, operators=True).operators
    assert (found.window, found.window_s, found.names) == ("one whole step", 1e-3, 2)
    assert (found.device.name, found.device.unlinked_s) == ("0 (V100)", pytest.approx(150e-6))
    mm, linear = found.rows
    assert (mm.name, mm.calls, mm.shape_kinds) == ("aten::mm", 2, 2)
    assert (mm.host.s, mm.device.s) == (pytest.approx(90e-6), pytest.approx(300e-6))
    assert (mm.host.share, mm.device.share) == (pytest.approx(0.09), pytest.approx(0.3))
    assert "64" in mm.shapes
    assert (linear.host.s, linear.device.s) == (pytest.approx(50e-6), 0.0)


def test_sizes_are_counted_once_whatever_the_types_of_the_inputs(tmp_path):
    builder, two = TraceBuilder(), {"Input Dims": [[2, 2]]}
    builder.operator("aten::mm", 0, 50, **two, **{"Input type": ["float"]})
    builder.operator("aten::mm", 50, 80, **{"Input Dims": [[4, 4]]})
    builder.operator("aten::mm", 130, 50, **two, **{"Input type": ["c10::Half"]})
    builder.operator("aten::add", 180, 5)
    found = diagnose_trace(builder.write(tmp_path / "t.json"), operators=True).operators
    told = {row.name: (row.shapes, row.shape_kinds) for row in found.rows}
    assert told == {"aten::mm": ("[[2, 2]]", 2), "aten::add": (None, 0)}


def test_a_trace_without_a_device_says_once_why_no_operator_has_its_time(tmp_path):
    path = TraceBuilder().step(1, 0, 100).operator("aten::mm", 0, 60).write(tmp_path / "t.json")
    diagnosis = diagnose_trace(path, operators=True)
    (row,) = diagnosis.operators.rows
    assert (row.device, row.host.share, row.shapes) == (None, 0.6, None)
    assert [path for path in diagnosis.missing if "operators" in path] == ["operators.device"]


def test_the_table_is_bounded_whatever_the_trace_holds(tmp_path):
    builder = TraceBuilder().step(1, 0, 10_000)
    for number in range(200):
        sizes = {"Input Dims": [[number]] * 1_000}
        builder.operator(f"aten::op{number:03d}", 40 * number, 1 + number % 37, **sizes)
        builder.call("cudaLaunchKernel", 40 * number, 1, number)
        builder.kernel("k", 40 * number + 5, 1 + number % 11, correlation=number)
    diagnosis = diagnose_trace(builder.write(tmp_path / "t.json"), operators=True)
    assert diagnosis.operators.names == 200
    rows = diagnosis.operators.rows
    assert MOST_OPERATORS <= len(rows) <= 2 * MOST_OPERATORS
    assert max(len(row.shapes) for row in rows) <= MOST_CHARACTERS
    times = [row.device.s for row in rows]
    assert times == sorted(times, reverse=True)
    every = {one.name: one for one in summed(tmp_path / "t.json").sums}
    left_out = [every[name] for name in set(every) - {row.name for row in rows}]
    assert (
        max(one.host_ns for one in left_out)
        <= sorted((one.host_ns for one in every.values()), reverse=True)[MOST_OPERATORS - 1]
    )


def test_a_trace_without_operators_has_no_table(tmp_path):
    path = TraceBuilder().step(1, 0, 100).kernel("k", 0, 60).write(tmp_path / "t.json")
    trace = open_trace(path)
    assert diagnose_trace(path, operators=True).operators is None
    assert timeline(trace).devices
