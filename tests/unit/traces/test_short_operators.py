"""Short operators of a training on the CPU: by every moment too, and in a finding."""

from __future__ import annotations

import statistics

from hypothesis import given, settings
from hypothesis import strategies as st
from trace_builder import TraceBuilder

from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.short_operators import short_operators
from trainprof.profiler.traces.timeline import timeline
from trainprof.profiler.traces.training_thread import training_thread
from trainprof.rules.trace_diagnosis import diagnose_trace

NAMES = ["aten::mm", "aten::add", "aten::view"]


@st.composite
def nested(draw, start, end, depth=0):
    """Operators that lie within each other, each a name, a start and an end."""
    calls, at = [], start
    while at < end and draw(st.booleans()):
        begin = draw(st.integers(at, end - 1))
        stop = draw(st.integers(begin + 1, end))
        calls.append((draw(st.sampled_from(NAMES)), begin, stop, depth))
        if depth < 2 and stop - begin > 1:
            calls += draw(nested(begin, stop, depth + 1))
        at = stop
    return calls


@settings(max_examples=60)
@given(nested(10, 70))
def test_every_moment_goes_to_the_innermost_operator(tmp_path_factory, calls):
    builder = TraceBuilder().step(1, 0, 100).wait(0, 10).operator("Optimizer.step#SGD.step", 80, 20)
    builder.operator("aten::add_", 82, 3)  # the optimizer's own does not count
    for name, start, end, _ in calls:
        builder.operator(name, start, end - start)
    trace = read_trace(builder.write(tmp_path_factory.mktemp("short") / "trace.json"))
    window = timeline(trace).window
    found = short_operators(trace, training_thread(trace, window), window)
    spent, counts = dict.fromkeys(NAMES, 0), dict.fromkeys(NAMES, 0)
    for name, *_ in calls:
        counts[name] += 1
    for moment in range(100):
        around = [one for one in calls if one[1] <= moment < one[2]]
        if around:
            spent[max(around, key=lambda one: one[3])[0]] += 1
    lengths = [end - start for _, start, end, depth in calls if depth == 0]
    assert found.count == len(lengths)
    assert found.median_ns == (int(1000 * statistics.median(lengths)) if lengths else None)
    assert found.short_ns == 1000 * sum(spent[n] for n in NAMES if spent[n] < 20 * counts[n])
    assert found.pauses_ns == 1000 * (70 - sum(lengths))


def test_a_step_of_many_short_operators_is_a_note(tmp_path):
    builder = TraceBuilder()
    for number in range(3):
        start = 10_000 * number
        builder.step(number, start, 10_000)
        for place in range(900):
            builder.operator("aten::mul", start + 11 * place, 6)
    found = diagnose_trace(builder.write(tmp_path / "trace.json", deviceProperties=[]))
    (finding,) = found.findings
    assert (finding.rule, finding.severity) == ("kern-small-ops-cpu", "info")
    assert finding.summary.startswith("A step has 900 operators, half of them shorter than 6 µs")
