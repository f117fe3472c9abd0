"""Which function of Python time goes to: by every moment too, and in what a report says."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from trace_builder import TraceBuilder

from trainprof.profiler.traces.frames import dearest_frame
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.reading import read_trace
from trainprof.rules.trace_diagnosis import diagnose_trace

NAMES = ["train.py(9): main", "data.py(3): load", "torch/nn/x.py(5): run", "<built-in sleep>"]


@st.composite
def nested(draw, start=0, end=60, depth=0):
    """Calls that lie within each other, each a name, a start and an end."""
    calls = []
    at = start
    while at < end and draw(st.booleans()):
        begin = draw(st.integers(at, end - 1))
        stop = draw(st.integers(begin + 1, end))
        calls.append((draw(st.sampled_from(NAMES)), begin, stop))
        if depth < 3 and stop - begin > 1:
            calls += draw(nested(begin, stop, depth + 1))
        at = stop
    return calls


@settings(max_examples=60)
@given(nested(), st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=4))
def test_every_moment_goes_to_the_innermost_function_of_the_script(tmp_path_factory, calls, spans):
    builder = TraceBuilder().operator("aten::mm", 0, 60)
    for name, start, end in calls:
        builder.frame(name, start, end - start)
    trace = read_trace(builder.write(tmp_path_factory.mktemp("frames") / "trace.json"))
    during = union(*(np.array([1000 * one[side] for one in spans], np.int64) for side in (0, 1)))
    spent = {}
    for moment in range(60):
        if any(start <= moment < end for start, end in spans):
            around = [one for one in calls if one[1] <= moment < one[2] and one[0] in NAMES[:2]]
            if around:  # the last that was called is the innermost
                name = around[-1][0]
                spent[name] = spent.get(name, 0) + 1000
    found = dearest_frame(trace, 0, during)
    if not spent:
        assert found is None
    else:
        assert found.spent_ns == max(spent.values())
        assert spent[f"{found.file}({found.line}): {found.function}"] == found.spent_ns


def test_a_wait_for_batches_names_the_function_that_makes_them(tmp_path):
    builder = TraceBuilder()
    for number in range(4):
        start = 10_000 * number
        builder.step(number, start, 10_000).wait(start, 6_000)
        builder.frame("train.py(20): main", start, 10_000)
        builder.frame("torch/utils/data/dataloader.py(700): __next__", start, 6_000)
        builder.frame("augment.py(12): rotate", start + 500, 5_000)
        builder.frame("numpy/lib/x.py(1): roll", start + 600, 4_000)
        builder.operator("aten::mm", start + 6_000, 4_000)
    path = builder.write(tmp_path / "trace.json", deviceProperties=[])
    (finding,) = diagnose_trace(path).findings
    assert (finding.where.file, finding.where.line) == ("augment.py", 12)
    assert finding.where.function == "rotate"


def test_unexplained_time_names_its_function(tmp_path):
    builder = TraceBuilder()
    for number in range(4):
        builder.step(number, 1_000 * number, 1_000).operator("aten::mm", 1_000 * number, 400)
        builder.frame("train.py(20): main", 1_000 * number, 1_000)
        builder.frame("report.py(7): draw", 1_000 * number + 450, 500)
    found = diagnose_trace(builder.write(tmp_path / "trace.json", deviceProperties=[]))
    assert found.headline.endswith("most of it in draw (report.py:7).")
