"""Whether the loss is unharmed: what a change may do to it depends on what the change is.

- safe: the first losses are equal but for what equal runs differ by;
- numerics, rounding: the smoothed curve stays as near as equal runs stay, or within 0.5 %;
- numerics, random numbers: as rounding; where the curves do differ, the last fifth must lie where
  runs with other seeds end.
In every case no loss may become infinite or NaN that was none before.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FIRST_LOSSES = 20
"""Compared one by one for safe changes."""
EQUAL = 1e-6
"""Relative difference that nondeterministic sums may make."""
SMOOTHING = 0.9
"""Of the moving average; a single loss is a noisy thing."""
LEAST_TOLERANCE = 0.005
"""Relative; a curve this near is the same curve."""
LEAST_SEEDS = 3
"""Runs with other seeds, before their spread says anything."""
LAST_PART = 0.2
"""Of the steps, whose mean says where a run ends."""

Losses = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class LossCheck:
    """The answer. `passed` is None where the losses cannot tell, and `text` says why."""

    passed: bool | None
    text: str
    difference: float | None = None
    allowed: float | None = None


def check_losses(
    baseline: Sequence[Losses],
    changed: Sequence[Losses],
    *,
    safety: str,
    rounding: bool,
    seeded: Sequence[Losses] = (),
) -> LossCheck:
    """Compares the losses of the trials.

    Args:
        baseline: Of the unchanged trials, all with the script's own seed.
        changed: Of the trials with the change.
        safety: Of the change.
        rounding: Whether only rounding differs.
        seeded: Of unchanged trials with other seeds.
    """
    pairs = [(one, other) for one in baseline[:1] for other in changed if one and other]
    if not pairs:
        return LossCheck(None, "no losses were seen")
    if not all(math.isfinite(value) for losses in changed for value in losses.values()):
        if all(math.isfinite(value) for losses in baseline for value in losses.values()):
            return LossCheck(False, "a loss became infinite or NaN")
        return LossCheck(None, "the losses are not finite without the change either")
    own = [(baseline[0], other) for other in baseline[1:] if other]
    if safety == "safe":
        drift = max((_first_difference(*pair) for pair in own), default=0.0)
        found = max(_first_difference(*pair) for pair in pairs)
        return _verdict(found, max(2.0 * drift, EQUAL), f"the first {FIRST_LOSSES} losses")
    drift = max((_curve_difference(*pair) for pair in own), default=0.0)
    found = max(_curve_difference(*pair) for pair in pairs)
    near = _verdict(found, max(2.0 * drift, LEAST_TOLERANCE), "the smoothed losses")
    if near.passed or rounding:
        return near
    if len(seeded) < LEAST_SEEDS:
        return LossCheck(
            None,
            f"random numbers are drawn otherwise, and {LEAST_SEEDS} runs with other seeds are "
            "needed to tell",
        )
    return _ends_alike(seeded, changed)


def _verdict(found: float, allowed: float, what: str) -> LossCheck:
    text = f"{what} differ by {found:.2g} at most, {allowed:.2g} is allowed"
    return LossCheck(found <= allowed, text, found, allowed)


def _relative(old: float, new: float) -> float:
    return abs(new - old) / max(abs(old), 1e-12)


def _shared(one: Losses, other: Losses) -> list[int]:
    return sorted(set(one) & set(other))


def _first_difference(one: Losses, other: Losses) -> float:
    steps = _shared(one, other)[:FIRST_LOSSES]
    return max((_relative(one[step], other[step]) for step in steps), default=math.inf)


def _curve_difference(one: Losses, other: Losses) -> float:
    steps = _shared(one, other)
    if not steps:
        return math.inf
    old, new, worst = one[steps[0]], other[steps[0]], 0.0
    for step in steps:
        old = SMOOTHING * old + (1 - SMOOTHING) * one[step]
        new = SMOOTHING * new + (1 - SMOOTHING) * other[step]
        worst = max(worst, _relative(old, new))
    return worst


def _end(losses: Losses) -> float:
    steps = sorted(losses)
    last = steps[-max(1, int(len(steps) * LAST_PART)) :]
    return statistics.fmean(losses[step] for step in last)


def _ends_alike(unchanged: Sequence[Losses], changed: Sequence[Losses]) -> LossCheck:
    ends = [_end(losses) for losses in unchanged if losses]
    new = statistics.fmean(_end(losses) for losses in changed if losses)
    spread = statistics.stdev(ends)
    middle = statistics.fmean(ends)
    worse = (new - max(ends)) / max(abs(middle), 1e-12)
    allowed = max(spread / max(abs(middle), 1e-12), 0.01)
    text = (
        f"the last losses are {new:.4g}, of unchanged runs {min(ends):.4g} to {max(ends):.4g}; "
        f"{allowed:.2g} beyond that is allowed"
    )
    return LossCheck(worse <= allowed, text, max(worse, 0.0), allowed)
