"""Holds every number that report.html shows in a browser against diagnosis.json.

Not looked at are the source lines, diffs and pages of rules in `pre`, which are texts of files, the
ticks of axes, which are no values, and the tables that charts make of their own points; the curves
are held against the series point by point.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from shown_numbers import (
    Sources,
    folded_phases,
    joined,
    made,
    of_run,
    places,
    printed,
    sources_of,
    texts_in,
    unexplained,
    with_unit,
)

from trainprof.profiler.model.phases import PHASES
from trainprof.reports import numbers
from trainprof.reports.html.over_time import MOST_CHARTS
from trainprof.reports.phases import phase_label
from trainprof.reports.text import SHORT, printable

Json = Any

UNTOLD = ("signals", "submodules")
"""Facts with a table of their own, and those that only a program reads."""
UNITS = {"%": 0.01, "ms": 1e-3, "µs": 1e-6, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
"""Of the axes of charts, beside those in which the diagnosis has its values."""


TEXTS = """
(() => {
  const shown = {};
  for (const part of document.querySelectorAll("body h1, main section")) {
    const put = (text, element) => {
      const first = element.tagName === "TD" && element.parentElement.cells[0].lastChild;
      const row = first ? `/${first.textContent.replace(/^~/, "")}` : "";
      (shown[(part.id === "title" ? "" : part.id) + row] ??= []).push(text.trim());
    };
    const walker = document.createTreeWalker(part, NodeFilter.SHOW_TEXT | NodeFilter.SHOW_ELEMENT);
    for (let node = walker.currentNode; node; node = walker.nextNode()) {
      const element = node.nodeType === Node.TEXT_NODE ? node.parentElement : node;
      if (element.closest("pre, .plot, .numbers")) continue;
      if (node.nodeType === Node.TEXT_NODE) put(node.textContent, element);
      else ["title", "aria-label"].forEach((name) => put(node.getAttribute(name) || "", element));
    }
  }
  return shown;
})()
"""
"""Of each section, and of each row of its tables, the texts, titles and labels."""
CURVES = """
Object.fromEntries([...document.querySelectorAll(".plot")].map((plot) => [plot.id,
  plot.data.filter((one) => one.text).map((one) => (
    {y: [...one.y], texts: [...one.text], unit: plot.layout.yaxis.title.text}))]))
"""
"""Of each chart the curves that have a text at each point."""
OPENED = """
[...document.querySelectorAll("details")].every((one) => one.open && one.childElementCount > 1)
"""


def page_differs(browser: Any, diagnosis: Json, run: Json) -> list[str]:
    """What the page that is open in the browser shows and the diagnosis does not hold.

    Args:
        browser: Of tests/integration/html/conftest.py.
        diagnosis: diagnosis.json.
        run: run.json; {} for a trace.
    """
    for _ in range(2):  # some are inside others
        browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        browser.wait(OPENED)
    shown, drawn = browser.run(TEXTS), browser.run(CURVES)
    if "verdict" not in shown:
        return ["the page has no verdict"]
    return unexplained(shown, sources_of_page(diagnosis, run)) + curves_differ(drawn, diagnosis)


def run_differs(browser: Any, folder: Path) -> list[str]:
    """The same for the page of a run folder, which is open."""
    diagnosis, run = (
        json.loads((folder / name).read_text()) for name in ("diagnosis.json", "run.json")
    )
    return page_differs(browser, diagnosis, run)


def sources_of_page(diagnosis: Json, run: Json) -> dict[str, Sources]:
    """What may stand in each section of report.html.

    Args:
        diagnosis: diagnosis.json.
        run: run.json, for the machine and the variables of the environment.
    """
    steps, findings = diagnosis["steps"], diagnosis["findings"]
    first = sources_of([diagnosis[name] for name in ("headline", "ranks", "problems", "ignored")])
    about_run = of_run(diagnosis["run"])
    folded = folded_phases(steps["phases"])
    of_steps = sources_of(steps, "steps")
    counts = {numbers.count(number) for number in range(1, len(findings) + 1)}
    where = places(findings, diagnosis["run"])
    found = joined(sources_of(findings, "findings"), made(where, counts))
    over_time = made((), _points(diagnosis))
    signals = diagnosis["facts"].get("signals", {})
    seen = {name: one for name, one in diagnosis["facts"].items() if name not in UNTOLD}
    facts = [one for _, one in _facts(seen)]
    facts.append(made((), [numbers.count(len(facts))]))
    judged = numbers.count(sum(one["value"] is not None for one in signals.values()))
    named = sources_of(diagnosis["run"]["name"])
    sources = {
        "": named,
        "verdict": joined(first, about_run, of_steps, found),
        "composition": joined(of_steps, made((), folded), _timed(diagnosis["devices"])),
        "findings": found,
        "timeline": over_time,
        "resources": over_time,
        "stacks": _stacks(diagnosis["stacks"]),
        "devices": _timed([*diagnosis["devices"], diagnosis["training_thread"]]),
        "kernels": sources_of(diagnosis["kernels"], "kernels"),
        "operators": _operators(diagnosis["operators"]),
        "ranks": sources_of(diagnosis["ranks"], "ranks"),
        "path": joined(_timed([diagnosis["critical_path"]]), sources_of(diagnosis["what_if"])),
        "environment": joined(
            about_run, _machine(run), made((), [numbers.count(len(facts))]), *facts
        ),
        "measured": joined(sources_of(signals), made((), [judged])),
        "unseen": _unseen(diagnosis),
        "overhead": joined(sources_of(diagnosis["overhead"], "overhead"), about_run, found),
    }
    trainings = len(diagnosis["other_sessions"]) + 1
    for other in diagnosis["other_sessions"]:
        number = other["run"]["session"] + 1
        own = sources_of_page(other, run)
        parts = (own[name] for name in ("verdict", "composition", "findings"))
        heading = {str(number), str(trainings)}
        key = f"training-{number}"
        sources[key] = joined(*parts, made((), heading), sources.get(key, made((), ())))
    for row, one in _rows(diagnosis, folded):  # two findings may have the same signal
        sources[row] = joined(sources[row], one) if row in sources else one
    return sources


def _rows(diagnosis: Json, folded: Iterable[str]) -> Iterator[tuple[str, Sources]]:
    """What may stand in the single rows of tables, by what their first cell says."""
    for phase, time in diagnosis["steps"]["phases"].items():
        yield f"composition/{phase_label(phase)}", sources_of(time)
    yield "composition/other", made((), folded)
    for rank in diagnosis["ranks"]:
        yield f"ranks/rank {rank['rank']}", sources_of(rank, "ranks")
    for path, one in _facts(diagnosis["facts"]):
        yield f"environment/{printable(path, SHORT)}", one
    for name, signal in diagnosis["facts"].get("signals", {}).items():
        told = [*texts_in(signal), *places(signal, diagnosis["run"])]
        shown = [*with_unit(signal), *printed(signal["value"])]
        if isinstance(signal["value"], dict):
            shown.append(numbers.count(len(signal["value"])))
        yield f"measured/{printable(name, SHORT)}", made(told, shown)
    for row in (diagnosis["operators"] or {"rows": ()})["rows"]:
        yield f"operators/{printable(row['name'], SHORT)}", _operators(row)
    for finding in diagnosis["findings"]:
        for one in finding["evidence"]:
            yield f"findings/{printable(one['signal'], SHORT)}", sources_of(one)


def curves_differ(drawn: Mapping[str, Sequence[Json]], diagnosis: Json) -> list[str]:
    """Where a chart over time is not the series of the diagnosis, point by point.

    Args:
        drawn: Of each chart by its id the curves in their order: {"y", "texts", "unit"}.
        diagnosis: diagnosis.json.
    """
    phases = [f"{phase}_share" for phase in PHASES]
    charts = defaultdict(list)
    for series in diagnosis["series"]:
        name = {"step_s": "step_time"}.get(series["name"], series["name"])
        key = "phases" if name in phases else name.replace(".", "-").replace("_", "-")
        charts[f"chart-{key}"].append(series)
    found = []
    for name, curves in drawn.items():
        if len(curves) != len(charts[name]):
            found.append(f"{name}: {len(curves)} curves in place of {len(charts[name])}")
            continue
        for series, curve in zip(charts[name], curves, strict=True):
            found += [f"{series['name']}: {one}" for one in _points_differ(series, curve)]
    wanted = [name for name, of in charts.items() if any(one["buckets"] for one in of)]
    absent = [name for name in wanted if name not in drawn]
    if len(wanted) <= MOST_CHARTS:  # else the page says how many it leaves out
        found += [f"{name}: not drawn" for name in absent]
    return found


def _points_differ(series: Json, curve: Json) -> Iterator[str]:
    size = UNITS.get(curve["unit"], 1.0)
    if len(curve["y"]) != len(series["buckets"]):
        yield f"{len(curve['y'])} points"
        return
    for bucket, value, text in zip(series["buckets"], curve["y"], curve["texts"], strict=True):
        low, mean, high = (numbers.quantity(bucket[one], series["unit"])
                           for one in ("low", "mean", "high"))  # fmt: skip
        told = mean if bucket["low"] == bucket["high"] else f"{mean} ({low} to {high})"
        if text != told:
            yield f"{text!r} in place of {told!r}"
        exact = math.nan if bucket["mean"] is None else bucket["mean"]
        place = math.nan if value is None else value * size
        both_are_gaps = math.isnan(exact) and math.isnan(place)
        if not (both_are_gaps or math.isclose(place, exact, rel_tol=1e-4)):
            yield f"drawn at {value} {curve['unit']} in place of {mean}"


def _machine(run: Json) -> Sources:
    hardware = run.get("hardware") or {}
    cores = (hardware.get("usable_cores"), hardware.get("logical_cores"))
    return joined(
        made(texts_in([hardware, run.get("environment") or {}]), map(numbers.significant, cores)),
        made((), [numbers.size(hardware.get("memory_total_bytes"))]),
    )


def _facts(facts: Json, path: str = "") -> Iterator[tuple[str, Sources]]:
    """What was seen of the training's objects: the path of each value, and the value as it is."""
    if isinstance(facts, dict):
        for key, one in facts.items():
            yield from _facts(one, f"{path}.{key}" if path else key)
    elif isinstance(facts, list):
        texts = [", ".join(map(str, facts)), *texts_in(facts)]
        yield path, made([path, *texts], [numbers.count(len(facts))])
    elif facts is not None:
        yield path, made([path], [str(facts)])


def _points(diagnosis: Json) -> Iterator[str]:
    """How many points a curve has, and how many steps each stands for."""
    for series in diagnosis["series"]:
        points = len(series["buckets"])
        if points:
            yield f"{points:,}"
            yield f"{diagnosis['steps']['count'] / points:,.0f}"
        gpu = re.match(r"gpu(\d+)\.", series["name"])
        if gpu:
            yield f"GPU {gpu[1]}"


def _stacks(stacks: Mapping[str, Mapping[str, int]]) -> Sources:
    """Every frame, and the time in which it and what it calls were seen, from each caller."""
    frames: set[str] = set()
    times_ms: Counter[tuple[str, ...]] = Counter()
    for phase, lines in stacks.items():
        for line, time_ms in lines.items():
            parts = line.split(";")
            frames.update(parts)
            times_ms["end", phase, parts[-1]] += time_ms
            for depth in range(len(parts) + 1):
                times_ms[(phase, *parts[:depth])] += time_ms
    short = {re.sub(r"\([^()]*/([^/()]*)\)$", r"(\1)", printable(one, 200)) for one in frames}
    return made(frames | short, (numbers.seconds(one / 1e3) for one in times_ms.values()))


def _operators(part: Json) -> Sources:
    """The table or a row of it, and how many kinds of inputs beside the shown one a row has."""
    rows = [] if part is None else part.get("rows", [part])
    more = [numbers.count(one["shape_kinds"] - 1) for one in rows]
    return joined(sources_of(part, "operators"), made((), more))


def _timed(parts: Sequence[Json]) -> Sources:
    """Shares of a window with what they are in seconds."""
    known = [one for one in parts if one is not None]
    shares = [
        share * one["window_s"]
        for one in known
        for group in ("shares", "idle")
        for share in one.get(group, {}).values()
    ]
    return joined(sources_of(known), made((), map(numbers.seconds, shares)))


def _unseen(diagnosis: Json) -> Sources:
    """What is missing, counted by its reason as the report folds it."""
    parts = [diagnosis[name] for name in ("collectors", "skipped_rules", "missing")]
    rules: dict[str, int] = Counter(one["reason"] for one in diagnosis["skipped_rules"])
    values: dict[str, set[str]] = defaultdict(set)
    for path, reason in diagnosis["missing"].items():
        values[reason].add(re.sub(r"^(steps\.phases\.\w+)\..*", r"\1", path))
    groups = [*rules.values(), *map(len, values.values())]
    rest = [sum(sorted(group, reverse=True)[4:])
            for group in (rules.values(), [*map(len, values.values())])]  # fmt: skip
    more = [number - 4 for number in groups]
    total = len(diagnosis["missing"])
    return joined(sources_of(parts), made((), map(numbers.count, (*groups, *rest, *more, total))))
