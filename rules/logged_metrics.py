"""The values that a script logged, as series; which of them tell how well the model is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.records import Event
from trainprof.rules.statistics.intervals import Floats

MEDIAN_OF_NORMAL = 0.6745
"""Median of the absolute value of a standard normal variable."""

_VALIDATION = re.compile(r"(^|[^a-z])(val|valid|validation|eval|evaluation|test|dev)([^a-z]|$)")
_LESS_IS_BETTER = re.compile(
    r"(^|[^a-z])(loss|error|err|perplexity|ppl|mse|mae|rmse|nll|cer|wer|bpc|bpb|elbo_loss)([^a-z]|$)"
)
_MORE_IS_BETTER = re.compile(
    r"(^|[^a-z])(acc|accuracy|top\d|f1|auc|auroc|iou|miou|map|bleu|rouge|recall|precision|r2|psnr"
    r"|ssim|dice)([^a-z]|$)"
)
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(slots=True)
class LoggedSeries:
    """One tag's values in the order of logging.

    Attributes:
        at_ns: When each was logged. values: What; finite or not.
        where: The line that logs it.
    """

    tag: str
    where: Location | None = None
    at_ns: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.values)


def logged_series(events: Iterable[Event]) -> dict[str, LoggedSeries]:
    """Every tag of the "metrics" events; what is not of their form is left out."""
    series: dict[str, LoggedSeries] = {}
    for event in events:
        places = event.data.get("where") or {}
        for tag, points in dict(event.data.get("values") or {}).items():
            one = series.setdefault(tag, LoggedSeries(tag))
            place = places.get(tag)
            if one.where is None and isinstance(place, dict):
                one.where = Location(place["file"], place["line"], place.get("function"))
            for offset_us, _, value in points:
                one.at_ns.append(event.start_ns + int(offset_us) * 1_000)
                one.values.append(float(value))
    return series


def is_validation(tag: str) -> bool:
    """Whether a tag's name says that it was measured on data that does not train."""
    return _VALIDATION.search(_plain(tag)) is not None


def direction(tag: str) -> int:
    """-1 where less is better, 1 where more is, 0 where the name does not tell."""
    plain = _plain(tag)
    if _LESS_IS_BETTER.search(plain):
        return -1
    return 1 if _MORE_IS_BETTER.search(plain) else 0


def validation_series(series: Iterable[LoggedSeries]) -> LoggedSeries | None:
    """The one to judge by: a validation loss before any other measure, then the longest.

    Series with a value that is no number, and those whose name does not tell whether less or more
    is better, are not chosen.
    """
    known = [
        one
        for one in series
        if is_validation(one.tag)
        and direction(one.tag)
        and len(one)
        and all(math.isfinite(value) for value in one.values)
    ]
    return max(known, key=lambda one: (direction(one.tag) < 0, len(one)), default=None)


def lowered(one: LoggedSeries) -> Floats:
    """Its values with the sign that makes less better."""
    return -direction(one.tag) * np.array(one.values, dtype=np.float64)


def noise(values: Floats) -> float:
    """Standard deviation of the second half of a series about its course.

    From its second differences, to which a course that is straight over three points adds nothing
    (Gasser, Sroka and Jennen-Steinmetz 1986); of these the median, as single jumps are no noise.
    The first half is left out: there the course is bent.
    """
    bends = np.diff(values[len(values) // 2 :], n=2)
    if not len(bends):
        return 0.0
    return float(np.median(np.abs(bends)) / MEDIAN_OF_NORMAL / math.sqrt(6.0))


def _plain(tag: str) -> str:
    return _WORDS.sub("_", tag).lower()
