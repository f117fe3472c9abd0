"""What a tune tried, a row each: its parameters, what came of it, and its single pairs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainprof.profiler.model.tuning import Pair, TriedFix, TuneResult
from trainprof.reports.text import SHORT, printable


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One thing that was tried.

    Attributes:
        name: Unlike any other of the tune; also of its folder.
        parameters: What was set. metrics: What was measured.
        pairs: The single ones, in order, also those that do not count.
    """

    name: str
    parameters: Mapping[str, float | str]
    metrics: Mapping[str, float]
    pairs: tuple[Pair, ...] = ()


def trial_rows(tune: TuneResult) -> Iterator[TrialRow]:
    """The script against itself, each fix and setting that was tried, and fixes tried together."""
    if tune.aa_pairs:
        yield _control(tune)
    number = 0
    for verdict in ("kept", "inconclusive", "rejected", "failed"):
        tried: tuple[TriedFix, ...] = getattr(tune, verdict)
        for one in tried:
            number += 1
            name = f"{number:02d}-{_short(one.fix)}"
            about = {"fix": _short(one.fix), "verdict": verdict, "rule": _short(one.rule)}
            metrics = {**_metrics(one.speedup, one.ci, one.pairs), **_predicted(one)}
            yield TrialRow(name, {**about, **_parameters(one.params)}, metrics, one.measured)
            for place, setting in enumerate(one.searched, 1):
                params = {**about, **_parameters(setting.get("params") or {})}
                found = _metrics(setting.get("speedup"), None, setting.get("pairs"))
                yield TrialRow(f"{name}-setting-{place}", {**params, "verdict": "searched"}, found)
    for place, together in enumerate(tune.combinations, 1):
        parameters = {"fix": _short(" + ".join(together.fixes)), "verdict": together.verdict}
        metrics = _metrics(together.speedup, together.ci, together.pairs)
        yield TrialRow(f"together-{place}", parameters, metrics, together.measured)


def _control(tune: TuneResult) -> TrialRow:
    """Its ratio would be 1 on a machine without noise."""
    ratio, interval, pairs = (tune.aa.get(name) for name in ("ratio", "ci", "pairs"))
    metrics = _metrics(
        ratio if isinstance(ratio, float) else None,
        (interval[0], interval[1]) if isinstance(interval, list | tuple) else None,
        pairs if isinstance(pairs, int) else None,
    )
    return TrialRow("00-unchanged", {"verdict": "control"}, metrics, tune.aa_pairs)


def _metrics(
    speedup: float | None, interval: tuple[float, float] | None, pairs: int | None
) -> dict[str, float]:
    values = {"tune/speedup": speedup, "tune/pairs": pairs or None}
    if interval is not None:
        values |= {"tune/speedup_low": interval[0], "tune/speedup_high": interval[1]}
    return {
        name: float(value)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    }


def _predicted(one: TriedFix) -> dict[str, float]:
    if one.predicted is None:
        return {}
    low, high = one.predicted
    return {"tune/predicted_low": float(low), "tune/predicted_high": float(high)}


def _parameters(params: Mapping[str, Any]) -> dict[str, float | str]:
    """Numbers and truth values as they are, all else as text."""
    return {
        _short(name): value if isinstance(value, (bool, int, float)) else _text(value)
        for name, value in params.items()
        if value is not None
    }


def _text(value: object) -> str:
    return _short(value if isinstance(value, str) else json.dumps(value, default=str))


def _short(text: object) -> str:
    return printable(text, SHORT)
