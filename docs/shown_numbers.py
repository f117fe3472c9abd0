"""Holds every number that a face of trainprof shows against diagnosis.json.

For each part of a face it is written down, apart from the reports, what of the diagnosis may stand
there: its texts, and its numbers as `reports.numbers` prints them. A digit that is left once these
are taken out comes from nowhere. So a number is found out also where it belongs to another part,
such as the mean step of a rank in place of that of the run.
"""

from __future__ import annotations

import datetime
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trainprof.reports import numbers
from trainprof.reports.phases import MIN_SHARE
from trainprof.reports.text import SENTENCE, SHORT, printable

Json = Any
CUTS = (SHORT, 2 * SHORT, 200, SENTENCE)
"""Characters at which the reports cut a text."""
WORDING = ("90 % interval", "0 shows all", "the first 400 of")
"""Digits in what reports say themselves: the level of intervals, a key's name, a table's limit."""

_SHARE = re.compile(r"share|\.idle\.|precisions|tensor_cores")
_SECONDS = re.compile(r"(?:^|[._])s(?:_per_step|_low|_high)?$")
_UNIT = r"(?!\s?(?:[%x]|(?:s|ms|µs|ns|min|h|d|[KMGT]iB|B)\b))"
"""Not followed by a unit: "5" is no part of "5 ms"."""


@dataclass(frozen=True)
class Sources:
    """What may stand in one part of a face.

    Attributes:
        texts: As recorded. printed: Numbers, as `reports.numbers` prints them.
    """

    texts: frozenset[str]
    printed: frozenset[str]

    def explains(self, shown: str) -> bool:
        """Whether each digit of the text has a source."""
        if shown in self.printed or shown in self.texts:
            return True
        return re.search(r"\d", self._known.sub("", shown)) is None

    @cached_property
    def _known(self) -> re.Pattern[str]:
        every = sorted({*self.texts, *self.printed, *WORDING}, key=len, reverse=True)
        parts = [
            re.escape(one) + (_UNIT if re.fullmatch(r"[-\d.,]+", one) else "") for one in every
        ]
        return re.compile(rf"(?<![\w.])(?:{'|'.join(parts)})(?!\w)(?![.,]\d)")


def unexplained(shown: Mapping[str, Iterable[str]], sources: Mapping[str, Sources]) -> list[str]:
    """The texts with a number that has no source in their part, as "part: text".

    Args:
        shown: Of each part of a face its texts; of a cell of a table the part is "section/row".
        sources: By part; a row without sources of its own has those of its section.
    """
    nothing = Sources(frozenset(), frozenset())
    found = []
    for part, texts in shown.items():
        own = sources.get(part) or sources.get(part.partition("/")[0]) or nothing
        found += [f"{part}: {one!r}" for one in dict.fromkeys(texts) if not own.explains(one)]
    return found


def places(value: Json, run: Json) -> Iterator[str]:
    """The files that a value names, by each of the paths under which a report may show them."""
    if isinstance(value, dict):
        if "file" in value and "line" in value:
            yield from (f"{printable(one)}:{value['line']}" for one in _paths(value["file"], run))
        for inner in value.values():
            yield from places(inner, run)
    elif isinstance(value, list):
        for inner in value:
            yield from places(inner, run)


def _paths(path: str, run: Json) -> tuple[str, ...]:
    """As recorded, by its name, and from the folders of the run and of whoever shows it."""
    base = run["cwd"] or "/"
    return path, os.path.basename(path), os.path.relpath(path, base), os.path.relpath(path)


def printed(value: Json, path: str = "") -> Iterator[str]:
    """Each number of a value of diagnosis.json, as a report prints it."""
    if isinstance(value, dict):
        yield from with_unit(value)
        if value.keys() == {"low", "high"} and None not in value.values():
            yield numbers.ratio(value["low"], value["high"])
        for key, inner in value.items():
            yield from printed(inner, f"{path}.{key}")
    elif isinstance(value, list):
        yield numbers.count(len(value))
        for inner in value:
            yield from printed(inner, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield _number(value, path)


def _number(value: float, path: str) -> str:
    """By the name of the field, which tells the unit."""
    if _SHARE.search(path):
        return numbers.share(value)
    if path.endswith("_per_s"):
        return numbers.significant(value)
    if _SECONDS.search(path):
        return numbers.seconds(value)
    return numbers.size(value) if path.endswith("_bytes") else numbers.count(value)


def folded_phases(phases: Json) -> list[str]:
    """All phases together that are too small for a row of their own: share and time."""
    small = [one for one in phases.values() if 0 < one["share"] < MIN_SHARE]
    return [
        numbers.share(sum(one["share"] for one in small)),
        numbers.seconds(sum(one["s_per_step"] for one in small)),
    ]


def with_unit(value: Mapping[str, Json]) -> Iterator[str]:
    """Of evidence and of a signal, whose unit stands beside the number."""
    unit = value.get("unit")
    if isinstance(unit, str):
        yield from (numbers.quantity(value.get(name), unit) for name in ("value", "threshold"))


def texts_in(value: Json) -> Iterator[str]:
    """All texts of a value, also the names of its fields."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from texts_in(inner)
    elif isinstance(value, str):
        yield value


def sources_of(value: Json, path: str = "") -> Sources:
    """All texts and numbers of a part of the diagnosis; its path tells units that fields do not."""
    return made(texts_in(value), printed(value, path))


def made(texts: Iterable[str], numbers_shown: Iterable[str]) -> Sources:
    """Only what has a digit in it has to be explained."""
    cut = {printable(text, limit) for text in texts for limit in CUTS}
    digit = re.compile(r"\d")
    return Sources(
        frozenset(filter(digit.search, cut)), frozenset(filter(digit.search, numbers_shown))
    )


def joined(*parts: Sources) -> Sources:
    """What any of these explains."""
    return Sources(
        frozenset().union(*(one.texts for one in parts)),
        frozenset().union(*(one.printed for one in parts)),
    )


def of_run(run: Json) -> Sources:
    """The run, its command as it was typed and the instant at which it began."""
    texts = [shlex.join(run["argv"])]
    if run["started_unix_s"] is not None:
        began = datetime.datetime.fromtimestamp(run["started_unix_s"], tz=datetime.timezone.utc)
        texts.append(began.strftime("%Y-%m-%d %H:%M:%S UTC"))
    if run["path"]:
        texts += [shlex.quote(os.path.relpath(run["path"])), shlex.quote(run["path"])]
    return joined(sources_of(run, "run"), made(texts, ()))
