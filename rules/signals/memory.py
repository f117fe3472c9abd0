"""Whether the training's memory grows, and what keeps it."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training, evenly, most_frequent_place
from trainprof.rules.statistics.intervals import Floats
from trainprof.rules.statistics.trend import theil_sen

MOST_POINTS = 4_000
"""Points that are looked at; a run of days has one a second."""

LEAST_SPAN_S = 10.0
"""Of the readings that are called monotone: in the first seconds every process grows (pages touched
for the first time, blocks that the allocator keeps)."""
PARTS = 5
"""Growth is called monotone if the mean of each fifth lies above that of the one before."""

DESCRIPTIONS = (
    Description("memory.points", "count", "Readings of resident memory in the window."),
    Description("memory.rss_first_bytes", "bytes", "Resident memory at the first of them."),
    Description("memory.rss_last_bytes", "bytes", "Resident memory at the last."),
    Description("memory.rss_slope_bytes_per_step", "bytes", "Its growth per step (Theil-Sen)."),
    Description(
        "memory.growth_monotone", "bool", "Each fifth of the window held more than before."
    ),
    Description(
        "memory.python_blocks_per_step", "count", "Growth per step of the blocks Python holds."
    ),
    Description("memory.peak_rss_bytes", "bytes", "The most resident memory of the process."),
    Description("memory.accelerator_peak_bytes", "bytes", "The most memory of the fullest device."),
    Description(
        "memory.graph_alive_count", "count", "Loss graphs seen alive long after their step."
    ),
    Description("memory.graph_alive_where", "place", "Where their backward was called."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals memory.*."""
    sheet = Sheet(DESCRIPTIONS)
    peak = training.trainer.latest_facts("memory").get("peak")
    data = peak.data if peak is not None else {}
    sheet.put("memory.peak_rss_bytes", data.get("peak_rss_bytes"), reason="it was not read")
    sheet.put(
        "memory.accelerator_peak_bytes",
        data.get("accelerator_peak_bytes"),
        reason="no accelerator is in use",
    )
    _python_blocks(training, sheet)
    graphs = training.events("graph_alive")
    sheet.put("memory.graph_alive_count", len(graphs))
    place = most_frequent_place(graphs)
    sheet.put("memory.graph_alive_where", place, reason="no graph outlived its step")
    _growth(training, sheet)
    return sheet.finish("resident memory was not read in the steady steps")


def _python_blocks(training: Training, sheet: Sheet) -> None:
    """From the "memory" facts of the steady steps, one a second."""
    if not training.has_window:
        return
    start, end = training.span_ns
    facts = [
        fact
        for fact in training.trainer.facts
        if fact.kind == "memory" and start <= fact.at_ns <= end and "python_blocks" in fact.data
    ]
    steps = np.array([training.position_of(fact.at_ns) for fact in facts], dtype=np.float64)
    blocks = np.array([fact.data["python_blocks"] for fact in facts], dtype=np.float64)
    trend = theil_sen(steps, blocks)
    if trend is None:
        sheet.miss(
            "memory.python_blocks_per_step", f"{len(facts)} readings are too few (one a second)"
        )
        return
    sheet.put(
        "memory.python_blocks_per_step",
        trend.slope,
        method="Theil-Sen",
        samples=len(facts),
        low=trend.low,
        high=trend.high,
    )


def _growth(training: Training, sheet: Sheet) -> None:
    steps, rss, at_ns = memory_points(training)
    sheet.put("memory.points", len(rss))
    if not len(rss):
        return
    sheet.put("memory.rss_first_bytes", int(rss[0]))
    sheet.put("memory.rss_last_bytes", int(rss[-1]))
    few = f"{len(rss)} readings of the memory are too few"
    trend = theil_sen(steps, rss)
    if trend is None:
        sheet.miss("memory.rss_slope_bytes_per_step", few)
    else:
        sheet.put(
            "memory.rss_slope_bytes_per_step",
            trend.slope,
            method="Theil-Sen",
            samples=len(rss),
            low=trend.low,
            high=trend.high,
        )
    monotone = None
    if len(rss) >= 2 * PARTS and (at_ns[-1] - at_ns[0]) / 1e9 >= LEAST_SPAN_S:
        means = np.array([part.mean() for part in np.array_split(rss, PARTS)])
        monotone = bool(np.all(np.diff(means) > 0))
    few = f"{few}, or they span less than {LEAST_SPAN_S:.0f} s"
    sheet.put("memory.growth_monotone", monotone, reason=few, samples=len(rss))


def memory_points(training: Training) -> tuple[Floats, Floats, Floats]:
    """Step, resident bytes and time of the readings after the warm-up."""
    memory = training.trainer.memory
    index = training.steady("index")
    first = int(index[0]) if len(index) else 0
    points = [memory[place] for place in evenly(len(memory), MOST_POINTS)]
    kept = [(p.step, p.rss_bytes, p.at_ns) for p in points if p.step >= first]
    values = np.array(kept, dtype=np.float64).reshape(-1, 3)
    return values[:, 0], values[:, 1], values[:, 2]
