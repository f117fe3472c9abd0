"""What is said of a tune, in words that all reports share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainprof.profiler.model.tuning import Pair, TuneResult
from trainprof.reports import numbers
from trainprof.reports.text import SHORT, printable

PAIR_HEADINGS = ("first", "step without", "step with", "faster", "counts")


def headline(result: TuneResult) -> str:
    """What was proven, in a sentence."""
    if result.speedup is None or result.ci is None:
        ending = {"budget": " in the time given", "interrupted": " before it was interrupted"}
        return f"Nothing was proven faster{ending.get(result.ended, '')}; change nothing."
    names = ", ".join(fix.fix for fix in result.kept)
    return (
        f"{times(result.speedup)} {interval(result.ci)} with {names}: "
        f"{result.pairs} pairs, and the loss is unharmed."
    )


def times(ratio: float) -> str:
    """A ratio of old over new time: 1.42 times faster."""
    return f"{ratio:.2f} times {'faster' if ratio >= 1.0 else 'as fast'}"


def interval(bounds: tuple[float, float]) -> str:
    """Of a ratio: [1.20, 1.68]."""
    return f"[{bounds[0]:.2f}, {bounds[1]:.2f}]"


def factor(ratio: float | None) -> str:
    """The same in a table: 1.42x."""
    return numbers.NOT_MEASURED if ratio is None or not math.isfinite(ratio) else f"{ratio:,.2f}x"


def pair_cells(pair: Pair) -> tuple[str, ...]:
    """One pair under `PAIR_HEADINGS`."""
    return (
        {"old": "without", "new": "with"}.get(pair.first, printable(pair.first, SHORT)),
        numbers.seconds(pair.old_step_s),
        numbers.seconds(pair.new_step_s),
        factor(pair.ratio),
        "yes" if pair.left_out is None else f"no: {printable(pair.left_out)}",
    )


def settings(params: Mapping[str, Any]) -> str:
    """The parameters of a fix: num_workers=2, prefetch_factor=4."""
    return ", ".join(f"{name}={value}" for name, value in params.items())


def searched_line(searched: Sequence[Mapping[str, Any]]) -> str:
    """The settings that were tried to choose one, each with the ratio of its short pairs."""
    return f"chosen among {'; '.join(map(_searched, searched))}"


def _searched(setting: Mapping[str, Any]) -> str:
    params, ratio = setting.get("params"), setting.get("speedup")
    told = settings(params) if isinstance(params, Mapping) else "?"
    return f"{told} ({ratio:.2f})" if isinstance(ratio, (int, float)) else f"{told} (failed)"
