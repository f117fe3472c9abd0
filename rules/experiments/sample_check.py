"""Whether a change of the loading leaves out samples, or repeats some: the same in every epoch.

A trial records for each pass over a loader how many samples each batch had and the sum of hashes
of their indices. Sums do not depend on the order, so that whole epochs can be compared although
they were shuffled otherwise. Of a pass that the trial cut off, the beginnings are compared as far
as both go, where equal runs draw equally.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

MASK = (1 << 61) - 1
"""Sums are kept below it."""

Samples = Mapping[str, Mapping[str, Any]]
"""By loader and epoch: `counts` and `sums` of each batch, and whether the pass was `complete`."""


def sample_difference(
    unchanged: Sequence[Samples], changed: Sequence[Samples], *, same_order: bool
) -> str | None:
    """A sentence about the first pass in which other samples were drawn; None if there is none.

    A pass that differs between unchanged trials (the script splits its data at random, without a
    seed) says nothing.

    Args:
        unchanged: Of the unchanged trials; of which the first is compared.
        changed: Of the trials with the change.
        same_order: Whether the change leaves random numbers as they are, so that the same samples
            come first.
    """
    if not unchanged:
        return None
    first = unchanged[0]
    ordered = same_order and not any(_differing(first, one, True) for one in unchanged[1:])
    drawn_anew = {key for one in unchanged[1:] for key in _differing(first, one, False)}
    if not same_order:
        drawn_anew |= _other_each_time(first)
    for trial in changed:
        for key in _differing(first, trial, ordered):
            if key not in drawn_anew:
                return f"other samples are drawn ({_name(key)})"
    return None


def _name(key: str) -> str:
    loader, _, epoch = key.removeprefix("l").partition("e")
    if not (loader.isdigit() and epoch.isdigit()):
        return key
    return f"loader {int(loader) + 1}, epoch {int(epoch) + 1}"


def _differing(one: Samples, other: Samples, ordered: bool) -> list[str]:
    """The passes that are not the same in both."""
    shared = [key for key in one if key in other]
    return [key for key in shared if not _equal(one[key], other[key], ordered=ordered)]


def _other_each_time(trial: Samples) -> set[str]:
    """Passes of loaders whose epochs draw other samples each, as samplers with replacement do."""
    totals: dict[str, list[list[tuple[int, int]]]] = {}
    for key, epoch in trial.items():
        if epoch["complete"]:
            totals.setdefault(key.partition("e")[0], []).append(list(_totals(epoch).items())[-1:])
    unlike = {loader for loader, found in totals.items() if any(one != found[0] for one in found)}
    return {key for key in trial if key.partition("e")[0] in unlike}


def _equal(one: Mapping[str, Any], other: Mapping[str, Any], *, ordered: bool) -> bool:
    first, second = _totals(one), _totals(other)
    if one["complete"] and other["complete"]:
        return list(first.items())[-1:] == list(second.items())[-1:]
    shared = [count for count in first if count in second]
    return not (ordered and shared) or first[shared[-1]] == second[shared[-1]]


def _totals(epoch: Mapping[str, Any]) -> dict[int, int]:
    """Samples drawn so far -> sum of their hashes, after each batch."""
    counts = accumulate(epoch["counts"])
    sums = accumulate(epoch["sums"], lambda before, new: (before + new) & MASK)
    return dict(zip(counts, sums, strict=True))
