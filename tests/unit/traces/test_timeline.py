"""What devices did, and what the host did meanwhile, against a plain second reckoning."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_timeline import plain_timeline
from trace_builder import TraceBuilder

from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.rules.trace_diagnosis import diagnose_trace

REAL = Path(__file__).parents[4] / "shared" / "traces"
WAITING = "input-bound-v100-workers0/worker0"
WITH_WORKERS = "input-fixed-v100-workers4/worker0"
NUMBERS = {  # span in ms, busy, communication, exposed, data wait in % of it
    "gpu-bound-v100/rank-0.Apr_03_18_51_38.1102": (394.28, 97.4, 0, 0, 0),
    "unbucketed-allreduce-v100/df_index_resolver": (1737.9, 57.6, 20.6, 20.6, 0),
    f"{WAITING}.1623143089861": (1049.32, 56.0, 0, 0, 39.6),
    f"{WAITING}.v2": (928.79, 70.4, 0, 0, 30.1),
    f"{WITH_WORKERS}.1623212756351": (838.49, 72.4, 0, 0, 1.0),
    f"{WITH_WORKERS}.v2": (769.78, 87.0, 0, 0, 1.3),
    "launch-bound-h100-inference/gaunernst_bert-small-uncased__1016001": (4.43, 7.0, 0, 0, 0),
}


def real(name):
    found = sorted(REAL.glob(f"{name}*" if "/" in name else f"{name}/*"))
    if not found:
        pytest.skip("the real traces are not there")
    return found[0]


def compared(path):
    """Both reckonings as one pair of comparable values."""
    found = timeline(read_trace(path))
    devices = {
        one.device: (one.busy_ns, one.compute_ns, one.communication_ns, one.exposed_ns)
        for one in found.devices
    }
    ours = {"window": found.window.length_ns, "data_wait": found.data_wait_ns, "devices": devices}
    return ours, plain_timeline(path)


@pytest.mark.parametrize(("name", "numbers"), NUMBERS.items(), ids=list(NUMBERS))
def test_real_traces_say_what_others_have_read_from_them(name, numbers):
    found = timeline(read_trace(real(name)))
    window, device = found.window, found.devices[0]
    lengths = (device.busy_ns, device.communication_ns, device.exposed_ns, found.data_wait_ns)
    assert window.length_ns / 1e6 == pytest.approx(numbers[0], rel=1e-3)
    assert [100 * one / window.length_ns for one in lengths] == pytest.approx(numbers[1:], abs=0.06)
    assert device.busy_ns + device.idle_ns == window.length_ns
    assert sum(device.causes.values()) == device.idle_ns


@pytest.mark.parametrize(
    "name",
    [
        "gpu-bound-v100",  # in nanoseconds
        f"{WAITING}.v2",  # names of 2021
        "launch-bound-h100-inference",
        *(f"dlrm-8ranks-v100/worker{rank}" for rank in range(8)),
    ],
)
def test_real_traces_are_reckoned_alike(name):
    ours, theirs = compared(real(name))
    assert ours == theirs


def test_a_device_that_waits_for_batches_and_one_that_does_not():
    waiting = timeline(read_trace(real(f"{WAITING}.1623143089861")))
    fixed = timeline(read_trace(real(f"{WITH_WORKERS}.1623212756351")))
    shares = [one.devices[0].causes["data wait"] / one.window.length_ns for one in (waiting, fixed)]
    assert shares[0] > 0.3
    assert shares[1] < 0.01
    assert (waiting.window.text, waiting.window.steps) == ("6 whole steps", 6)


times = st.integers(0, 400)
lengths = st.integers(0, 60)
names = st.sampled_from(["gemm", "ncclDevKernel_AllReduce_Sum_f32", "elementwise"])


@st.composite
def traces(draw):
    builder = TraceBuilder(capitals=draw(st.booleans()))
    for number in range(draw(st.integers(0, 3))):
        builder.step(number, 50 + 100 * number, draw(st.integers(1, 100)))
    for _ in range(draw(st.integers(1, 12))):
        device, stream = draw(st.integers(0, 1)), draw(st.sampled_from([7, 20]))
        builder.kernel(draw(names), draw(times), draw(lengths), stream, device)
    for _ in range(draw(st.integers(0, 5))):
        builder.copy(draw(times), draw(lengths))
    for _ in range(draw(st.integers(0, 4))):
        builder.wait(draw(times), draw(lengths))
    for _ in range(draw(st.integers(0, 6))):
        builder.call(draw(st.sampled_from(["cudaLaunchKernel", "cudaMalloc"])), draw(times), 5)
    return builder


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(traces())
def test_any_trace_is_reckoned_alike(tmp_path, builder):
    ours, theirs = compared(builder.write(tmp_path / "trace.json"))
    assert ours == theirs
    found = timeline(read_trace(tmp_path / "trace.json"))
    for device in found.devices:
        assert device.busy_ns + device.idle_ns == found.window.length_ns
        assert sum(device.causes.values()) == device.idle_ns


def test_idle_time_is_charged_to_what_the_host_did(tmp_path):
    builder = TraceBuilder().step(1, 0, 100).kernel("gemm", 90, 10, correlation=5)
    builder.wait(0, 20).call("cudaStreamSynchronize", 15, 10).call("cudaMalloc", 25, 5)
    builder.operator("aten::mm", 30, 40).call("cudaLaunchKernel", 40, 6, correlation=5)
    device = timeline(read_trace(builder.write(tmp_path / "trace.json"))).devices[0]
    assert {cause: length for cause, length in device.causes.items() if length} == {
        "data wait": 20_000,
        "synchronisation": 5_000,
        "allocator": 5_000,
        "launch call": 6_000,
        "operator": 34_000,
        "other work of the host": 20_000,
    }


def test_a_trace_without_a_device_has_no_device(tmp_path):
    builder = TraceBuilder().step(1, 0, 100).operator("aten::mm", 10, 50)
    found = timeline(read_trace(builder.write(tmp_path / "trace.json")))
    assert found.devices == ()
    assert found.window.text == "one whole step"


def test_of_very_many_devices_the_busiest_are_told(tmp_path):
    """Each is gone through by itself: 20,000 of them took the better part of an hour."""
    builder = TraceBuilder()
    for device in range(70):
        for number in range(1 + (device > 5)):
            builder.kernel("gemm", 100 * device + 10 * number, 5, device=device)
    path = builder.write(tmp_path / "trace.json")
    found = timeline(read_trace(path))
    assert (len(found.devices), found.left_out) == (64, 6)
    assert min(one.device for one in found.devices) == 6
    assert "6 devices that did less than these are left out" in diagnose_trace(path).problems
