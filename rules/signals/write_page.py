"""Writes docs/signals.md from the topics: `python -m trainprof.rules.signals.write_page`."""

from __future__ import annotations

from pathlib import Path

from trainprof.profiler.model.phases import PHASES
from trainprof.rules import trace_signals
from trainprof.rules.signals.sheet import Description
from trainprof.rules.signals.topics import TOPICS

PAGE = Path("docs", "signals.md")

OF_PHASES = ("step", "stacks")
"""Topics that have the same signals for each phase."""

_HEAD = """# Signals

What the rules judge. Each signal has a value, or is missing with a reason; `diagnose --format json`
gives all of them under `facts.signals`. A share is a part of 1. Signals of the step are sums over
the steady steps, with a 90 % block bootstrap interval where they have bounds; the warm-up is left
out, and a step that the end of the training cut off.

A phase is one of {phases}.
"""


def page() -> str:
    """The whole page in Markdown."""
    parts = [_HEAD.format(phases=", ".join(f"`{phase}`" for phase in PHASES))]
    for topic in (*TOPICS, *trace_signals.TOPICS):
        summary = (topic.__doc__ or "").strip()
        rows = _without_repeated_phases(topic.DESCRIPTIONS)
        table = "\n".join(f"| `{one.name}` | {one.unit} | {one.text} |" for one in rows)
        parts.append(f"## {summary}\n\n| signal | unit | what it is |\n|---|---|---|\n{table}\n")
    return "\n".join(parts)


def _without_repeated_phases(descriptions: tuple[Description, ...]) -> list[Description]:
    """One row for a signal that every phase has: that of the first, with the name left open."""
    first, *others = PHASES
    repeated = tuple(f"{topic}.{phase}_" for topic in OF_PHASES for phase in others)
    rows = []
    for one in descriptions:
        if one.name.startswith(tuple(f"{topic}.{first}_" for topic in OF_PHASES)):
            name, text = one.name.replace(first, "<phase>"), one.text.replace(first, "<phase>")
            rows.append(Description(name, one.unit, text.replace("<phase>", "`<phase>`")))
        elif not one.name.startswith(repeated):
            rows.append(one)
    return rows


def main(page_file: Path = PAGE) -> None:
    """Writes the page."""
    page_file.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
