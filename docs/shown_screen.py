"""Holds every number in a picture of the dashboard against the diagnosis and the records it shows.

What stands there of the moment (the last seconds, the loss, the machine) is in no diagnosis: it is
held against the board, which gathers it from the records of the run.
"""

from __future__ import annotations

import html
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from msgspec.json import encode
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
    with_unit,
)

from trainprof.profiler.store.tune_progress import TuneProgress
from trainprof.reports import numbers
from trainprof.reports.dashboard.board import LIVE_S, Board
from trainprof.reports.json_report import JsonReport
from trainprof.reports.phases import phase_label

Json = Any
BARS = ("all steps", "unchanged")
DETAILS = ("at", "found", "fix", "gain", "seen")
COLUMN = 12.2
"""Width of a character in a picture that rich makes."""
_TEXT = re.compile(r'<text [^>]*?x="([\d.]+)" y="([\d.]+)"[^>]*clip-path[^>]*>(.*?)</text>')


def lines_of(svg: str) -> list[str]:
    """The lines of the screen that a picture shows."""
    rows: dict[float, list[tuple[int, str]]] = defaultdict(list)
    for x, y, text in _TEXT.findall(svg):
        shown = html.unescape(text).replace("\xa0", " ")
        rows[float(y)].append((round(float(x) / COLUMN), shown))
    lines = []
    for y in sorted(rows):
        line = ""
        for column, text in sorted(rows[y]):
            line = line.ljust(column) + text
        lines.append(line)
    return lines


def screen_differs(svg: str, sources: dict[str, Sources]) -> list[str]:
    """The lines with a number that has no source, as "label: line"."""
    lines = _unwrapped(lines_of(svg))
    found, above = [] if lines else ["no line of text is in the picture"], ""
    for line in lines:
        label = line[1:11].strip()
        part = above if not label and above in BARS else label  # its legend
        own = sources.get(part, sources[""])
        whole = line.rstrip()
        if whole.endswith("…"):
            whole = _whole_only(whole[:-1], own)
        elif label in DETAILS and not own.explains(whole):  # the window may end below it
            whole = _whole_only(whole, own)
        if not own.explains(whole):
            found.append(f"{label}: {line.strip()!r}")
        above = label
    return found


def _unwrapped(lines: list[str]) -> list[str]:
    """The lines, those of a text that the screen has wrapped joined to one."""
    whole: list[str] = []
    for line in lines:
        label = whole[-1][1:11].strip() if whole else ""
        if label in DETAILS and line.strip() and not line[1:11].strip():
            whole[-1] = f"{whole[-1].rstrip()} {line.strip()}"
        else:
            whole.append(line)
    return whole


def _whole_only(body: str, sources: Sources) -> str:
    """The line without a text at its end that the screen has cut, and that has a source."""
    beginnings = (
        source[:length]
        for source in (*sources.texts, *sources.printed)
        for length in range(1, len(source))
        if re.search(rf"(?<![\w.]){re.escape(source[:length])}$", body)
    )
    return body.removesuffix(max(beginnings, key=len, default=""))


def sources_of_screen(board: Board) -> dict[str, Sources]:
    """What may stand on the screen now, by the label of its line; "" is any other line.

    Of a board that shows all ranks together.
    """
    if board.diagnosis is None:
        return {"": made((), ())}
    diagnosis = json.loads(JsonReport().render(board.diagnosis))
    of_steps = diagnosis["steps"]["phases"]
    parts = {phase_label(name): numbers.share(one["share"]) for name, one in of_steps.items()}
    parts["other"] = folded_phases(of_steps)[0]
    phases = made((), (f"{label} {share}" for label, share in parts.items()))
    shares = board.live(board.chosen()).shares
    if of_steps and board.over and board.is_diagnosed:
        shares = {name: one["share"] for name, one in of_steps.items()}
    waits = numbers.share(shares.get("data_wait", 0.0))
    around = joined(_found(diagnosis), of_run(diagnosis["run"]), _around(board))
    if board.tune is not None:
        around = joined(around, _tune(board, board.tune))
    return {
        "steps": made((), _rate(board, diagnosis)),
        "loss": made((), _losses(board)),
        "all steps": phases,
        "unchanged": phases,
        "data wait": made((), [waits, *_ready(board)]),
        "seen": _evidence(diagnosis),
        "ranks": made((), _slowest(board)),
        "": around,
    }


def _found(diagnosis: Json) -> Sources:
    """Verdict and findings."""
    findings = diagnosis["findings"]
    where = places(findings, diagnosis["run"])
    told = joined(sources_of(findings, "findings"), made(where, ()))
    return joined(told, sources_of(diagnosis["headline"]))


def _evidence(diagnosis: Json) -> Sources:
    """Of all findings, as another one may be chosen."""
    seen = [one for finding in diagnosis["findings"] for one in finding["evidence"]]
    return made(texts_in(seen), (text for one in seen for text in with_unit(one)))


def _slowest(board: Board) -> Iterator[str]:
    """The rank with the longest mean step, now or of the whole run; any of those that are equal."""
    steps_s = {rank.rank: board.live([rank]).step_s for rank in board.training()}
    if board.over and board.is_diagnosed and board.diagnosis is not None:
        steps_s = {one.rank: one.mean_s for one in board.diagnosis.ranks}
    longest_s = max((one for one in steps_s.values() if one is not None), default=None)
    for rank, step_s in steps_s.items():
        if step_s is not None and step_s == longest_s:
            yield f"slowest: {rank}, {numbers.seconds(step_s)} a step"


def _rate(board: Board, diagnosis: Json) -> Iterator[str]:
    live = board.live(board.chosen())
    steady = numbers.seconds(diagnosis["steps"]["mean_s"])
    yield f"{'steady' if board.is_diagnosed else 'unchanged'} {steady}"
    yield f"{numbers.significant(live.rate)} steps/s"
    if not board.over:
        yield f"{numbers.seconds(live.step_s)} a step now"
    if board.chosen():  # a trial that only starts has none
        yield f"{numbers.count(max(rank.steps for rank in board.chosen()))} steps"


def _tune(board: Board, tune: TuneProgress) -> Sources:
    """What a tune has written of its course, and the time by the clock of the screen.

    Texts may be cut into several lines, so each of their words may stand alone.
    """
    texts = [word for one in texts_in(json.loads(encode(tune.attempts))) for word in one.split()]
    texts += tune.begun.command if tune.begun is not None else ()
    texts += [word for one in tune.refused for word in one.reason.split()]
    shown = [f"trials {len(tune.attempts)}"]
    for one in tune.attempts:
        measured = [one.speedup, *(one.ci or ()), *(pair.ratio for pair in one.measured)]
        shown += [f"{value:.2f}" for value in measured if value is not None]
        shown += [f"{one.pairs} pairs", f"{one.pairs} pair"]
        for params in (one.params, *(setting["params"] for setting in one.searched)):
            texts += [f"{name}={value}" for name, value in params.items()]
        found = [setting["speedup"] for setting in one.searched]
        shown += [f"{value:.2f}" for value in found if value is not None]
        if one.predicted is not None:
            shown.append(numbers.ratio(*one.predicted))
    for pairs, least in (tune.aa.get("detectable") or {}).items():
        shown += [pairs, f"{least:.2f}"]
    shown.append(numbers.share(tune.aa.get("sd")))
    if tune.run is not None:
        steps = [rank.steps for rank in board.training()]
        shown += [f"step {numbers.count(one)} of {numbers.count(tune.run.steps)}" for one in steps]
        texts += [
            f"pair {tune.run.pair} of at most {tune.run.pairs_at_most}",
            f"pair {tune.run.pair} of {tune.run.pairs_at_most}",
        ]
    if tune.result is not None:
        shown.append(numbers.seconds(float(round(tune.result.seconds))))
    if tune.begun is not None:
        spent_s = board.unix_s - tune.begun.started_unix_s
        for value_s in (spent_s, tune.begun.budget_s - spent_s):
            shown.append(numbers.seconds(float(round(value_s))))
    return made(texts, shown)


def _losses(board: Board) -> Iterator[str]:
    latest = [rank.loss for rank in board.chosen() if rank.loss is not None]
    if latest:
        yield numbers.significant(sum(latest) / len(latest))
    means = [one for one in board.loss_means() if one is not None]
    if means:
        yield from map(numbers.significant, (min(means), max(means)))


def _ready(board: Board) -> Iterator[str]:
    yield from (f"{numbers.count(rank.ready)} ready" for rank in board.chosen())


def _around(board: Board) -> Sources:
    """The title, the machine now, and the events."""
    texts = [f"last {LIVE_S} s", numbers.seconds(float(round(board.now_s)))]
    texts += [
        f"all {len(board.training())} ranks",
        *(one.label for one in board.machine.gauges.values()),
    ]
    shown = [numbers.quantity(one.value, one.unit) for one in board.machine.gauges.values()]
    shown.append(f"events {len(board.events)}")
    for event in board.events:
        shown.append(numbers.seconds(float(round(event.at_s, 1))))
        shown.append(numbers.seconds(event.event.duration_ns / 1e9))
        shown += printed(event.event.data)
        texts += texts_in(event.event.data)
    return made(texts, shown)
