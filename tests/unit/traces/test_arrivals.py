"""Which rank is late: not the one with the longest step."""

from __future__ import annotations

from pathlib import Path

import pytest
from trace_builder import TraceBuilder

from trainprof.profiler.traces.arrivals import arrivals, collectives
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline

REAL = Path(__file__).parents[4] / "shared" / "traces" / "dlrm-8ranks-v100"


def of_ranks(paths):
    traces = [read_trace(path) for path in paths]
    return arrivals({n: collectives(one, timeline(one)) for n, one in enumerate(traces)})


def test_the_late_rank_of_a_real_training_is_not_the_one_with_the_longest_step():
    paths = sorted(REAL.glob("worker*"))
    if not paths:
        pytest.skip("the real traces are not there")
    found = of_ranks(paths)
    lengths = [timeline(read_trace(path)).window.length_ns for path in paths]
    assert found.straggler == 7
    assert lengths.index(max(lengths)) == 1
    assert lengths.index(min(lengths)) == 7
    assert len(found.names) == 8
    assert found.clocks_agree
    first = found.waited_ns[:, 0] / 1e6
    assert first[7] == 0.0
    assert first[1] == pytest.approx(7.6, abs=0.1)
    assert found.last[:4].tolist() == [7, 7, 7, 7]


def rank(tmp_path, number, arrives, leaves, names=None):
    """A step of 1 ms with a collective for each arrival."""
    builder = TraceBuilder().step(1, 0, 1000)
    for place, start in enumerate(arrives):
        name = names[place] if names else "ncclDevKernel_AllReduce"
        builder.kernel(name, start, leaves[place] - start)
    return builder.write(tmp_path / f"rank{number}.json")


def test_waits_and_their_cause(tmp_path):
    leaves = [210, 510]
    found = of_ranks(
        [
            rank(tmp_path, 0, [100, 500], leaves),
            rank(tmp_path, 1, [200, 450], leaves),
            rank(tmp_path, 2, [150, 480], leaves),
        ]
    )
    assert found.exchange_ns.tolist() == [10_000, 10_000]
    assert found.waits_ns == {0: 100_000, 1: 50_000, 2: 70_000}
    assert found.caused_ns == {0: 50_000, 1: 100_000, 2: 0}
    assert found.straggler == 1


def test_only_what_all_ranks_have_alike_is_compared(tmp_path):
    names = ["ncclDevKernel_AllReduce", "ncclDevKernel_SendRecv", "ncclDevKernel_AllReduce"]
    other = [names[0], names[1], "ncclDevKernel_AllGather"]
    first = rank(tmp_path, 0, [100, 300, 500], [110, 310, 510], names)
    second = rank(tmp_path, 1, [90, 300, 505], [110, 310, 510], other)
    assert of_ranks([first, second]).names == tuple(names[:2])
    third = rank(tmp_path, 2, [90], [110], ["ncclDevKernel_Broadcast"])
    assert of_ranks([first, third]) is None
    assert of_ranks([first]) is None


def test_clocks_that_differ_are_told_by_kernels_that_do_not_overlap(tmp_path):
    first = rank(tmp_path, 0, [100, 300], [120, 320])
    second = rank(tmp_path, 1, [600, 800], [610, 810])
    assert not of_ranks([first, second]).clocks_agree
