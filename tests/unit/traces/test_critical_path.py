"""The longest path through a trace: what is on it, and that nothing else matters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from plain_path import plain_lengths, plain_path
from random_trainings import trainings
from trace_builder import TraceBuilder

from trainprof.profiler.traces.critical_path import critical_path, leaves_path, replay
from trainprof.profiler.traces.dependencies import dependencies
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline

REAL = Path(__file__).parents[4] / "shared" / "traces"
FEW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def graph_of(path):
    trace = read_trace(path)
    window = timeline(trace).window
    return dependencies(trace, window.start_ns, window.end_ns)


def parts(graph):
    found = critical_path(graph, replay(graph)).parts_ns
    return {part: time for part, time in found.items() if time}


FILES = sorted(one for one in REAL.glob("*/*.json*") if one.stat().st_size > 40_000)


@pytest.mark.parametrize("path", FILES or [None], ids=lambda one: one and one.name[:30])
def test_a_replay_of_a_real_trace_takes_as_long_as_it_did(path):
    if path is None:
        pytest.skip("the real traces are not there")
    graph = graph_of(path)
    replayed = replay(graph)
    assert replayed.length_ns == pytest.approx(int(graph.at_ns.max()), rel=0.01)
    found = critical_path(graph, replayed)
    assert sum(found.parts_ns.values()) == replayed.length_ns
    assert min(found.parts_ns.values()) >= 0


@FEW
@given(trainings())
def test_any_trace_is_replayed_and_its_path_is_the_longest(tmp_path, builder):
    graph = graph_of(builder.write(tmp_path / "trace.json"))
    replayed = replay(graph)
    assert replayed.reached_ns.tolist() == graph.at_ns.tolist() == plain_lengths(graph)
    path = critical_path(graph, replayed)
    assert sum(path.parts_ns.values()) == replayed.length_ns
    assert len(plain_path(graph)) > 0
    assert replayed.reached_ns[path.nodes[-1]] == replayed.length_ns


@FEW
@given(trainings())
def test_what_lies_off_the_path_gains_nothing(tmp_path, builder):
    graph = graph_of(builder.write(tmp_path / "trace.json"))
    length = replay(graph).length_ns
    off = np.ones(len(graph), bool)
    off[critical_path(graph, replay(graph)).nodes] = False
    for node in np.flatnonzero(off).tolist():
        work, gap = graph.work_ns.copy(), graph.parts_ns.copy()
        work[node], gap[node] = 0, 0
        assert replay(replace(graph, work_ns=work, parts_ns=gap)).length_ns == length


@FEW
@given(trainings(), st.data())
def test_a_change_that_is_seen_to_leave_the_path_takes_as_long(tmp_path, builder, data):
    graph = graph_of(builder.write(tmp_path / "trace.json"))
    replayed = replay(graph)
    path = critical_path(graph, replayed)
    assert leaves_path(graph, replayed, path)
    node = data.draw(st.integers(0, len(graph) - 1))
    work, parts, other = graph.work_ns.copy(), graph.parts_ns.copy(), graph.other.copy()
    work[node] += data.draw(st.sampled_from([0, -int(work[node]), 10_000]))
    parts[node] *= data.draw(st.sampled_from([0, 1, 2]))
    other[node] = data.draw(st.sampled_from([0, int(other[node])]))
    changed = replace(graph, work_ns=work, parts_ns=parts, other=other)
    after = replay(changed)
    if leaves_path(changed, replayed, path):
        assert after.length_ns == replayed.length_ns
    elif (after.reached_ns <= replayed.reached_ns).all():  # it may only be the path itself
        assert node in path.nodes


def test_a_host_that_is_slower_than_its_device(tmp_path):
    builder = TraceBuilder().step(1, 0, 100)
    for number in range(5):
        builder.operator("aten::mul", 20 * number, 20)
        builder.call("cudaLaunchKernel", 20 * number + 5, 5, correlation=number + 1)
        builder.kernel("mul", 20 * number + 11, 4, correlation=number + 1)
    graph = graph_of(builder.write(tmp_path / "trace.json"))
    assert parts(graph) == {"launch call": 25_000, "operator": 75_000}


def test_a_device_that_is_slower_than_its_host(tmp_path):
    builder = TraceBuilder().step(1, 0, 100)
    for number in range(5):
        builder.call("cudaLaunchKernel", 10 * number, 5, correlation=number + 1)
        builder.kernel("sgemm", 6 + 50 * number, 50, correlation=number + 1)
    graph = graph_of(builder.write(tmp_path / "trace.json"))
    assert replay(graph).length_ns == 256_000  # what was launched in the window is done by then
    assert parts(graph) == {"launch latency": 6_000, "computation": 250_000}
