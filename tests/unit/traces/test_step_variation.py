"""Steps that are far longer than the others, and what is said to have grown in them."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_launches import events_of
from plain_timeline import clipped, total
from trace_builder import TraceBuilder

from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.step_variation import step_variation
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace

REAL = Path(__file__).parents[4] / "shared" / "traces"


def variation(path):
    trace = read_trace(path)
    return step_variation(trace, timeline(trace))


def plain_variation(path):
    """Median, deviation, outliers and, of the longest, what grew and by how much."""
    events = [e for e in events_of(path) if e[0] not in ("kernel", "gpu_memcpy", "gpu_memset")]
    steps = [e for e in events if e[1].startswith("ProfilerStep")]
    lengths = [e[3] - e[2] for e in steps]
    middle = int(median(lengths))
    deviation = int(median(abs(one - middle) for one in lengths))
    bound = max(5 * 1.4826 * deviation, 0.2 * middle)
    outliers = [one - middle > bound for one in lengths]
    if not any(outliers):
        return middle, deviation, outliers, None, 0
    longest, candidates = lengths.index(max(lengths)), []
    excess = lengths[longest] - middle
    for name in {e[1] for e in events} - {e[1] for e in steps}:
        own = [e for e in events if e[1] == name]
        called, spent = [0] * len(steps), []
        for place, (_, _, start, end, _) in enumerate(steps):
            called[place] = sum(min(e[3], end) - e[2] for e in own if start <= e[2] < end)
            spent.append(total(clipped([e[2:4] for e in own if any(
                s[2] <= e[2] < s[3] for s in steps)], start, end)))  # fmt: skip
        grown = [_growth(one, longest) for one in (called, spent)]
        if min(grown) >= excess / 2:
            candidates.append((spent[longest], name, int(grown[1])))
    least = min(candidates, default=(0, None, 0))
    return middle, deviation, outliers, least[1:] if least[1] else None, candidates


def _growth(spent, longest):
    return spent[longest] - median(spent[:longest] + spent[longest + 1 :])


def compared(path):
    found = variation(path)
    middle, deviation, outliers, named, candidates = plain_variation(path)
    assert (found.median_ns, found.deviation_ns) == (middle, deviation)
    assert found.outliers.tolist() == outliers
    if named is None:
        assert found.grown is None
    else:  # of equally long ones any
        equal = [one[1:] for one in candidates if one[0] == min(candidates)[0]]
        assert (found.grown, found.grown_ns) in equal
    return found


def test_the_long_step_of_a_real_training_waited_in_a_collective():
    paths = sorted(REAL.glob("cpu-only-adagrad/*"))
    if not paths:
        pytest.skip("the real traces are not there")
    found = compared(paths[0])
    assert found.mark == "ProfilerStep#553"
    assert found.outliers.tolist() == [False, False, True, False, False]
    assert found.lengths_ns.max() / 1e6 == pytest.approx(425.2, abs=0.1)
    assert found.median_ns / 1e6 == pytest.approx(219.5, abs=0.1)
    assert (found.grown, found.grown_ns // 1_000_000) == ("gloo:all_reduce", 205)


@pytest.mark.confirms("loop-long-step", on="recorded traces")
def test_a_long_step_is_a_note_that_names_it():
    paths = sorted(REAL.glob("cpu-only-adagrad/*"))
    if not paths:
        pytest.skip("the real traces are not there")
    found = next(one for one in diagnose_trace(paths[0]).findings if one.rule == "loop-long-step")
    assert found.severity == "info"
    assert found.summary == (
        "ProfilerStep#553 took 425 ms against 219 ms of the median step: gloo:all_reduce took "
        "205 ms more."
    )


@st.composite
def traces(draw):
    builder, at = TraceBuilder(), 100
    for number in range(draw(st.integers(4, 7))):
        length = draw(st.sampled_from([100, 100, 102, 105, 130, 300]))
        builder.step(number, at, length)
        for name in draw(st.lists(st.sampled_from(["aten::mm", "aten::add", "save"]), max_size=4)):
            begin = draw(st.integers(0, length))
            thread = draw(st.sampled_from([100, 101]))
            builder.operator(name, at + begin, draw(st.integers(1, 220)), thread)
        at += length + draw(st.integers(0, 5))
    return builder


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(traces())
def test_any_trace_is_reckoned_alike(tmp_path, builder):
    compared(builder.write(tmp_path / "trace.json"))


def steps(tmp_path, lengths):
    """Steps with a kernel of 50 us each; the rest of a step is spent in an operator."""
    builder, at = TraceBuilder(), 0
    for number, length in enumerate(lengths):
        builder.step(number, at, length).operator("aten::mm", at, 40)
        builder.call("cudaLaunchKernel", at, 5, number).kernel("gemm", at + 10, 50, 7, 0, number)
        builder.operator("outer", at + 60, length - 62).operator(
            "save_checkpoint", at + 61, length - 65
        )
        at += length
    return builder.write(tmp_path / "trace.json")


def test_what_grew_is_told_of_host_and_device(tmp_path):
    path = steps(tmp_path, [100, 100, 101, 200, 99, 100])
    found = compared(path)
    assert (found.longest, found.mark) == (3, "ProfilerStep#3")
    assert (found.grown, found.grown_ns) == ("save_checkpoint", 100_000)
    assert found.parts["idle: checkpoint"] == 100_000
    assert found.parts["computing"] == 0
    finding = next(one for one in diagnose_trace(path).findings if one.rule == "loop-long-step")
    assert (
        "save_checkpoint took 100 µs more, and the device was idle: checkpoint" in finding.summary
    )
    assert finding.share == pytest.approx(100 / 700)


def test_steps_alike_and_too_few_steps_have_no_outlier(tmp_path):
    assert not variation(steps(tmp_path, [100, 115, 90, 110, 100])).outliers.any()
    assert variation(steps(tmp_path, [100, 100, 500])) is None
    assert variation(steps(tmp_path, [100, 300, 500, 100, 240])).mark is None
