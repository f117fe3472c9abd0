"""What waits for what: each kind of edge on a trace of a few events."""

from __future__ import annotations

import numpy as np
from trace_builder import TraceBuilder

from trainprof.profiler.traces.dependencies import Node, dependencies
from trainprof.profiler.traces.host_points import Point
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline


def built(tmp_path, builder):
    trace = read_trace(builder.write(tmp_path / "trace.json"))
    window = timeline(trace).window
    return trace, dependencies(trace, window.start_ns, window.end_ns)


def named(trace, graph, name):
    """Nodes of the device whose event has this name."""
    own = np.flatnonzero(graph.kind == Node.WORK)
    return [one for one in own.tolist() if trace.names[trace.events.name[graph.event[one]]] == name]


def test_work_comes_after_its_launch_and_what_ran_before_it(tmp_path):
    builder = TraceBuilder().step(1, 0, 100)
    builder.call("cudaLaunchKernel", 10, 5, correlation=1).kernel("a", 16, 30, correlation=1)
    builder.call("cudaLaunchKernel", 20, 5, correlation=2).kernel("b", 47, 10, correlation=2)
    trace, graph = built(tmp_path, builder)
    (a,), (b,) = named(trace, graph, "a"), named(trace, graph, "b")
    assert graph.before[b] == a
    assert graph.gap_ns[b] == 1_000
    assert [graph.at_ns[graph.other[one]] for one in (a, b)] == [10_000, 20_000]
    assert graph.lag_ns[a] == 6_000
    assert not graph.wait_ns.any()


def test_a_synchronisation_waits_for_what_was_launched_before_it(tmp_path):
    builder = TraceBuilder().step(1, 0, 200)
    builder.call("cudaLaunchKernel", 10, 5, correlation=1).kernel("a", 16, 100, correlation=1)
    builder.call("cudaStreamSynchronize", 20, 100)
    builder.call("cudaLaunchKernel", 130, 5, correlation=2).kernel("b", 136, 10, correlation=2)
    trace, graph = built(tmp_path, builder)
    (waited,) = np.flatnonzero(graph.point == Point.WAITED).tolist()
    assert graph.other[waited] == named(trace, graph, "a")[0]
    assert graph.at_ns[waited] == 120_000
    assert graph.between_ns[waited] == 10_000  # what a call takes that has nothing to wait for
    assert graph.wait_ns[waited] == 4_000


def test_a_call_that_copies_unpinned_memory_waits_for_its_copy(tmp_path):
    builder = TraceBuilder().step(1, 0, 200)
    builder.call("cudaLaunchKernel", 0, 5, correlation=1).kernel("a", 6, 60, correlation=1)
    builder.call("cudaMemcpyAsync", 10, 80, correlation=2).copy(67, 20, correlation=2)
    _, graph = built(tmp_path, builder)
    (waited,) = np.flatnonzero(graph.point == Point.WAITED).tolist()
    assert graph.kind[graph.other[waited]] == Node.WORK
    assert graph.copies[graph.other[waited]]
    assert graph.lag_ns[waited] == 3_000


def test_a_stream_waits_for_another(tmp_path):
    builder = TraceBuilder().step(1, 0, 200)
    builder.call("cudaLaunchKernel", 0, 5, correlation=1).kernel("a", 6, 60, 7, correlation=1)
    builder.call("cudaStreamWaitEvent", 6, 1)
    builder.call("cudaLaunchKernel", 10, 5, correlation=2).kernel("nccl", 67, 9, 20, correlation=2)
    builder.call("cudaLaunchKernel", 20, 5, correlation=3).kernel("c", 67, 50, 7, correlation=3)
    trace, graph = built(tmp_path, builder)
    (talks,), (a,), (c,) = (named(trace, graph, one) for one in ("nccl", "a", "c"))
    join = graph.before[talks]
    assert graph.kind[join] == Node.JOIN
    assert graph.other[join] == a
    assert graph.before[c] == a


def test_a_thread_goes_on_when_another_is_done(tmp_path):
    builder = TraceBuilder().step(1, 0, 500)
    builder.operator("aten::add", 0, 100).operator("aten::sum", 400, 100)
    builder.operator("autograd::engine::evaluate_function", 120, 250, thread=200)
    _, graph = built(tmp_path, builder)
    woken = np.flatnonzero(graph.point == Point.WOKEN)
    assert graph.at_ns[woken].tolist() == [120_000, 400_000]
    assert graph.at_ns[graph.other[woken]].tolist() == [100_000, 370_000]
    assert graph.lag_ns[woken].tolist() == [20_000, 30_000]
    assert not graph.between_ns[woken].any()


def test_a_full_queue_holds_the_launches_back(tmp_path):
    builder, length = TraceBuilder().step(1, 0, 200_000), 1_000
    for number in range(1_200):
        full = number >= 1_010
        begun = 5 * number if not full else length * (number - 1_010) + 5_050
        took = 1_000 if full else 5
        builder.call("cudaLaunchKernel", begun, took, correlation=number + 1)
        builder.kernel("sgemm", 6 + length * number, length, correlation=number + 1)
    _, graph = built(tmp_path, builder)
    late = np.flatnonzero((graph.point == Point.LAUNCHES) & (graph.at_ns > 8_000_000))
    assert (graph.kind[graph.other[late]] == Node.WORK).all()
    assert graph.between_ns[late].max() == 5_000


def test_broken_numbers_give_a_graph_all_the_same(tmp_path):
    builder = TraceBuilder().step(1, 50, 100)
    builder.kernel("early", 60, 10, correlation=1).call("cudaLaunchKernel", 90, 5, correlation=1)
    builder.kernel("over", 65, 30, correlation=2).kernel("none", 70, 0)
    builder.call("cudaDeviceSynchronize", 70, 0).call("cudaStreamWaitEvent", 70, 0)
    _, graph = built(tmp_path, builder)
    places = np.arange(len(graph))
    assert (graph.before[1:] < places[1:]).all()
    assert (graph.other[1:] < places[1:]).all()
