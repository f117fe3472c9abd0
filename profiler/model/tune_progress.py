"""What a tune writes down of its course, for whoever watches it; `TuneResult` is its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .tuning import Pair, RefusedFix

PURPOSES = ("baseline", "kept", "noise", "seed", "setting", "pair")
"""What a run of a tune is for. The first two are diagnosed: the unchanged script, what is kept so
far. The others are trials: of a pair of unchanged runs, with another seed, of a search for a
setting, of a pair of an attempt."""


@dataclass(frozen=True, slots=True)
class TuneBegun:
    """A tune begins, or goes on.

    Attributes:
        command: With its secrets masked. budget_s: For all of it, from now on.
        host, supervisor_pid: Of its process. started_unix_s: Its start.
    """

    command: tuple[str, ...]
    budget_s: float
    host: str | None
    supervisor_pid: int | None
    started_unix_s: float


@dataclass(frozen=True, slots=True)
class TunePlanned:
    """What there is to try.

    Attributes:
        steps: Of a trial. refused: What is not tried.
    """

    steps: int
    refused: tuple[RefusedFix, ...] = ()


@dataclass(frozen=True, slots=True)
class TuneRun:
    """A run of the script starts.

    Attributes:
        purpose: One of `PURPOSES`. folder: Of its records, below that of the tune.
        steps: That it is to do. number: Of the attempt that it belongs to.
        changed: Whether it runs under what is tried. params: Of what is tried.
        pair, pairs_at_most: Which of how many, from 1 on.
    """

    purpose: str
    folder: str
    steps: int
    number: int | None = None
    changed: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    pair: int = 0
    pairs_at_most: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One fix, or several together, as far as it got.

    Attributes:
        number: Tells it apart from others of the same fix.
        verdict: keep | reject | inconclusive | failed | refused; None until it has one.
        reason: Of the verdict, for a reader. Others: As of `TriedFix`.
    """

    number: int
    fixes: tuple[str, ...]
    params: Mapping[str, Any] = field(default_factory=dict)
    rule: str = ""
    verdict: str | None = None
    speedup: float | None = None
    ci: tuple[float, float] | None = None
    pairs: int = 0
    predicted: tuple[float, float] | None = None
    reason: str = ""
    loss_check: Mapping[str, Any] | None = None
    measured: tuple[Pair, ...] = ()
    searched: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class TuneNoise:
    """How much equal runs differ; see `TuneResult.aa`."""

    aa: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TuneEnded:
    """It is over: how (see `TuneResult.ended`, or "failed"), and why where it failed."""

    ended: str
    reason: str = ""
