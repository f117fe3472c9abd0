"""Whether the loss is unharmed: what a change may do to it depends on what the change is.

- safe: the first losses are equal but for what equal runs differ by;
- numerics, rounding: the smoothed curve stays as near as equal runs stay, or within 0.5 %; where it
  does so for the first 100 steps only, the last fifth must lie where runs with other seeds end;
- numerics, random numbers: the last fifth must lie there wherever the curves do differ.
Where equal runs differ by a lot (the script sets no seed), they are what runs with other seeds are,
and the last fifth decides for every change. In every case no loss may become infinite or NaN that
was none before.
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
EARLY = 100
"""Steps in which rounding may not show yet. Later on the differences of a deep network have grown
by themselves, and equal steps are not to be asked for (a starting value)."""
LEAST_SEEDS = 4
"""Runs with different seeds, before their spread says anything. One more of the same kind ends
outside of it in 16 % of cases, in 7 % of seven runs (simulated, normal)."""
UNRELATED = 0.05
"""Relative difference of the smoothed curves from which on equal runs differ as seeds do."""
LAST_PART = 0.2
"""Of the steps, whose mean says where a run ends."""

Losses = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class LossCheck:
    """The answer.

    Attributes:
        passed: None where the losses cannot tell; `text` says why.
        difference, allowed: Relative, of what `text` names.
        by_seeds: More runs with other seeds could tell better.
    """

    passed: bool | None
    text: str
    difference: float | None = None
    allowed: float | None = None
    by_seeds: bool = False


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
        seeded: Of unchanged trials, each with another seed.
    """
    pairs = [(one, other) for one in baseline[:1] for other in changed if one and other]
    if not pairs:
        return LossCheck(None, "no losses were seen")
    if not all(math.isfinite(value) for losses in changed for value in losses.values()):
        if all(math.isfinite(value) for losses in baseline for value in losses.values()):
            return LossCheck(False, "a loss became infinite or NaN")
        return LossCheck(None, "the losses are not finite without the change either")
    own = [(baseline[0], other) for other in baseline[1:] if other]
    drift = max((_curve_difference(*pair) for pair in own), default=0.0)
    if drift > UNRELATED:
        return _ends_alike(baseline, changed)
    if safety == "safe":
        first = max((_first_difference(*pair) for pair in own), default=0.0)
        found = max(_first_difference(*pair) for pair in pairs)
        return _verdict(found, max(2.0 * first, EQUAL), f"the first {FIRST_LOSSES} losses")
    found = max(_curve_difference(*pair) for pair in pairs)
    near = _verdict(found, max(2.0 * drift, LEAST_TOLERANCE), "the smoothed losses")
    if near.passed:
        return near
    if rounding:
        early = max(_curve_difference(*pair, steps=EARLY) for pair in pairs)
        if early > max(2.0 * drift, LEAST_TOLERANCE):
            return near
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


def _curve_difference(one: Losses, other: Losses, steps: int | None = None) -> float:
    """Of the first steps; of all where `steps` is None."""
    shared = _shared(one, other)[:steps]
    if not shared:
        return math.inf
    old, new, worst = one[shared[0]], other[shared[0]], 0.0
    for step in shared:
        old = SMOOTHING * old + (1 - SMOOTHING) * one[step]
        new = SMOOTHING * new + (1 - SMOOTHING) * other[step]
        worst = max(worst, _relative(old, new))
    return worst


def _end(losses: Losses) -> float:
    steps = sorted(losses)
    last = steps[-max(1, int(len(steps) * LAST_PART)) :]
    return statistics.fmean(losses[step] for step in last)


def _ends_alike(unchanged: Sequence[Losses], changed: Sequence[Losses]) -> LossCheck:
    """Whether changed runs end where unchanged ones do, up to their spread beyond the outermost.

    Lower is no better: data that is repeated, or augmented less, is learnt faster too.
    """
    ends = [_end(losses) for losses in unchanged if losses]
    if len(ends) < LEAST_SEEDS:
        text = f"random numbers are drawn otherwise, and {LEAST_SEEDS} seeds are needed to tell"
        return LossCheck(None, text, by_seeds=True)
    new = statistics.fmean(_end(losses) for losses in changed if losses)
    scale = max(abs(statistics.fmean(ends)), 1e-12)
    beyond = max(new - max(ends), min(ends) - new, 0.0) / scale
    allowed = max(statistics.stdev(ends) / scale, 0.01)
    text = (
        f"with other random numbers the last losses are {new:.4g}, and {min(ends):.4g} to "
        f"{max(ends):.4g} in {len(ends)} unchanged runs; {allowed:.2g} beyond that is allowed"
    )
    return LossCheck(beyond <= allowed, text, beyond, allowed, by_seeds=True)
