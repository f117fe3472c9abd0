"""Kinds, sizes, speed and overlap of collectives, against loops over the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_collectives import plain_collectives
from trace_builder import TraceBuilder

from trainprof.profiler.traces.collectives import bus_factor, collectives, kind_of
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.rank_traces import diagnose_traces
from trainprof.rules.trace_diagnosis import diagnose_trace
from trainprof.rules.trace_signals.collectives import measure
from trainprof.rules.trace_signals.traced import Traced

REAL = Path(__file__).parents[4] / "shared" / "traces"


def real(name):
    found = sorted(REAL.glob(name))
    if not found:
        pytest.skip("the real traces are not there")
    return found


def agrees(path):
    trace = read_trace(path)
    lines = timeline(trace)
    found = collectives(trace, lines)
    window = (lines.window.start_ns, lines.window.end_ns)
    plain = plain_collectives(path, lines.devices[0].device, window)
    assert plain == {
        "count": len(found),
        "sizes": found.size.tolist(),
        "rows": int(found.follows.sum()),
        "idle": int(found.idle_ns.sum()),
        "exposed": found.exposed_ns,
        "hidden": found.hidden_ns,
        "exposed_in_rows": found.exposed_in_rows_ns,
    }
    sized = [one for one in range(len(found)) if found.size[one] > 0 and found.ranks[one] > 1]
    length = sum(int(found.events.end_ns[one] - found.events.start_ns[one]) for one in sized)
    speed = sum(plain["sizes"][one] for one in sized) / length * 1e9 if length else None
    assert found.algorithm_bytes_per_s(1) == (speed and pytest.approx(speed))
    factors = {"all-reduce": 2.0, "all-to-all": 1.0}
    moved = sum(
        plain["sizes"][one] * factors[found.kinds[one]] * (1 - 1 / int(found.ranks[one]))
        for one in sized
    )
    assert found.bus_bytes_per_s(1) == (speed and pytest.approx(moved / length * 1e9))
    return found


def test_a_real_training_of_eight_ranks():
    for path in real("dlrm-8ranks-v100/*"):
        found = agrees(path)
        assert {kind: one.count for kind, one in found.by_kind.items()} == {
            "all-to-all": 5,
            "all-reduce": 3,
        }
        assert set(found.ranks.tolist()) == {8}


def test_gradients_of_a_real_training_that_are_averaged_one_by_one():
    (path,) = real("unbucketed-allreduce-v100/*")
    trace = read_trace(path)
    found = collectives(trace, timeline(trace))
    assert len(found) == 2020
    assert int(found.follows.sum()) == 5 * 403
    assert found.overlap_share == 0.0
    diagnosis = diagnose_trace(path)
    first, second = diagnosis.findings[:2]
    assert (first.rule, second.rule) == ("dist-unbucketed", "kern-launch-bound")
    assert "Gradients are averaged one by one: 403 all-reduces a step" in first.summary
    assert first.suppresses == ("dist-comm-unhidden",)
    assert first.share == pytest.approx(0.347, abs=0.003)
    signals = measure(Traced(trace, timeline(trace)))
    assert signals["collectives.median_bytes"].value is None
    assert "record_shapes" in signals["collectives.median_bytes"].reason


def test_gloo_on_the_host():
    (path,) = real("cpu-only-adagrad/*")
    trace = read_trace(path)
    found = collectives(trace, timeline(trace))
    assert found.on_host
    assert set(found.kinds) == {"all-reduce"}
    assert found.size.tolist()[0] == 321_271 * 4
    signals = measure(Traced(trace, timeline(trace)))
    assert signals["collectives.per_step"].value == 2.0
    assert signals["collectives.overlap_share"].value is None


TENSORS = (("float", 4), ("c10::BFloat16", 2), ("double", 8))
pieces = st.tuples(
    st.sampled_from(["gemm", "all_reduce", "all_to_all", "copy"]),
    st.integers(0, 60),
    st.integers(1, 40),
    st.sampled_from(["message", "annotation", "nothing"]),
    st.sampled_from(TENSORS),
    st.integers(1, 4000),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(pieces, min_size=1, max_size=40), st.booleans())
def test_built_traces_agree_with_loops_over_them(tmp_path, events, marked):
    builder = TraceBuilder()
    time = 1000
    builder.kernel("gemm", time, 5, correlation=1)
    for number, (what, pause, length, said, (element, _), count) in enumerate(events, 2):
        time += pause
        stream = 9 if what.startswith("all") else 7
        if what == "copy":
            builder.copy(time, length, stream=3)
        elif what == "gemm":
            builder.kernel("gemm", time, length, stream=stream, correlation=number)
        else:
            at = 10_000 + 100 * number
            tell(builder, said, at, what, element, count)
            builder.call("cudaLaunchKernelExC", at + 20, 5, correlation=number)
            name = "ncclDevKernel_AllReduce" if what == "all_reduce" else "ncclDevKernel_SendRecv"
            builder.kernel(name, time, length, stream=stream, correlation=number)
    if marked:
        builder.step(1, 1010, 300)
    path = builder.write(tmp_path / "trace.json", distributedInfo={"rank": 0, "world_size": 4})
    agrees(path)


def tell(builder, said, at, what, element, count, group=4):
    if said == "message":
        builder.operator(
            "record_param_comms",
            at,
            50,
            **{
                "Collective name": what,
                "In msg nelems": count,
                "Out msg nelems": count,
                "dtype": element.removeprefix("c10::"),
                "Group size": group,
            },
        )
    if said == "message":
        builder._add("user_annotation", f"nccl:{what}", at + 5, 40, 100)
    elif said == "annotation":
        shapes = {"Input Dims": [[count]], "Input type": [element]}
        builder._add("user_annotation", f"nccl:{what}", at, 50, 100, **shapes)


def sent(tmp_path, kernel, what, elements, length, said="message", group=4, **header):
    builder = TraceBuilder().step(1, 0, 1000)
    tell(builder, said, 100, what, "float", elements, group)
    builder.call("cudaLaunchKernel", 120, 5, correlation=7)
    builder.kernel(kernel, 200, length, correlation=7)
    trace = read_trace(builder.write(tmp_path / "trace.json", **header))
    return collectives(trace, timeline(trace))


def test_bus_bandwidth_is_that_of_nccl_tests(tmp_path):
    found = sent(tmp_path, "ncclDevKernel_AllReduce", "allreduce", 1_000_000, 100)
    # 4 MB in 100 us are 40 GB/s; an all-reduce over 4 ranks sends 1.5 bytes for each of them
    assert found.bus_bytes_per_s(2**20) == pytest.approx(60e9)
    assert found.algorithm_bytes_per_s(2**20) == pytest.approx(40e9)
    assert found.bus_bytes_per_s(2**23) is None
    assert found.algorithm_bytes_per_s(2**23) is None
    for kind, factor in [("all-gather", 0.75), ("reduce-scatter", 0.75), ("all-to-all", 0.75),
                         ("broadcast", 1.0), ("send/recv", 1.0), ("all-reduce", 1.5)]:  # fmt: skip
        assert bus_factor(kind, 4) == factor


def test_an_all_gather_is_as_large_as_what_comes_out(tmp_path):
    world = {"distributedInfo": {"rank": 0, "world_size": 8}}
    found = sent(
        tmp_path,
        "ncclKernel_AllGather_RING_LL_Sum_int8_t",
        "all_gather",
        1000,
        9,
        "annotation",
        **world,
    )
    assert (found.size.tolist(), found.ranks.tolist()) == ([32_000], [8])
    told = sent(tmp_path, "ncclDevKernel_AllGather_RING_LL", "all_gather", 1000, 9, group=2)
    assert (told.size.tolist(), told.ranks.tolist()) == ([8_000], [2])
    unknown = sent(tmp_path, "ncclKernel_AllGather", "all_gather", 1000, 9, "annotation")
    assert unknown.size.tolist() == [-1]


def test_an_all_to_all_is_told_from_sends(tmp_path):
    found = sent(tmp_path, "ncclDevKernel_SendRecv(x)", "all_to_allv", 100, 9)
    assert found.kinds == ("all-to-all",)
    alone = sent(tmp_path, "ncclDevKernel_SendRecv(x)", "all_to_allv", 100, 9, "nothing")
    assert alone.kinds == ("send/recv",)
    assert sent(tmp_path, "ncclDevKernel_Generic(x)", "reduce_scatter", 1, 9).kinds == (
        "reduce-scatter",
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ncclKernel_AllReduce_RING_LL_Sum_float(ncclWorkElem)", "all-reduce"),
        ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL", "reduce-scatter"),
        ("ncclKernel_Broadcast_RING_LL_Sum_int8_t", "broadcast"),
        ("ncclDevKernel_Reduce_Sum_f32_RING_LL", "reduce"),
        ("nccl:_all_gather_base", "all-gather"),
        ("c10d::alltoall_base_", "all-to-all"),
        ("ncclDevKernel_Generic_4", "other"),
    ],
)
def test_kinds_by_name(name, kind):
    assert kind_of(name) == kind


def exchanging(tmp_path, rank, arrives, kernels=1):
    """A step of 1 ms: computing, then all-reduces until 900 us."""
    builder = TraceBuilder().step(1, 0, 1000).kernel("gemm", 0, arrives)
    length = (900 - arrives) // kernels
    for number in range(kernels):
        builder.kernel("ncclDevKernel_AllReduce", arrives + number * length, length - 1, stream=9)
    path = tmp_path / f"rank{rank}.json"
    return builder.write(path, distributedInfo={"rank": rank, "world_size": 2})


def test_waiting_for_a_late_rank_is_no_slow_exchange(tmp_path):
    late = [exchanging(tmp_path, 0, 500), exchanging(tmp_path, 1, 890)]
    rules = [finding.rule for finding in diagnose_traces(late)[0].findings]
    assert rules == ["dist-late-rank"]
    slow = [exchanging(tmp_path, 0, 500), exchanging(tmp_path, 1, 510)]
    (found,) = diagnose_traces(slow)
    assert [finding.rule for finding in found.findings] == ["dist-comm-unhidden"]
    assert found.findings[0].share == pytest.approx(0.389, abs=0.01)
    assert found.findings[0].confidence == "medium"


def test_one_rank_does_not_tell_what_is_waiting(tmp_path):
    found = diagnose_trace(exchanging(tmp_path, 0, 500))
    assert [finding.rule for finding in found.findings] == ["dist-comm-unhidden"]
    assert found.findings[0].confidence == "low"
    assert "waiting for other ranks is in it" in found.findings[0].summary


def test_many_small_ones_are_one_cause(tmp_path):
    found = diagnose_trace(exchanging(tmp_path, 0, 500, kernels=40))
    assert found.findings[0].rule == "dist-unbucketed"
    assert "dist-comm-unhidden" in found.findings[0].suppresses


def accumulating(tmp_path, micro_batches, sends_each):
    """Three updates, each of some forwards of DDP; half of the device's time is an all-reduce."""
    builder = TraceBuilder()
    for step in range(3):
        start = 1000 * step
        builder.step(step, start, 1000)
        length = 900 // micro_batches
        for number in range(micro_batches):
            at = start + number * length
            builder._add("user_annotation", "DistributedDataParallel.forward", at, 10, 100)
            builder.kernel("gemm", at, length // 2)
            if sends_each or number == micro_batches - 1:
                builder._add("user_annotation", "nccl:all_reduce", at + 20, 5, 100)
                name = "ncclDevKernel_AllReduce"
                builder.kernel(name, at + length // 2, length // 2, stream=9)
        builder._add("user_annotation", "Optimizer.step#SGD.step", start + 950, 20, 100)
    path = tmp_path / "trace.json"
    return builder.write(path, distributedInfo={"rank": 0, "world_size": 2})


@pytest.mark.parametrize(
    ("micro_batches", "sends_each", "fires"), [(4, True, True), (4, False, False), (1, True, False)]
)
def test_gradients_that_are_sent_after_each_micro_batch(tmp_path, micro_batches, sends_each, fires):
    found = diagnose_trace(accumulating(tmp_path, micro_batches, sends_each))
    signals = found.facts["signals"]
    assert signals["step.micro_batches"]["value"] == micro_batches
    expected = 1.0 if sends_each else 1 / micro_batches
    assert signals["distributed.synced_share"]["value"] == expected
    rules = {finding.rule: finding for finding in found.findings}
    assert ("dist-accum-nosync" in rules) == fires
    if fires:
        assert "averaged 4 times per update" in rules["dist-accum-nosync"].summary
        assert "dist-comm-unhidden" in rules["dist-accum-nosync"].suppresses


def test_two_models_of_a_real_training_are_no_micro_batches():
    for path in real("dlrm-8ranks-v100/*")[:1]:
        found = diagnose_trace(path)
        assert "dist-accum-nosync" not in [finding.rule for finding in found.findings]


odd = st.sampled_from(
    [
        None,
        -1,
        0,
        3,
        2**40,
        2**62,
        2**70,
        1e300,
        "",
        "float",
        "Float",
        [],
        [[2**50]],
        [["a"]],
        {},
        True,
    ]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_a_trace_says_of_messages_and_memory_may_be_anything(tmp_path, data):
    builder = TraceBuilder().step(1, 0, 1000)
    for number in range(4):
        at = 100 * number
        tell(builder, "message" if number % 2 else "annotation", at, "all_gather", "float", 9)
        builder.call("cudaLaunchKernel", at + 20, 5, correlation=number + 1)
        builder.kernel("ncclDevKernel_AllGather", at + 30, 40, correlation=number + 1)
        given_ = {"Bytes": 4, "Total Allocated": 8, "Total Reserved": 16, "Device Id": 0}
        builder.events.append({"ph": "i", "name": "[memory]", "ts": at, "args": given_})
    for event in data.draw(st.lists(st.sampled_from(builder.events), max_size=8)):
        if event["args"]:
            event["args"][data.draw(st.sampled_from(sorted(event["args"])))] = data.draw(odd)
    header = {"distributedInfo": {"rank": data.draw(odd), "world_size": data.draw(odd)}}
    devices = [{"id": 0, "totalGlobalMem": data.draw(odd)}]
    path = builder.write(tmp_path / "trace.json", deviceProperties=devices, **header)
    assert diagnose_trace(path).verdict in ("bottleneck", "healthy", "insufficient")
