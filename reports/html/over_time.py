"""Quantities over the time of the run, drawn one above the other over the same seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from trainprof.profiler.model.diagnosis import Bucket, Diagnosis, Series
from trainprof.profiler.model.phases import PHASES
from trainprof.reports import numbers
from trainprof.reports.html import blocks
from trainprof.reports.html.blocks import Block
from trainprof.reports.html.colours import phase_colour
from trainprof.reports.phases import phase_label
from trainprof.reports.text import SHORT, printable

MOST_CHARTS = 20
"""Of the machine: with 64 GPUs the page would be too large to be drawn at once."""

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_BYTES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))
_CLOCK = ((7200.0, 3600.0, "h"), (180.0, 60.0, "min"))
_PHASES = {f"{phase}_share": phase for phase in PHASES}
_OF_STEPS = {"step_s": "Step time", "samples_per_s": "Throughput", "loss": "Loss"}
_OF_MACHINE = {
    "cpu_busy_share": "CPU busy, of all cores of the machine",
    "rss_bytes": "Resident memory of the training process",
    "memory_available_bytes": "Memory available on the machine",
}
_OF_A_TRACE = (
    "A trace holds a few steps. trainprof export TRACE --to perfetto --out FILE draws them, with "
    "what each device did in them."
)
_OF_GPU = {"utilization_share": "in use", "memory_used_bytes": "memory used"}


def timeline_section(diagnosis: Diagnosis) -> Block:
    """Step times, phases, throughput and losses over the run."""
    known = {one.name: one for one in diagnosis.series}
    charts = []
    if "step_s" in known:
        charts.append(_chart("step-time", "Step time", (known["step_s"],), diagnosis))
    phases = [one for one in diagnosis.series if one.name in _PHASES]
    if phases:
        charts.append(_stacked(phases, diagnosis))
    for name, title in list(_OF_STEPS.items())[1:]:
        if name in known:
            charts.append(_chart(name.replace("_", "-"), title, (known[name],), diagnosis))
    told = _told(charts)
    if not charts and diagnosis.source == "trace":
        told = [blocks.text(_OF_A_TRACE)]
    return blocks.section("timeline", "Over the time of the run", told)


def resources_section(diagnosis: Diagnosis) -> Block:
    """CPU, memory and GPUs, over the same seconds as the timeline."""
    named = [
        (one, title)
        for one in diagnosis.series
        if one.buckets and (title := _resource_title(one.name)) is not None
    ]
    told = _told(
        [
            _chart(one.name.replace(".", "-").replace("_", "-"), title, (one,), diagnosis)
            for one, title in named[:MOST_CHARTS]
        ]
    )
    if len(named) > MOST_CHARTS:
        left = numbers.count(len(named) - MOST_CHARTS)
        told.append(blocks.text(f"{left} more are in trainprof diagnose --format json.", "note"))
    return blocks.section("resources", "What the machine did meanwhile", told)


def _told(charts: Sequence[Block]) -> list[Block]:
    if not charts:
        return []
    how = (
        "Drag over a chart to zoom in, double-click to zoom out; all charts zoom together. With "
        "the keyboard: Tab to a chart, then + and - zoom, the arrows move, 0 shows all."
    )
    return [blocks.text(how, "note"), *charts]


def _resource_title(name: str) -> str | None:
    """What a series of the machine is called; None for one of the training."""
    if name in _OF_MACHINE:
        return _OF_MACHINE[name]
    device, _, what = name.partition(".")
    if device.startswith("gpu"):
        return f"GPU {printable(device[3:], SHORT)} {_OF_GPU.get(what, printable(what, SHORT))}"
    known = name in _OF_STEPS or name in _PHASES
    return None if known else printable(name, SHORT)


def _chart(key: str, title: str, series: Sequence[Series], diagnosis: Diagnosis) -> Block:
    one = series[0]
    scale, unit = _scale(one)
    ranged = any(bucket.low != bucket.high for bucket in one.buckets)
    return {
        "kind": "chart",
        "id": f"chart-{key}",
        "title": title,
        "caption": f"{title}{_what_a_point_is(one, diagnosis, ranged)}",
        "unit": unit,
        "ranged": ranged,
        "stacked": False,
        **_time_axis(one.buckets, diagnosis),
        "lines": [_line(title, one, scale, "")],
    }


def _stacked(phases: Sequence[Series], diagnosis: Diagnosis) -> Block:
    return {
        "kind": "chart",
        "id": "chart-phases",
        "title": "Phases as shares of the step",
        "caption": "Phases as shares of the step, stacked in the order of the legend from below"
        + _what_a_point_is(phases[0], diagnosis, ranged=False),
        "unit": "%",
        "ranged": False,
        "stacked": True,
        **_time_axis(phases[0].buckets, diagnosis),
        "lines": [
            _line(phase_label(_PHASES[one.name]), one, 100.0, phase_colour(_PHASES[one.name]))
            for one in phases
        ],
    }


def _what_a_point_is(series: Series, diagnosis: Diagnosis, ranged: bool) -> str:
    points, steps = len(series.buckets), diagnosis.steps.count
    of_steps = series.name in _OF_STEPS or series.name in _PHASES
    if series.name == "loss" or not of_steps or not points:
        text = f"; {points:,} points"
    elif steps >= 2 * points:
        text = f"; each of the {points:,} points stands for about {steps / points:,.0f} steps"
    else:
        text = "; a point is a step, or two" if steps > points else "; each point is a step"
    return f"{text}: their mean, and in grey from the least to the most." if ranged else f"{text}."


def _line(name: str, series: Series, scale: float, colour: str) -> dict[str, object]:
    buckets = series.buckets
    return {
        "name": name,
        "colour": colour,
        "mean": [_scaled(one.mean, scale) for one in buckets],
        "low": [_scaled(one.low, scale) for one in buckets],
        "high": [_scaled(one.high, scale) for one in buckets],
        "texts": [_hover(one, series.unit) for one in buckets],
    }


def _hover(bucket: Bucket, unit: str) -> str:
    mean = numbers.quantity(bucket.mean, unit)
    if bucket.low == bucket.high:
        return mean
    low, high = numbers.quantity(bucket.low, unit), numbers.quantity(bucket.high, unit)
    return f"{mean} ({low} to {high})"


def _scaled(value: float, scale: float) -> float | None:
    """Five digits are more than a screen can show."""
    scaled = value * scale
    return float(f"{scaled:.5g}") if math.isfinite(scaled) else None


def _scale(series: Series) -> tuple[float, str]:
    """What the values are multiplied by, and the unit then."""
    if series.unit == "share":
        return 100.0, "%"
    middle = sorted(abs(one.mean) for one in series.buckets if math.isfinite(one.mean))
    typical = middle[len(middle) // 2] if middle else 0.0
    sizes = {"s": _TIMES, "bytes": _BYTES}.get(series.unit, ())
    for size, unit in sizes:
        if typical >= size:
            return 1 / size, unit
    return 1.0, printable(series.unit, SHORT)


def _time_axis(buckets: Sequence[Bucket], diagnosis: Diagnosis) -> dict[str, object]:
    """The seconds of one chart, and those that all charts show."""
    first_s, last_s = _span(diagnosis)
    size, unit = 1.0, "s"
    for least_s, longer, name in reversed(_CLOCK):
        if last_s >= least_s:
            size, unit = longer, name
    return {
        "x": [_scaled(one.t_s, 1 / size) for one in buckets],
        "x_unit": unit,
        "x_range": [_scaled(first_s, 1 / size), _scaled(last_s, 1 / size)],
        "x_texts": [f"at {numbers.seconds(one.t_s)}" for one in buckets],
    }


def _span(diagnosis: Diagnosis) -> tuple[float, float]:
    """From the first to the last reading of anything; a second where all were at one time."""
    times_s = [
        one.t_s for series in diagnosis.series for one in series.buckets if math.isfinite(one.t_s)
    ]
    first_s, last_s = min(times_s, default=0.0), max(times_s, default=0.0)
    return (first_s, last_s) if last_s > first_s else (first_s, first_s + 1.0)
