"""Where the warm-up of a training ends, and whether what follows is steady."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainprof.rules.statistics.intervals import Floats, unit_edges, unit_sums
from trainprof.rules.statistics.trend import theil_sen

LEAST_WARM_UP_STEPS = 5
"""Allocators, caches and the first batch take some steps whatever the loop is."""

COMPILE_SEARCH_SHARE = 0.10
"""Compilations in this first part of the run are warm-up; later ones are part of the training."""

LEAST_COMPILE_SEARCH_STEPS = 50
"""The same, for short runs."""

MOST_DRIFT = 0.05
"""Change over the whole window, in parts of the mean, that still counts as steady."""

MOST_VARIATION = 0.02
"""Coefficient of variation of block means below which a run is steady whatever its trend (Georges,
Buytaert and Eeckhout 2007 use 0.01 to 0.02)."""

BLOCKS = 40
"""Block means that a run is judged by."""

LEAST_STEPS_LEFT = 40
"""No further warm-up is cut off that would leave fewer steps than this."""

LEAST_IMPROVEMENT = 2.0
"""Further warm-up is cut off only if that makes the mean's variance so many times smaller."""


@dataclass(frozen=True, slots=True)
class Window:
    """The steps behind every mean: positions `first` (included) to `stop` (excluded).

    Attributes:
        steady_count: Steps after the warm-up; 0 where all of the run is warm-up, and the window
            then holds its second half for want of better.
        steady: False where step times still drift; None with too few steps to tell.
        drift: Change over the window in parts of its mean, None with too few steps to tell.
    """

    first: int
    stop: int
    steady_count: int
    steady: bool | None
    drift: float | None

    def __len__(self) -> int:
        return self.stop - self.first


def find_window(
    wall_ns: NDArray[np.int64], compiled: NDArray[np.bool_], workers: int, prefetch_factor: int
) -> Window:
    """The steady part of a training.

    Warm-up is the longest of: five steps (the first batch among them), the steps up to the last
    early compilation, and twice the batches that workers prepare ahead (2 * W * prefetch_factor:
    until then the loop lives on what the workers made before it was slowed down, or waits for the
    first of them).

    Args:
        wall_ns: Of each step that the training itself ended.
        compiled: Whether torch.compile worked in it.
        workers: `num_workers` of the training's loader, 0 for none.
        prefetch_factor: Batches that each worker prepares ahead.
    """
    count = len(wall_ns)
    warm_up = max(
        LEAST_WARM_UP_STEPS,
        _last_early(compiled) + 1,
        2 * workers * prefetch_factor,
    )
    if warm_up >= count:
        return Window(count // 2, count, 0, None, None)
    least_block = 4 * workers
    first = warm_up + _slow_beginning(wall_ns[warm_up:], least_block)
    return _judged(wall_ns, first, least_block)


def _last_early(compiled: NDArray[np.bool_]) -> int:
    """Position of the last compilation among the first steps, -1 without one."""
    early = max(LEAST_COMPILE_SEARCH_STEPS, int(len(compiled) * COMPILE_SEARCH_SHARE))
    positions = np.flatnonzero(compiled[:early])
    return int(positions[-1]) if len(positions) else -1


def _slow_beginning(wall_ns: NDArray[np.int64], least_block: int) -> int:
    """Steps of a beginning unlike the rest (a cold cache, a slow disk), at most half of them.

    MSER (White 1997): cut where the variance of what is left, over its length, is least.
    """
    means = block_means(wall_ns, least_block)
    if len(means) < 4:
        return 0
    size = len(wall_ns) // len(means)
    most = min(len(means) // 2, (len(wall_ns) - LEAST_STEPS_LEFT) // size)
    errors = [float(means[cut:].var()) / (len(means) - cut) for cut in range(max(most, 0) + 1)]
    best = int(np.argmin(errors))
    return best * size if errors[best] * LEAST_IMPROVEMENT < errors[0] else 0


def _judged(wall_ns: NDArray[np.int64], first: int, least_block: int) -> Window:
    count = len(wall_ns)
    means = block_means(wall_ns[first:], least_block)
    trend = theil_sen(np.arange(len(means), dtype=np.float64), means)
    if trend is None:
        return Window(first, count, count - first, None, None)
    mean = float(means.mean())
    drift = trend.slope * len(means) / mean
    steady = (
        trend.is_flat
        or abs(drift) <= MOST_DRIFT
        or float(means.std(ddof=1)) / mean <= MOST_VARIATION
    )
    return Window(first, count, count - first, steady, drift)


def block_means(values: NDArray[np.int64], least_block: int) -> Floats:
    """Means of up to `BLOCKS` equal blocks of at least `least_block` steps; a short rest is left.

    Fewer than four such blocks: of shorter ones, as there is no better.
    """
    count = len(values)
    size = max(count // BLOCKS, 1)
    if count // max(least_block, 1) >= 4:
        size = max(size, least_block)
    edges = unit_edges(count, -(-count // size))
    sums = unit_sums(values, edges)
    lengths = np.diff(np.append(edges, count))
    whole = lengths == lengths[0]
    means: Floats = sums[whole] / lengths[whole]
    return means
