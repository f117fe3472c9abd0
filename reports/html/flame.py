"""Sampled stacks as a flame graph by phase, and the functions at their ends as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.reports import numbers
from trainprof.reports.html import blocks
from trainprof.reports.html.blocks import Block
from trainprof.reports.html.colours import phase_colour
from trainprof.reports.phases import phase_label
from trainprof.reports.text import printable

LEAST_PART = 0.002
"""Of all that was sampled; a narrower frame would be less than two pixels wide."""
DEEPEST = 80
"""Frames of a stack that are drawn."""
MOST_FUNCTIONS = 12
"""Of a phase, in its table."""
NAME = 200
"""Characters kept of a frame."""


def flame_section(diagnosis: Diagnosis) -> Block:
    """Where the stacks of each phase were seen; nothing where none were sampled."""
    title = "Which functions it was in"
    return blocks.section("stacks", title, _blocks(diagnosis.stacks))


def _blocks(stacks: Mapping[str, Mapping[str, int]]) -> Iterator[Block]:
    total_ms = sum(sum(lines.values()) for lines in stacks.values())
    if not total_ms:
        return
    names: dict[str, int] = {}
    phases = [
        {
            "name": phase_label(phase),
            "colour": phase_colour(phase),
            "tree": _tree(lines, phase_label(phase), names, LEAST_PART * total_ms),
        }
        for phase, lines in sorted(stacks.items(), key=lambda one: -sum(one[1].values()))
        if lines
    ]
    yield blocks.text(
        "Each bar is a function, as wide as the time in which it was seen; it stands on the one "
        "that called it. Select a bar to look into it, the lowest to see all again."
    )
    yield {
        "kind": "flame",
        "id": "flame",
        "label": "Flame graph of the sampled stacks, by phase",
        "names": list(names),
        "phases": phases,
    }
    for phase, lines in stacks.items():
        rows = _functions(lines)
        if rows:
            label = phase_label(phase)
            caption = f"Functions in which {label} was seen, without what they call"
            found = blocks.table(caption, ("function", "sampled"), rows, " #")
            yield blocks.details(f"The functions of {label} as a table", [found])


def _tree(lines: Mapping[str, int], root: str, names: dict[str, int], least_ms: float) -> list[Any]:
    """[name, milliseconds, text, children] of the frames of a phase, small ones left out."""
    top: dict[str, Any] = {}
    total_ms = 0
    for line, time_ms in lines.items():
        total_ms += time_ms
        level = top
        for frame in line.split(";")[:DEEPEST]:
            entry = level.setdefault(frame, [0, {}])
            entry[0] += time_ms
            level = entry[1]

    def drawn(name: str, time_ms: int, inside: dict[str, Any]) -> list[Any]:
        shown = printable(name, NAME)
        place = names.setdefault(shown, len(names))
        below = [
            drawn(frame, *entry)
            for frame, entry in sorted(inside.items(), key=lambda one: -one[1][0])
            if entry[0] >= least_ms
        ]
        return [place, time_ms, numbers.seconds(time_ms / 1e3), below]

    return drawn(root, total_ms, top)


def _functions(lines: Mapping[str, int]) -> list[tuple[str, str]]:
    ends: dict[str, int] = defaultdict(int)
    for line, time_ms in lines.items():
        ends[line.rpartition(";")[2]] += time_ms
    most = sorted(ends.items(), key=lambda one: -one[1])[:MOST_FUNCTIONS]
    return [(printable(name, NAME), numbers.seconds(time_ms / 1e3)) for name, time_ms in most]
