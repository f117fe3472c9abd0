"""Making a batch of items: what the loader's collate function costs, against merely stacking."""

from __future__ import annotations

import cProfile
import pstats
import time
import warnings
from collections.abc import Callable
from types import CodeType
from typing import Any

from ...agent.location import is_user_file
from .contents import is_numbers, is_tensor, leaves
from .items import Items

MOST_REPEATS = 5
SLOW_LIST_WARNING = "list of numpy.ndarrays is extremely slow"


def fill(items: Items, count: int, deadline: float) -> None:
    """Fetches more items until there are enough for a batch, or the time is up."""
    for index in range(items.length):
        if len(items.kept) >= count or time.perf_counter() > deadline:
            return
        if index not in items.failed:
            items.keep(items.fetch(index), 0)


def measure_collate(
    torch: Any, items: Items, collate: Callable[[Any], Any], batch_size: int, deadline: float
) -> dict[str, Any] | None:
    """The shortest of a few runs; where there are too few items they are used several times."""
    fill(items, batch_size, deadline)
    if not items.kept:
        return None
    times: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = None
        while len(times) < MOST_REPEATS and (not times or time.perf_counter() < deadline):
            samples = [items.kept[place % len(items.kept)] for place in range(batch_size)]
            start = time.perf_counter()
            batch = collate(samples)
            times.append(time.perf_counter() - start)
    numbers = sum(is_numbers(leaf) for _, leaf in leaves(items.kept[0]))
    return {
        "batch_size": batch_size,
        "collate_s": min(times),
        "stack_s": _stacking_s(torch, batch),
        "collate_number_lists": numbers,
        "collate_array_lists": _warns_of_array_lists(torch, collate, samples),
        "collate_hottest": _hottest(collate, samples),
        **_place(collate),
    }


def _warns_of_array_lists(torch: Any, collate: Callable[[Any], Any], samples: list[Any]) -> bool:
    """By itself, as a warning takes time, and torch gives most of them once in a process."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            collate(samples)
    finally:
        torch.set_warn_always(before)
    return any(SLOW_LIST_WARNING in str(entry.message) for entry in caught)


def _stacking_s(torch: Any, batch: Any) -> float:
    """Time to stack the rows of the batch's tensors: what no collate function can do without."""
    total = 0.0
    for _, leaf in leaves(batch):
        if is_tensor(leaf) and leaf.dim() > 0 and len(leaf):
            rows = [row.clone() for row in leaf.detach().unbind(0)]
            best = float("inf")
            for _ in range(3):
                start = time.perf_counter()
                torch.stack(rows)
                best = min(best, time.perf_counter() - start)
            total += best
    return total


def _hottest(collate: Callable[[Any], Any], samples: list[Any]) -> str | None:
    """The function with the most time of its own in one more run."""
    profile = cProfile.Profile()
    try:
        profile.runcall(collate, list(samples))
    finally:
        profile.disable()
    entries: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    if not entries:
        return None
    _, _, name = max(entries, key=lambda entry: entries[entry][2])
    return str(name)


def _place(collate: Any) -> dict[str, Any]:
    """Where the collate function is defined."""
    inner = getattr(collate, "func", collate)  # functools.partial
    if not hasattr(inner, "__code__"):
        inner = vars(type(inner)).get("__call__", inner)
    code = getattr(getattr(inner, "__func__", inner), "__code__", None)
    if not isinstance(code, CodeType) or not is_user_file(code.co_filename):
        return {}
    return {
        "collate_where": {
            "file": code.co_filename,
            "line": code.co_firstlineno,
            "function": code.co_name,
        }
    }
