"""The user's own source: where it calls what. It locates and suppresses, and proves nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.signals import Signal
from trainprof.rules.kept_graphs import lines_that_keep_graphs
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training, location, most_frequent_place
from trainprof.rules.source_view import STEP, SourceCall, SourceView, read_source
from trainprof.rules.stack_phases import is_users

MOST_CALLS = 400
"""Of a large project those in the training step come first."""

DESCRIPTIONS = (
    Description("source.file_count", "count", "Source files of the user's that were read."),
    Description("source.left_out", "mapping", "Files that were not, and why."),
    Description(
        "source.calls",
        "mapping",
        "Calls by name: file, line, function, how often, keywords (rules/source_calls.py).",
    ),
    Description(
        "source.graph_kept_where",
        "place",
        "The only line around the backward that keeps tensors of its graph.",
    ),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals source.*."""
    sheet = Sheet(DESCRIPTIONS)
    info = training.run.info
    view = read_source(_paths(training), info.cwd, info.argv, info.started_unix_s)
    if not view.files:
        reasons = sorted(set(view.left_out.values()))
        return sheet.finish(f"no source was read ({'; '.join(reasons) or 'none was named'})")
    sheet.put("source.file_count", len(view.files))
    if view.left_out:
        sheet.put("source.left_out", dict(view.left_out))
    else:
        sheet.miss("source.left_out", "every file was read")
    sheet.put("source.calls", _by_name(view), method="syntax trees of the files")
    _put_kept_graph(training, view, sheet)
    return sheet.finish("it was not measured")


def _paths(training: Training) -> Iterator[str]:
    """The script, then every file of the user's in which something was seen."""
    yield from (word for word in training.trainer.info.argv if word.endswith(".py"))
    yield from (word for word in training.run.info.argv if word.endswith(".py"))
    payloads = [fact.data for fact in training.trainer.facts]
    payloads += [event.data for event in training.trainer.events]
    yield from (place.file for data in payloads for place in _places(data))
    for sample in training.run.stacks.samples:
        yield from (frame.file for frame in sample.stack if is_users(frame))


def _places(data: dict[str, Any]) -> Iterator[Location]:
    for value in data.values():
        place = location(value)
        if place is not None:
            yield place


def _by_name(view: SourceView) -> dict[str, list[dict[str, object]]]:
    ordered = sorted(view.calls(), key=lambda call: (call.often != STEP, call.often is None))
    found: dict[str, list[dict[str, object]]] = {}
    for call in ordered[:MOST_CALLS]:
        found.setdefault(call.name, []).append(_record(call))
    return found


def _record(call: SourceCall) -> dict[str, object]:
    record: dict[str, object] = {"file": call.file, "line": call.line, "function": call.function}
    if call.often is not None:
        record |= {"often": call.often, "loop_line": call.loop_line}
    if call.keywords:
        record["keywords"] = call.keywords
    if call.iterates:
        record["iterates"] = True
    return record


def _put_kept_graph(training: Training, view: SourceView, sheet: Sheet) -> None:
    name = "source.graph_kept_where"
    backward = most_frequent_place(training.events("graph_alive"))
    if backward is None:
        sheet.miss(name, "no graph was seen to outlive its step")
        return
    file = view.files.get(backward.file)
    lines = [] if file is None else lines_that_keep_graphs(file, backward.line)
    if len(lines) == 1:
        sheet.put(name, Location(backward.file, lines[0], backward.function))
    else:
        sheet.miss(name, f"{len(lines) or 'no'} lines around the backward may keep its graph")
