"""Items of an IterableDataset: the first ones, in the order in which it gives them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from . import randomness
from .items import MOST_ITEMS, Fetched, Items, Seen
from .meter import Meter

END = object()
PASSES = (1, 1, 2)
"""Seeds: the data set is iterated twice after the same, and once after another."""


class Stream(Items):
    """The beginning of a data set that can only be iterated; `length` grows with what was seen.

    An index is a place in the stream. Going back begins it anew, so that a data set that uses
    itself up while it is iterated ends after the first pass.
    """

    drawn_at_random = False

    def __init__(self, dataset: Any, meter: Meter, name: str = "item") -> None:
        super().__init__(dataset, meter, name)
        self._iterator: Iterator[Any] = iter(())
        self._place = 0
        self._ended = True
        self._odd: str | None = None

    def _count(self) -> int:
        return 0

    def begin(self) -> None:
        """Asks for a new iterator; what `iter()` itself does is in no item's time."""
        self._iterator = iter(self.dataset)
        self._place = 0
        self._ended = False

    def fetch(self, index: int) -> Any:
        """The item at a place, and those before it are made as well; END after the last."""
        if self._ended or index < self._place:
            self.begin()
        item = END
        while self._place <= index and not self._ended:
            item = next(self._iterator, END)
            self._place += 1
            self._ended = item is END
        return item

    def order(self) -> list[int]:
        """The places that were seen, less the first, which `rewind` makes."""
        return list(range(1 if self.length > 1 else 0, self.length))

    def rewind(self) -> None:
        """Begins anew, and makes the first item."""
        randomness.seed(1)
        self.begin()
        if self.length > 1:
            self.fetch(0)

    def everything(self) -> Iterator[Any]:
        """Items from the beginning to the end, should it come; until one raises."""
        randomness.seed(1)
        self.begin()
        index = 0
        while (made := self._attempt(index, self._boxed, index)) is not None:
            if self._ended:
                return
            yield made[0]
            index += 1

    def are_all(self, count: int) -> bool:
        """Whether the end has come."""
        return self._ended

    def batches(self, order: Iterable[list[int]], size: int | None) -> Iterator[list[Any]]:
        """Items in groups of `size`, as they come; none where the items are batches already."""
        batch: list[Any] = []
        if size is None:
            return
        for item in self.everything():
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []

    def failures(self) -> str | None:
        """What was odd about iterating, in one sentence."""
        return super().failures() or self._odd

    def measure(self, deadline: float) -> dict[str, Any] | None:
        """Iterates over the first items three times.

        The first item of each pass pays for the beginning (files that are opened, a buffer that is
        filled) and counts in no mean, unless it is the only one.
        """
        third = (deadline - time.perf_counter()) / len(PASSES)
        passes = [self._pass(PASSES[0], MOST_ITEMS, time.perf_counter() + third, keep=True)]
        for seed in PASSES[1:]:
            passes.append(self._pass(seed, len(passes[0]), deadline))
        self.length = min(len(one) for one in passes)
        if self.length < len(passes[0]) and time.perf_counter() < deadline:
            self._odd = "iterating the data set again gives fewer items"
        if not self.length:
            return None
        seen = Seen()
        for place in self.order():
            seen.add([one[place] for one in passes])
        return seen.figures()

    def _pass(self, seed: int, most: int, deadline: float, *, keep: bool = False) -> list[Fetched]:
        randomness.seed(seed)
        self.begin()
        pass_: list[Fetched] = []
        for place in range(most):
            made = self._attempt(place, self.measured, lambda place=place: self.fetch(place))
            if made is None or self._ended:
                break
            pass_.append(made[1])
            if keep:
                self.keep(made[0], made[1].size)
            if time.perf_counter() > deadline and len(pass_) >= 2:
                break
        return pass_
