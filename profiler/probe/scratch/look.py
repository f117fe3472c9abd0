"""The order in which a copied data set is looked at, and how much of the budget each part gets."""

from __future__ import annotations

from typing import Any

from ...agent import guard
from .collating import measure_collate
from .copied import Copied
from .items import Items
from .journal import Journal
from .meter import Meter


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
    items = _attempt(journal, "asking for its length", Items, dataset, Meter())
    if items is not None:
        _look_at(journal, copied, items)
    journal.done()


def _look_at(journal: Journal, copied: Copied, items: Items) -> None:
    if not journal.stage("items", lambda: items.measure(journal.until(0.35))):
        journal.problem(f"item {items.index} could not be made")
        return
    collate = _attempt(journal, "its collate function", copied.part, "collate_fn")
    batch_size = copied.header["batch_size"]
    if collate is not None and batch_size:
        journal.stage(
            "collate",
            lambda: measure_collate(copied.torch, items, collate, batch_size, journal.until(0.2)),
        )


def _attempt(journal: Journal, name: str, action: Any, *arguments: Any) -> Any:
    """What `action` returns; None, and a problem, where it raises."""
    result = guard.attempt(name, action, *arguments)
    if not guard.enabled(name):
        errors = [error for collector, _, error in guard.failures if collector == name]
        journal.problem(f"{name} failed ({errors[-1] if errors else 'no error'})")
    return result
