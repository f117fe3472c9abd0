"""Shares of clock reasons, link speeds and counters against plain counting."""

from dataclasses import replace

import pytest
from builders import build_run, build_samples, build_steps, build_trainer
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.records import GpuSample
from trainprof.rules.signals.gpu import (
    HARDWARE,
    LANE_BYTES_PER_S,
    LEAST_BUSY,
    LEAST_LOOKS,
    REASONS,
    is_busy,
    reason_share,
)
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training

masks = st.lists(st.none() | st.integers(0, 0x1FF), max_size=40)
looks = st.lists(
    st.builds(
        GpuSample,
        index=st.just(0),
        utilization_share=st.sampled_from([0.0, 0.1, 0.3, 0.9, 1.0]),
        clock_event_reasons=st.none() | st.integers(0, 0x1FF),
        sm_clock_mhz=st.none() | st.integers(100, 2000),
        sm_clock_max_mhz=st.just(2000),
        pcie_width=st.sampled_from([1, 4, 8, 16]),
        pcie_width_max=st.just(16),
        pcie_generation=st.integers(1, 5),
        pcie_generation_max=st.just(5),
        ecc_errors_uncorrected_total=st.none() | st.integers(0, 5),
    ),
    min_size=1,
    max_size=20,
)


def signals_of(gpus, step_ms=100.0):
    samples = [
        replace(one, gpus=(gpu,)) for one, gpu in zip(build_samples(len(gpus)), gpus, strict=True)
    ]
    model = ("model", "m0", {"devices": {"cuda:0": 10}})
    run = build_run(
        build_trainer(build_steps(400, {"forward": step_ms}), facts=[model]), samples=samples
    )
    return measure(Training(run, run.sessions[0]))


def test_the_bits_are_nvmls():
    import pynvml

    bits = {
        "power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
        "hw_slowdown": pynvml.nvmlClocksThrottleReasonHwSlowdown,
        "sw_thermal": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
        "hw_thermal": pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
        "power_brake": pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
    }
    assert bits == REASONS


@given(masks)
def test_share_of_reasons_by_counting(masks):
    for bits in (*REASONS.values(), HARDWARE):
        names = {bit for bit in (1, 2, 4, 8, 16, 32, 64, 128, 256) if bits & bit}
        known = hits = 0
        for mask in masks:
            if mask is not None:
                known += 1
                hits += any(
                    bit in names and (mask // bit) % 2 for bit in (1, 2, 4, 8, 16, 32, 64, 128, 256)
                )
        share = reason_share(masks, bits)
        assert share == (hits / known if known else None)


@given(masks)
def test_a_reason_is_never_more_frequent_than_the_set_that_holds_it(masks):
    whole = reason_share(masks, HARDWARE)
    for name in ("hw_slowdown", "hw_thermal", "power_brake"):
        part = reason_share(masks, REASONS[name])
        assert (part is None) == (whole is None)
        assert part is None or 0.0 <= part <= whole <= 1.0


@given(looks)
def test_what_is_measured_of_busy_looks_by_counting(gpus):
    signals = signals_of(gpus)
    busy = []
    for gpu in gpus:
        idle = gpu.clock_event_reasons is not None and gpu.clock_event_reasons % 2 == 1
        if gpu.utilization_share >= LEAST_BUSY and not idle:
            busy.append(gpu)
    assert [is_busy(gpu) for gpu in gpus] == [gpu in busy for gpu in gpus]
    if signals.get("gpu.looks").value != len(gpus):
        return  # a look before the window
    assert signals.get("gpu.busy_looks").value == len(busy)
    if len(busy) < LEAST_LOOKS:
        assert signals.get("gpu.clock_share").value is None
        return
    clocks = [gpu.sm_clock_mhz / 2000 for gpu in busy if gpu.sm_clock_mhz is not None]
    expected = sum(clocks) / len(clocks) if clocks else None
    assert signals.get("gpu.clock_share").value == (expected and pytest.approx(expected))
    width = max(gpu.pcie_width for gpu in busy)
    generation = max(gpu.pcie_generation for gpu in busy)
    speed = width * LANE_BYTES_PER_S[generation] / (16 * LANE_BYTES_PER_S[5])
    assert signals.get("gpu.pcie_speed_share").value == pytest.approx(speed)


@given(looks)
def test_errors_are_what_the_counter_rose_by(gpus):
    seen = [
        g.ecc_errors_uncorrected_total for g in gpus if g.ecc_errors_uncorrected_total is not None
    ]
    rise = 0
    for place in range(1, len(seen)):
        if seen[place] > seen[place - 1]:
            rise += seen[place] - seen[place - 1]
    assert signals_of(gpus).get("gpu.errors_uncorrected").value == (rise if seen else None)


def test_what_was_not_told_is_missing_and_never_zero():
    signals = signals_of([GpuSample(0, clock_event_reasons=0)] * 20)
    for name in ("clock_share", "temperature_max_c", "power_share", "pcie_width", "memory_share"):
        signal = signals.get(f"gpu.{name}")
        assert (signal.value, bool(signal.reason)) == (None, True)
    for name in ("errors_uncorrected", "rows_remapped", "rows_remap_failed", "pcie_replays"):
        assert signals.get(f"gpu.{name}").value is None


def test_a_failed_collector_says_that_it_is_lost():
    from trainprof.profiler.model.collector_status import CollectorStatus

    model = ("model", "m0", {"devices": {"cuda:0": 10}})
    run = build_run(
        build_trainer(build_steps(400, {"forward": 100.0}), facts=[model]),
        samples=build_samples(20),
        collectors=(CollectorStatus("gpu", "failed", "GPU 0 answered no more in mid-run"),),
    )
    signal = measure(Training(run, run.sessions[0])).get("gpu.clock_share")
    assert signal.lost
    assert "answered no more" in signal.reason
