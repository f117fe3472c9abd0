"""The order in which a copied data set is looked at, and how much of the budget each part gets."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from ...agent import guard
from .collating import measure_collate
from .copied import Copied
from .duplicates import measure_duplicates
from .images import measure_decoding
from .items import Items
from .journal import Journal
from .lengths import measure_padding
from .meter import Meter
from .parts import measure_batch_tokens, measure_parts


def look(copy: str, out: str, budget_s: float) -> None:
    """Writes to `out` whatever can be found out within `budget_s` seconds.

    Args:
        copy: The files that the agent wrote, without suffix.
        out: The journal's file.
        budget_s: Time after torch is imported and the data set is loaded.
    """
    journal = Journal(out, budget_s)
    _look(journal, copy)
    journal.close()


def _look(journal: Journal, copy: str) -> None:
    copied = _attempt(journal, "reading its copy", lambda: Copied(copy).prepare())
    dataset = None if copied is None else _attempt(journal, "loading it", copied.part, "dataset")
    if copied is None or dataset is None:
        return
    journal.ready()
    gc.disable()  # one collection among 64 items is worth a hundred of them
    meter = Meter()
    items = _attempt(journal, "asking for its length", Items, dataset, meter)
    if items is not None:
        _look_at(journal, copied, items, meter)
    journal.done()


def _look_at(journal: Journal, copied: Copied, items: Items, meter: Meter) -> None:
    found: dict[str, Any] = {}

    def stage(name: str, action: Callable[[], dict[str, Any] | None]) -> bool:
        def kept() -> dict[str, Any] | None:
            data = action()
            found.update(data or {})
            return data

        return journal.stage(name, kept)

    if not stage("items", lambda: items.measure(journal.until(0.2))) or "item_s" not in found:
        journal.problem(f"item {items.index} could not be made" if found else "there are no items")
        return
    item_s = found["item_s"]
    collate = _attempt(journal, "its collate function", copied.part, "collate_fn")
    batch_size = copied.header["batch_size"]
    if collate is not None and batch_size:
        stage(
            "collating",
            lambda: measure_collate(copied.torch, items, collate, batch_size, journal.until(0.1)),
        )
    stage("parts", lambda: measure_parts(items, meter, journal.until(0.15), item_s))
    if "collate_s" in found:
        stage(
            "parts of a batch",
            lambda: measure_batch_tokens(
                collate, items.kept[:batch_size], meter, found["collate_s"]
            ),
        )
    stage("images", lambda: measure_decoding(items, journal.until(0.1), item_s))
    order = _attempt(journal, "its order", copied.part, "batch_sampler")
    if order is not None and collate is not None:
        stage("padding", lambda: measure_padding(items, collate, order, journal.until(0.2)))
    stage("duplicates", lambda: measure_duplicates(items, journal.until(0.3)))


def _attempt(journal: Journal, name: str, action: Any, *arguments: Any) -> Any:
    """What `action` returns; None, and a problem, where it raises."""
    result = guard.attempt(name, action, *arguments)
    if not guard.enabled(name):
        errors = [error for collector, _, error in guard.failures if collector == name]
        journal.problem(f"{name} failed ({errors[-1] if errors else 'no error'})")
    return result
