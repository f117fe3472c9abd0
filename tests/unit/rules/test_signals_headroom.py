"""Signals headroom.* and devices.*."""

import pytest
from builders import build_run, build_samples, build_steps, build_trainer

from trainprof.profiler.model.records import GpuSample
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training

MEBI = 2**20


def signals(*, gpus=None, data_parallel=None):
    model = {
        "parameter_bytes": 100 * MEBI,
        "parameter_count": 10,
        "trainable_count": 5,
        "devices": {"cpu": 10},
        "trained": True,
    }
    if data_parallel is not None:
        model["data_parallel_devices"] = data_parallel
    facts = [
        ("model", "m0", model),
        ("optimizer", "o0", {"type": "Adam", "state_bytes": 300 * MEBI}),
        ("memory", "peak", {"peak_rss_bytes": 900 * MEBI}),
    ]
    samples = build_samples(12, available_bytes=100 * MEBI)
    if gpus is not None:
        looked = tuple(GpuSample(i, utilization_share=share) for i, share in enumerate(gpus))
        samples = tuple(type(s)(s.at_ns, s.machine, s.processes, looked) for s in samples)
    trainer = build_trainer(build_steps(100, {"forward": 100.0}), facts=facts)
    run = build_run(trainer, samples=samples)
    return measure(Training(run, run.sessions[0]))


def test_memory_by_part():
    measured = signals()

    assert measured.get("headroom.peak_share").value == pytest.approx(0.9)
    assert measured.get("headroom.state_share").value == pytest.approx(0.3)
    assert measured.get("headroom.gradients_and_state_share").value == pytest.approx(0.35)


def test_idle_devices():
    measured = signals(gpus=[0.9, 0.0, 0.01])

    assert measured.get("devices.count").value == 3
    assert measured.get("devices.idle_count").value == 2


def test_no_gpu_is_not_zero_gpus():
    assert signals().get("devices.count").value is None


def test_devices_of_data_parallel():
    assert signals(data_parallel=4).get("devices.data_parallel").value == 4
    assert signals().get("devices.data_parallel").value == 0


@pytest.mark.parametrize(
    ("own", "other", "share"),
    [
        ({"memory_total_bytes": 1000}, {"memory_total_bytes": 100}, 0.5),
        ({"memory_total_bytes": 1000, "mig_enabled": True}, {"memory_total_bytes": 1000}, None),
    ],
)
def test_memory_there_is_is_that_of_the_trainings_gpu(own, other, share):
    """A small card for the screen does not count, nor does the whole of a split one."""
    facts = [
        ("model", "m0", {"devices": {"cuda:0": 10}, "parameter_bytes": 10, "parameter_count": 10}),
        ("memory", "peak", {"accelerator_peak_bytes": 500}),
    ]
    cards = (GpuSample(0, process_pids=(100,), **own), GpuSample(1, **other))
    samples = tuple(
        type(one)(one.at_ns, one.machine, one.processes, cards) for one in build_samples(12)
    )
    run = build_run(
        build_trainer(build_steps(100, {"forward": 100.0}), facts=facts), samples=samples
    )
    assert measure(Training(run, run.sessions[0])).get("headroom.peak_share").value == share
