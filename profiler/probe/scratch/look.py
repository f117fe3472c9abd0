"""The order in which a copied data set is looked at, and how much of the budget each part gets."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from ...agent import guard
from .collating import measure_collate
from .copied import Copied
from .duplicates import Contents
from .images import measure_decoding
from .items import Items
from .journal import Journal
from .lengths import measure_padding
from .meter import Meter
from .parts import measure_batch_tokens, measure_parts
from .stream import Stream


def look(copy: str, out: str, budget_s: float, validation: str | None = None) -> None:
    """Writes to `out` whatever can be found out within `budget_s` seconds.

    Args:
        copy: The files that the agent wrote, without suffix.
        out: The journal's file; what near copies are known by goes to `out`.sketches.
        budget_s: Time after torch is imported and the data set is loaded.
        validation: A copy of the validation's data set, where there is one.
    """
    journal = Journal(out, budget_s)
    look_at = _Look(journal, f"{out}.sketches")
    look_at.begin(copy, validation)
    journal.close()


class _Look:
    """One look at one data set."""

    def __init__(self, journal: Journal, sketches: str) -> None:
        self._journal = journal
        self._sketches = sketches
        self._found: dict[str, Any] = {}
        self._meter = Meter()
        self._told: set[int] = set()

    def begin(self, copy: str, validation: str | None) -> None:
        """Loads the copy, and goes through all stages."""
        journal = self._journal
        copied = _attempt(journal, "reading its copy", lambda: Copied(copy).prepare())
        dataset = _attempt(journal, "loading it", copied.part, "dataset") if copied else None
        if copied is None or dataset is None:
            return
        journal.ready()
        gc.disable()  # one collection among 64 items is worth a hundred of them
        items = self._items(copied.torch, dataset)
        if items is not None:
            self._look_at(copied, items)
            self._compare(copied, items, validation)
            self._tell_failures(items)
        journal.done()

    def _items(self, torch: Any, dataset: Any, name: str = "item") -> Items | None:
        kind = Stream if isinstance(dataset, torch.utils.data.IterableDataset) else Items
        made: Items | None = _attempt(
            self._journal, "asking for its length", kind, dataset, self._meter, name
        )
        return made

    def _tell_failures(self, items: Items) -> None:
        """Once, and soon: the process may be ended later."""
        failures = items.failures()
        if failures is not None and id(items) not in self._told:
            self._told.add(id(items))
            self._journal.problem(failures)

    def _stage(self, name: str, action: Callable[[], dict[str, Any] | None]) -> bool:
        def kept() -> dict[str, Any] | None:
            data = action()
            self._found.update(data or {})
            return data

        return self._journal.stage(name, kept)

    def _look_at(self, copied: Copied, items: Items) -> None:
        journal, stage = self._journal, self._stage
        if not stage("items", lambda: items.measure(journal.until(0.2))):
            self._told.add(id(items))
            return
        self._tell_failures(items)
        if "item_s" not in self._found:
            if not self._told:
                journal.problem("there are no items")
            return
        item_s = self._found["item_s"]
        collate = _attempt(journal, "its collate function", copied.part, "collate_fn")
        batch_size = copied.header["batch_size"]
        if collate is not None and batch_size:
            until = journal.until(0.1)
            stage(
                "collating",
                lambda: measure_collate(copied.torch, items, collate, batch_size, until),
            )
        stage("parts", lambda: measure_parts(items, self._meter, journal.until(0.15), item_s))
        if "collate_s" in self._found:
            collate_s, samples = self._found["collate_s"], items.kept[:batch_size]
            stage(
                "parts of a batch",
                lambda: measure_batch_tokens(collate, samples, self._meter, collate_s),
            )
        stage("images", lambda: measure_decoding(items, journal.until(0.1), item_s))
        order: Any = ()
        if items.drawn_at_random:
            order = _attempt(journal, "its order", copied.part, "batch_sampler")
        if order is not None and collate is not None:
            until_padding = journal.until(0.2)
            stage(
                "padding",
                lambda: measure_padding(items, collate, order, batch_size, until_padding),
            )

    def _compare(self, copied: Copied, items: Items, validation: str | None) -> None:
        """Contents that occur twice: within the data set, and in it and the validation's."""
        journal = self._journal
        if "item_s" not in self._found:
            return
        contents = Contents(copied.torch, items)
        until = journal.until(0.3)
        self._stage("duplicates", lambda: contents.measure(until, self._sketches))
        if validation is None or "hashed_items" not in self._found:
            return
        other = _attempt(
            journal, "loading the validation's", lambda: Copied(validation).part("dataset")
        )
        if other is None:
            return
        held_out = self._items(copied.torch, other, "validation item")
        if held_out is not None:
            until = journal.until(0.2)
            self._stage("validation", lambda: contents.compare(held_out, until))
            self._tell_failures(held_out)


def _attempt(journal: Journal, name: str, action: Any, *arguments: Any) -> Any:
    """What `action` returns; None, and a problem, where it raises."""
    result = guard.attempt(name, action, *arguments)
    if not guard.enabled(name):
        journal.problem(f"{name} failed ({guard.error_of(name) or 'no error'})")
    return result
