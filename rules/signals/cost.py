"""What a step costs: money by the price that the settings name, energy where it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainprof.profiler.model.records import Sample
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.own_gpus import own_gpus
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

WAITING_PHASES = ("data_wait", "sync", "comm_exposed", "checkpoint", "logging", "gc")
"""Phases in which the training computes nothing that it learns by."""

JOULES_PER_KWH = 3.6e6

DESCRIPTIONS = (
    Description("cost.price_per_step", "money", "Price of a step, by the hour's price."),
    Description("cost.price_per_hour", "money", "Price of an hour, from the settings."),
    Description("cost.currency", "text", "Of these prices."),
    Description("cost.gpu_energy_per_step_j", "J", "Energy of its own GPUs per step (NVML)."),
    Description("cost.co2_per_step_g", "g", "CO2 of that energy, by the grid's intensity."),
    Description("cost.waiting_share", "share", "Part of the step in phases that only wait."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals cost.*; no power is ever guessed."""
    sheet = Sheet(DESCRIPTIONS)
    if not training.has_window:
        return sheet.finish("no step was completed")
    costs = training.costs
    step_s = training.wall_s / len(training.window)
    unset = "no price is set: price-per-hour in [tool.trainprof]"
    sheet.put("cost.price_per_hour", costs.price_per_hour, reason=unset)
    price = None if costs.price_per_hour is None else costs.price_per_hour * step_s / 3600
    sheet.put("cost.price_per_step", price, reason=unset)
    sheet.put("cost.currency", costs.currency or None, reason="no currency is set")
    energy_j = _gpu_energy_j(training)
    per_step_j = None if energy_j is None else energy_j / len(training.window)
    sheet.put(
        "cost.gpu_energy_per_step_j",
        per_step_j,
        reason="no energy of a GPU was measured that this training uses",
    )
    co2 = None
    if per_step_j is not None and costs.grid_gco2_per_kwh is not None:
        co2 = per_step_j / JOULES_PER_KWH * costs.grid_gco2_per_kwh * costs.pue
    reason = "it takes measured energy and grid-gco2-per-kwh in [tool.trainprof]"
    sheet.put("cost.co2_per_step_g", co2, reason=reason)
    shares = [training.phase_shares[p].mean for p in WAITING_PHASES if p in training.phase_shares]
    sheet.put("cost.waiting_share", min(sum(shares), 1.0), samples=len(training.window))
    return sheet.finish("it was not measured")


def _gpu_energy_j(training: Training) -> float | None:
    """Of the training's GPUs in the window: by energy counters, else by power over time."""
    own = own_gpus(training).indices
    start, end = training.span_ns
    samples = [
        replace(sample, gpus=tuple(gpu for gpu in sample.gpus if gpu.index in own))
        for sample in training.run.samples
        if own and start <= sample.at_ns <= end
    ]
    if len(samples) < 2:
        return None
    share = (end - start) / (samples[-1].at_ns - samples[0].at_ns)
    counted = _counted_j(samples[0], samples[-1])
    used = _integrated_j(samples) if counted is None else counted
    return None if used is None else used * share


def _counted_j(first: Sample, last: Sample) -> float | None:
    before = {gpu.index: gpu.energy_total_j for gpu in first.gpus}
    used = []
    for gpu in last.gpus:
        begin = before.get(gpu.index)
        if begin is None or gpu.energy_total_j is None:
            return None
        used.append(max(gpu.energy_total_j - begin, 0.0))
    return sum(used) if used else None


def _integrated_j(samples: Sequence[Sample]) -> float | None:
    """Power times time by trapezia; None where a GPU did not answer."""
    powers = []
    for sample in samples:
        known = [gpu.power_w for gpu in sample.gpus if gpu.power_w is not None]
        if not known or len(known) < len(sample.gpus):
            return None
        powers.append(sum(known))
    pairs = zip(samples, samples[1:], powers, powers[1:], strict=False)
    return sum((b.at_ns - a.at_ns) / 1e9 * (p + q) / 2 for a, b, p, q in pairs)
