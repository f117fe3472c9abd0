"""What interrupts the step: garbage collection, logging, checkpoints."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.records import Event
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training, location, most_frequent_place

FULL_COLLECTION = 2
"""Python's oldest generation."""

DESCRIPTIONS = (
    Description("gc.share", "share", "Part of the step inside garbage collections."),
    Description("gc.manual_per_step", "count", "Collections per step that gc.collect() asked for."),
    Description("gc.pauses", "count", "Collections of 1 ms or more in the window."),
    Description("gc.longest_s", "s", "The longest of them."),
    Description("gc.generation2_mean_s", "s", "Mean length of a full collection."),
    Description("gc.where", "place", "Where gc.collect() is called."),
    Description("logging.share", "share", "Part of the step that writes output."),
    Description("logging.calls_per_step", "count", "Output calls per step, all channels."),
    Description("logging.channels", "mapping", "Seconds per step by channel."),
    Description("logging.where", "place", "Where the costliest channel is called most often."),
    Description("checkpoint.share", "share", "Part of the step that saves."),
    Description("checkpoint.count", "count", "Saves in the window."),
    Description("checkpoint.mean_s", "s", "Mean length of a save."),
    Description("checkpoint.bytes", "bytes", "Mean size of a save."),
    Description("checkpoint.interval_steps", "count", "Mean number of steps between saves."),
    Description("checkpoint.where", "place", "Where most saves are called."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals gc.*, logging.* and checkpoint.*."""
    sheet = Sheet(DESCRIPTIONS)
    if not training.has_window:
        return sheet.finish("no step was completed")
    for topic in ("gc", "logging", "checkpoint"):
        lost = training.lost_phases.get(topic)
        if lost is not None:
            for description in DESCRIPTIONS:
                if description.name.startswith(f"{topic}."):
                    sheet.miss(description.name, lost, lost=True)
            continue
        share = training.phase_shares[topic]
        steps = len(training.window)
        sheet.put_interval(f"{topic}.share", share, method="sum over the window", samples=steps)
        _OF_TOPIC[topic](training, sheet)
    return sheet.finish("there was none in the window")


def _collections(training: Training, sheet: Sheet) -> None:
    summaries = [(e, part) for e, part in training.overlapping("gc") if "count" in e.data]
    manual = sum(sum(event.data.get("manual") or ()) * part for event, part in summaries)
    sheet.put("gc.manual_per_step", manual / len(training.window))
    full = [_of_generation(event, part) for event, part in summaries]
    count, total_ns = sum(one for one, _ in full), sum(ns for _, ns in full)
    mean_s = total_ns / count / 1e9 if count else None
    sheet.put("gc.generation2_mean_s", mean_s, reason="no full collection in the window")
    pauses = [event for event in training.steady_events("gc") if "generation" in event.data]
    sheet.put("gc.pauses", len(pauses))
    longest = max((event.duration_ns for event in pauses), default=None)
    longest_s = None if longest is None else longest / 1e9
    sheet.put("gc.longest_s", longest_s, reason="no collection took 1 ms", samples=len(pauses))
    place = most_frequent_place([e for e in training.events("gc") if any_manual(e)])
    sheet.put("gc.where", place, reason="the script does not call gc.collect()")


def any_manual(event: Event) -> bool:
    """Whether a pause, or any collection of a summary, was asked for by the script."""
    manual = event.data.get("manual")
    return any(manual) if isinstance(manual, (list, tuple)) else bool(manual)


def _of_generation(event: Event, part: float) -> tuple[float, float]:
    count, total_ns = event.data.get("count") or (), event.data.get("total_ns") or ()
    if len(count) <= FULL_COLLECTION or len(total_ns) <= FULL_COLLECTION:
        return 0.0, 0.0
    return count[FULL_COLLECTION] * part, total_ns[FULL_COLLECTION] * part


def _logging(training: Training, sheet: Sheet) -> None:
    steps = len(training.window)
    calls: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for event, part in training.overlapping("logging"):
        for channel, count in dict(event.data.get("calls") or {}).items():
            calls[channel] = calls.get(channel, 0.0) + count * part
        for channel, total_ns in dict(event.data.get("total_ns") or {}).items():
            seconds[channel] = seconds.get(channel, 0.0) + total_ns * part / 1e9
    sheet.put("logging.calls_per_step", sum(calls.values()) / steps, samples=steps)
    per_step = {channel: total / steps for channel, total in seconds.items()}
    sheet.put("logging.channels", per_step or None, reason="nothing was logged in the window")
    if per_step:
        costliest = max(per_step, key=lambda channel: per_step[channel])
        places = [
            dict(e.data.get("where") or {}).get(costliest) for e in training.events("logging")
        ]
        known = [place for one in places if (place := location(one)) is not None]
        place = max(known, key=known.count) if known else None
        sheet.put("logging.where", place, reason="a library writes the output")


def _checkpoints(training: Training, sheet: Sheet) -> None:
    saves = training.steady_events("checkpoint")
    sheet.put("checkpoint.count", len(saves))
    if not saves:
        return
    lengths_s = [event.duration_ns / 1e9 for event in saves]
    sheet.put("checkpoint.mean_s", sum(lengths_s) / len(saves), samples=len(saves))
    sizes = [size for event in saves if isinstance(size := event.data.get("bytes"), int)]
    mean_bytes = round(sum(sizes) / len(sizes)) if sizes else None
    sheet.put("checkpoint.bytes", mean_bytes, reason="not written to a file", samples=len(sizes))
    # Model and optimizer saved one after the other in one step are one checkpoint.
    steps = np.unique([training.position_of(event.start_ns) for event in saves])
    interval = float(np.diff(steps).mean()) if len(steps) > 1 else None
    sheet.put("checkpoint.interval_steps", interval, reason="one save has no interval")
    sheet.put("checkpoint.where", most_frequent_place(saves), reason="a library saves")


_OF_TOPIC = {"gc": _collections, "logging": _logging, "checkpoint": _checkpoints}
