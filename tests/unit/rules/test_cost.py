"""Money by the settings, energy by measurement, nothing by guess."""

from dataclasses import replace

import pytest
from builders import build_run, build_samples, build_steps, build_trainer

from trainprof.profiler.model.records import GpuSample
from trainprof.rules.costs import Costs
from trainprof.rules.diagnose import diagnose
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training

STEPS = {"data_wait": 4.0, "forward": 6.0}


def signals_of(costs, gpus=()):
    samples = [
        replace(sample, gpus=tuple(gpu(second) for gpu in gpus))
        for second, sample in enumerate(build_samples(6))
    ]
    model = {"devices": {f"cuda:{index}": 10 for index in range(len(gpus))}}
    trainer = build_trainer(build_steps(500, STEPS), facts=[("model", "m0", model)])
    run = build_run(trainer, samples=samples)
    return measure(Training(run, run.sessions[0], costs))


def test_nothing_set_nothing_said():
    signals = signals_of(Costs())

    assert "price-per-hour" in signals.get("cost.price_per_step").reason
    assert signals.get("cost.gpu_energy_per_step_j").reason == (
        "no energy of a GPU was measured that this training uses"
    )
    assert signals.get("cost.waiting_share").value == pytest.approx(0.4)


def test_a_price_per_hour_is_one_of_steps():
    signals = signals_of(Costs(price_per_hour=3.6))

    assert signals.get("cost.price_per_step").value == pytest.approx(3.6 * 0.010 / 3600)


@pytest.mark.parametrize("counted", [True, False])
def test_energy_is_that_of_the_steps(counted):
    def gpu(index):
        if counted:
            return lambda second: GpuSample(index, energy_total_j=1_000.0 + 200.0 * second)
        return lambda second: GpuSample(index, power_w=200.0)

    signals = signals_of(Costs(grid_gco2_per_kwh=360.0, pue=1.5), [gpu(0), gpu(1)])

    joules = signals.get("cost.gpu_energy_per_step_j").value
    assert joules == pytest.approx(2 * 200.0 * 0.010, rel=0.01)
    co2 = signals.get("cost.co2_per_step_g").value
    assert co2 == pytest.approx(joules / 3.6e6 * 360.0 * 1.5)


def test_a_gpu_that_does_not_answer_makes_it_missing():
    silent = [lambda second: GpuSample(0, power_w=200.0), lambda second: GpuSample(1)]

    assert signals_of(Costs(), silent).get("cost.gpu_energy_per_step_j").value is None


def test_it_is_a_note_where_a_price_is_set():
    run = build_run(build_trainer(build_steps(500, STEPS)))

    with_price = diagnose(run, costs=Costs(price_per_hour=3.6, currency="EUR"))
    without = diagnose(run)

    (note,) = [finding for finding in with_price.findings if finding.rule == "hw-cost-step"]
    assert note.severity == "info"
    assert "1,000 steps cost 0.01 EUR; 40 %" in note.summary
    assert "hw-cost-step" not in {finding.rule for finding in without.findings}
