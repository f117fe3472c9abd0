"""What the training ran on and with, and everything that was measured of it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.records import Hardware, RunInfo
from trainprof.reports import numbers, sentences
from trainprof.reports.html import blocks
from trainprof.reports.html.blocks import Block
from trainprof.reports.html.extras import Extras
from trainprof.reports.source import short_path
from trainprof.reports.text import SHORT, printable

MOST_ROWS = 400
"""Of what was seen of the training's objects; the rest is in the JSON."""
UNTOLD = ("signals", "submodules")
"""Facts that are shown elsewhere, or that only a program reads."""


def environment_section(diagnosis: Diagnosis, extras: Extras) -> Block:
    """Command, machine, versions and what was seen of the training's objects."""
    return blocks.section("environment", "Environment", _environment(diagnosis, extras.info))


def _environment(diagnosis: Diagnosis, info: RunInfo | None) -> Iterator[Block]:
    rows = [*_of_run(diagnosis)]
    if info is not None:
        rows += _of_machine(info.hardware)
    yield blocks.facts(rows)
    if info is not None and info.environment:
        found = [(printable(name, SHORT), printable(value))
                 for name, value in sorted(info.environment.items())]  # fmt: skip
        caption = "Variables that bear on speed; no others are recorded"
        named = blocks.table(caption, ("variable", "value"), found)
        yield blocks.details("Environment variables", [named])
    seen_rows = list(_flat(diagnosis.facts))
    if seen_rows:
        caption = "What was seen of model, optimizer, loaders and settings"
        if len(seen_rows) > MOST_ROWS:
            caption += f": the first {MOST_ROWS} of {numbers.count(len(seen_rows))} values"
        named = blocks.table(caption, ("what", "value"), seen_rows[:MOST_ROWS])
        yield blocks.details("What was seen of the training's objects", [named])


def _of_run(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    run = diagnosis.run
    if run.argv:
        yield "Command", sentences.command(run)
    for label, value in (
        ("Folder of the run" if diagnosis.source == "run" else "Trace", run.path),
        ("Working directory", run.cwd),
        ("Device", run.device),
        ("torch", run.torch),
        ("Python", run.python),
        ("trainprof", run.trainprof),
    ):
        if value:
            yield label, printable(value, 2 * SHORT)
    if diagnosis.source != "trace":
        yield "Ended", sentences.ending(run)
    if run.started_unix_s is not None:
        yield "Started", _instant(run.started_unix_s)
    if run.startup_s is not None:
        yield "From start to first step", numbers.seconds(run.startup_s)


def _instant(unix_s: float) -> str:
    try:
        instant = datetime.datetime.fromtimestamp(unix_s, tz=datetime.timezone.utc)
    except (OverflowError, ValueError, OSError):
        return numbers.NOT_MEASURED
    return instant.strftime("%Y-%m-%d %H:%M:%S UTC")


def _of_machine(hardware: Hardware) -> Iterator[tuple[str, str]]:
    if hardware.cpu_model:
        yield "CPU", printable(hardware.cpu_model, 2 * SHORT)
    if hardware.usable_cores is not None:
        of = f" of {hardware.logical_cores}" if hardware.logical_cores else ""
        yield "Cores this run may use", f"{numbers.significant(hardware.usable_cores)}{of}"
    if hardware.memory_total_bytes is not None:
        yield "Memory", numbers.size(hardware.memory_total_bytes)
    if hardware.gpus:
        yield "GPUs", "; ".join(printable(gpu, SHORT) for gpu in hardware.gpus)


def measured_section(diagnosis: Diagnosis) -> Block:
    """Every signal, with its unit and how it was come by."""
    signals = diagnosis.facts.get("signals")
    rows = []
    for name, signal in signals.items() if isinstance(signals, Mapping) else ():
        if isinstance(signal, Mapping) and signal.get("value") is not None:
            value = _told(signal["value"], str(signal.get("unit", "")))
            method = printable(signal.get("method", ""), 2 * SHORT)
            rows.append((printable(name, SHORT), printable(value, 2 * SHORT), method))
    found = []
    if rows:
        every = blocks.table("Every signal", ("signal", "value", "how"), rows, " # ")
        title = f"Signals that the rules judged: {numbers.count(len(rows))}"
        found = [blocks.details(title, [every])]
    return blocks.section("measured", "Everything that was measured", found)


def _told(value: object, unit: str) -> str:
    """A signal in one line: a place as such, few values one by one, of nested ones their number."""
    if isinstance(value, Mapping) and {"file", "line"} <= value.keys():
        return f"{short_path(str(value['file']))}:{value['line']}"
    if not isinstance(value, (Mapping, list, tuple)):
        return numbers.quantity(value, unit)
    inside = list(value.values()) if isinstance(value, Mapping) else list(value)
    if any(isinstance(one, (Mapping, list, tuple)) for one in inside):
        return "1 entry" if len(inside) == 1 else f"{_length(inside)} entries"
    shown = [numbers.quantity(one, "") for one in inside]
    if isinstance(value, Mapping):
        shown = [f"{name}: {one}" for name, one in zip(value, shown, strict=True)]
    return ", ".join(shown) or "none"


def _flat(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of nested values, with the names that lead to them."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in UNTOLD:
                yield from _flat(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)) and value and isinstance(value[0], (Mapping, list)):
        yield printable(path, SHORT), f"{_length(value)} entries"
    elif isinstance(value, (list, tuple)):
        yield printable(path, SHORT), printable(", ".join(map(str, value)), 2 * SHORT)
    elif value is not None:
        shown = numbers.quantity(value, "text") if isinstance(value, bool) else value
        yield printable(path, SHORT), printable(shown, 2 * SHORT)


def _length(value: Sequence[object]) -> str:
    return numbers.count(len(value))
