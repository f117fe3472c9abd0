"""What a change would gain: simulated on the dependencies of a trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from random_trainings import trainings
from trace_builder import TraceBuilder

from trainprof.profiler.model.diagnosis import Gain
from trainprof.profiler.traces import what_if as module
from trainprof.profiler.traces.arrivals import arrivals, collectives
from trainprof.profiler.traces.changes import CHANGES
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.simulated_changes import SIMULATED
from trainprof.profiler.traces.timeline import timeline
from trainprof.profiler.traces.what_if import bottleneck, saved_of, what_if
from trainprof.rules.catalogue import catalogue
from trainprof.rules.trace_diagnosis import diagnose_trace

REAL = Path(__file__).parents[4] / "shared" / "traces"
PAIRS = [
    ("worker0.1623143089861", "worker0.1623212756351"),
    ("worker0.v2", "worker0.v2"),
]
FEW = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def test_rules_name_changes_that_there_are():
    named = {rule.what_if for rule in catalogue() if rule.what_if is not None}
    assert {"no-data-wait", "fewer-launches", "balanced-ranks"} <= named <= set(CHANGES)
    assert set(SIMULATED) == set(CHANGES)


def simulated(path, **how):
    trace = read_trace(path)
    return what_if(trace, timeline(trace), **how)


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_workers_gained_what_was_predicted(before, after):
    """Two trainings on a V100, recorded before and after their loader got four workers."""
    old = [*REAL.glob(f"input-bound-v100-workers0/{before}*")]
    new = [*REAL.glob(f"input-fixed-v100-workers4/{after}*")]
    if not old or not new:
        pytest.skip("the real traces are not there")
    was, became = (timeline(read_trace(one)).window.length_ns for one in (old[0], new[0]))
    outcome = simulated(old[0]).outcomes["no-data-wait"]
    predicted = was / Gain(outcome.low, outcome.high).middle
    assert predicted == pytest.approx(became, rel=0.15)
    assert outcome.low < was / became * 1.15
    assert outcome.high > was / became
    assert outcome.next_bottleneck == "computation on the device"


def test_what_does_not_bound_a_real_training_gains_nothing():
    found = [*REAL.glob("unbucketed-allreduce-v100/*")]
    if not found:
        pytest.skip("the real traces are not there")
    result = simulated(found[0])
    assert (result.steps, result.all_steps, result.doubt) == (2, False, None)
    assert result.outcomes["overlapped-communication"].high < 1.01  # the host is slower
    assert result.outcomes["fewer-launches"].low > 1.2


def test_ranks_that_arrive_together_gain_on_the_rank_that_waits():
    paths = sorted(REAL.glob("dlrm-8ranks-v100/*"))
    if not paths:
        pytest.skip("the real traces are not there")
    traces = {rank: read_trace(path) for rank, path in enumerate(paths)}
    both = {rank: (trace, timeline(trace)) for rank, trace in traces.items()}
    found = arrivals({rank: collectives(*one) for rank, one in both.items()})
    waits = found.waits_ns
    rank = max(waits, key=lambda one: waits[one])
    assert rank == 1
    outcome = what_if(*both[1], saved_ns=saved_of(*both[1], found, 1)).outcomes
    balanced = outcome["balanced-ranks"]
    assert 1.0 < balanced.low < balanced.high
    assert balanced.high <= both[1][1].window.length_ns / both[7][1].window.length_ns * 1.15


@FEW
@given(trainings())
def test_a_change_that_only_removes_never_costs(tmp_path, builder):
    found = simulated(builder.write(tmp_path / "trace.json"))
    for outcome in found.outcomes.values():
        assert outcome.low <= outcome.high
        if outcome.change not in ("larger-batch", "no-data-wait"):
            assert outcome.low >= 1.0
        assert sum(outcome.parts_ns.values()) > 0


def steps(each, count=4, length=100):
    """Steps that are all alike: `each` adds the events of one, from its start on."""
    builder = TraceBuilder()
    for number in range(count):
        builder.step(number, number * length, length)
        each(builder, number * length, 10 * number + 1)
    return builder


def launch(builder, at, start, length, number, name="sgemm"):
    builder.call("cudaLaunchKernel", at, 5, correlation=number)
    builder.kernel(name, start, length, correlation=number)


def test_waits_for_batches(tmp_path):
    def each(builder, start, number):
        builder.wait(start, 50)
        launch(builder, start + 50, start + 56, 40, number)

    found = simulated(steps(each).write(tmp_path / "trace.json"))
    outcome = found.outcomes["no-data-wait"]
    assert outcome.high == pytest.approx(2.0)
    assert outcome.low == pytest.approx(100 / 62.5)  # workers slow the host down to 62.5 us
    assert bottleneck(found.path.parts_ns) == "the wait for batches"
    one = simulated(tmp_path / "trace.json", workers=1).outcomes["no-data-wait"]
    assert one.high == pytest.approx(2.0)  # a worker prepares a batch in the 50 us of a step


def test_workers_that_are_slower_than_the_training(tmp_path):
    def each(builder, start, number):
        builder.wait(start, 80)
        launch(builder, start + 80, start + 86, 14, number)

    path = steps(each).write(tmp_path / "trace.json")
    highs = [simulated(path, workers=n).outcomes["no-data-wait"].high for n in (1, 2, 4)]
    assert highs == pytest.approx([100 / 80, 100 / 40, 100 / 20])


def test_synchronisations(tmp_path):
    def each(builder, start, number):
        launch(builder, start, start + 6, 44, number)
        builder.call("cudaDeviceSynchronize", start + 5, 45)
        builder.operator("aten::add", start + 50, 50)

    found = simulated(steps(each).write(tmp_path / "trace.json"))
    outcome = found.outcomes["fewer-synchronisations"]
    assert outcome.high > 1.7  # the host's 55 us of 100 are left
    assert outcome.next_bottleneck == "the host, in operators"


def queued(works, count=4):
    """Steps in which the host launches work of these names and lengths long before it runs."""
    builder, free, number = TraceBuilder(), 6, 0
    for step in range(count):
        builder.step(step, 20 * step, 20)
        for place, (name, length) in enumerate(works):
            number += 1
            launch(builder, 20 * step + 6 * place, free, length, number, name)
            free += length
    return builder


def test_matrices_in_tensor_core_precision(tmp_path):
    builder = queued([("volta_sgemm_128x64_nn", 60), ("elementwise", 40)])
    path = builder.write(tmp_path / "trace.json")
    outcome = simulated(path, tensor_cores=True).outcomes["tensor-cores"]
    assert outcome.low == pytest.approx(100 / (40 + 60 / 1.5), rel=0.05)
    assert outcome.high == pytest.approx(100 / (40 + 60 / 3), rel=0.05)
    assert "tensor-cores" not in simulated(path, tensor_cores=False).outcomes


def test_a_larger_batch_pays_where_the_host_is_slow(tmp_path):
    def slow_host(builder, start, number):
        builder.operator("aten::mm", start, 100)
        launch(builder, start + 10, start + 16, 20, number)

    def slow_device(builder, start, number):
        launch(builder, start, start + 6, 100, number)

    pays, not_so = (
        simulated(steps(each).write(tmp_path / "trace.json")).outcomes["larger-batch"]
        for each in (slow_host, slow_device)
    )
    assert (pays.low, pays.batches) == (pytest.approx(2.0), 2)
    assert not_so.low == pytest.approx(1.0, rel=0.05)


def test_exposed_communication(tmp_path):
    path = queued([("sgemm", 60), ("ncclDevKernel_AllReduce", 40)]).write(tmp_path / "trace.json")
    outcome = simulated(path).outcomes["overlapped-communication"]
    assert outcome.low == pytest.approx(1.0)  # each step has one collective, and it is the last
    assert outcome.high == pytest.approx(406 / 286, rel=0.02)  # the last one ends after all


def test_no_numbers_where_the_graph_does_not_explain_what_happened(tmp_path):
    builder = TraceBuilder().step(1, 0, 1_000)
    for number in range(4):
        builder.kernel("sgemm", 250 * number, 50)
    found = simulated(builder.write(tmp_path / "trace.json"))
    assert found.outcomes == {}
    assert found.doubt == "the trace does not tell what launched most work of the device"
    diagnosis = diagnose_trace(tmp_path / "trace.json")
    assert diagnosis.missing["what_if"] == found.doubt
    assert diagnosis.what_if == ()


def test_of_a_long_trace_the_usual_steps_are_replayed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_LAUNCHES", 2)

    def each(builder, start, number):
        builder.wait(start, 50)
        launch(builder, start + 50, start + 56, 40, number)

    found = simulated(steps(each).write(tmp_path / "trace.json"))
    assert (found.steps, found.all_steps) == (2, False)
    assert found.outcomes["no-data-wait"].high == pytest.approx(2.0)
    window = diagnose_trace(tmp_path / "trace.json").critical_path.window
    assert window == "2 of 4 whole steps, which take as long as the mean"
    monkeypatch.setattr(module, "MOST_LAUNCHES", 0)
    assert simulated(tmp_path / "trace.json") is None


def test_the_step_after_a_change_is_of_what_devices_still_had_to_do(tmp_path):
    """The host is done with a step of work long before its device is."""
    path = queued([("volta_sgemm_128x64_nn", 60), ("elementwise", 40)]).write(
        tmp_path / "trace.json"
    )
    diagnosis = diagnose_trace(path)
    assert diagnosis.steps.mean_s == pytest.approx(20e-6)
    (change,) = [one for one in diagnosis.what_if if one.change == "larger-batch"]
    assert change.step_after_s == pytest.approx(2 * 101.5e-6 / change.gain.middle)


@pytest.mark.parametrize(("threads", "replayed"), [(module.MOST_THREADS - 1, True), (300, False)])
def test_a_trace_of_very_many_threads_is_not_replayed(tmp_path, threads, replayed):
    builder = TraceBuilder().step(1, 0, 10_000)
    for number in range(threads):
        builder.operator("aten::mm", 10 * number, 8, thread=1_000 + number)
    found = simulated(builder.write(tmp_path / "trace.json"))
    assert (found is not None) is replayed
