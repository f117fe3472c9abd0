"""Single items: what they cost, whether they come out the same twice, how large they are."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ...agent import guard
from . import randomness
from .contents import digest, size_bytes
from .meter import Cost, Meter, mean

MOST_ITEMS = 64
MOST_KEPT_BYTES = 256 << 20
MOST_FAILED = 8
"""So many items that raise are passed over; one more ends the look."""
MOST_SHUFFLED = 1_000_000
MOST_CHOSEN = 100_000
"""Of more items than can be shuffled, so many are chosen."""


class Items:
    """A sample of a data set's items.

    Args:
        dataset: A map-style data set.
        meter: Measures each fetch.
        name: Of one item, in sentences.

    Attributes:
        kept: The items, for collating.
        length: How many there are.
        failed: Index of each item that could not be made, and why.
        drawn_at_random: Whether `everything` gives them in random order.
    """

    drawn_at_random = True

    def __init__(self, dataset: Any, meter: Meter, name: str = "item") -> None:
        self.dataset = dataset
        self._name = name
        self.length = self._count()
        self.kept: list[Any] = []
        self.failed: dict[int, str] = {}
        self._meter = meter
        self._kept_bytes = 0

    def _count(self) -> int:
        return len(self.dataset)

    def fetch(self, index: int) -> Any:
        """The item, the way torch's fetcher gets it."""
        together = getattr(self.dataset, "__getitems__", None)
        return self.dataset[index] if together is None else together([index])[0]

    def failures(self) -> str | None:
        """Which items could not be made, in one sentence; None where all could."""
        if not self.failed:
            return None
        index, error = next(iter(self.failed.items()))
        more = f" and {len(self.failed) - 1} others" if len(self.failed) > 1 else ""
        return f"{self._name} {index}{more} could not be made ({error})"

    def keep(self, item: Any, size: int) -> None:
        """Keeps an item while there is room."""
        if self._kept_bytes + size <= MOST_KEPT_BYTES:
            self._kept_bytes += size
            self.kept.append(item)

    def order(self) -> list[int]:
        """Places to look at: random, always the same, each once; none that has raised."""
        chooser = random.Random(0)
        chosen = chooser.sample(range(self.length), min(self.length, MOST_ITEMS))
        return [index for index in chosen if index not in self.failed]

    def rewind(self) -> None:
        """Called before the items of `order` are fetched once more."""

    def everything(self) -> Iterator[Any]:
        """All items in random order, each made after the same seed; those that raise left out."""
        chooser = random.Random(1)
        if self.length <= MOST_SHUFFLED:
            order = list(range(self.length))
            chooser.shuffle(order)
        else:
            order = chooser.sample(range(self.length), MOST_CHOSEN)
        for index in order:
            randomness.seed(1)
            made = self._attempt(index, self._boxed, index)
            if made is not None:
                yield made[0]

    def are_all(self, count: int) -> bool:
        """Whether `count` items of `everything` are all there are."""
        return count == self.length

    def batches(self, order: Iterable[list[int]], size: int | None) -> Iterator[list[Any]]:
        """The items of batches of the loader's own, as its batch sampler composes them."""
        for indices in order:
            yield [self.fetch(index) for index in indices]

    def measure(self, deadline: float) -> dict[str, Any] | None:
        """Fetches each item three times: twice after one seed, once after another.

        The first fetch may have to wait for a disk that the others find in the page cache; the
        others are what the training pays from its second epoch on.
        """
        seen = Seen()
        for index in self.order():
            fetched = self._attempt(index, self._three_times, index)
            if fetched is not None:
                seen.add(fetched)
            if time.perf_counter() > deadline and len(seen.sizes) >= 2:
                break
        return {**seen.figures(), "length": self.length} if seen.sizes else None

    def _three_times(self, index: int) -> list[Fetched]:
        fetched = []
        for number in (1, 1, 2):
            randomness.seed(number)
            item, one = self.measured(lambda: self.fetch(index))
            fetched.append(one)
        self.keep(item, one.size)
        return fetched

    def measured(self, call: Callable[[], Any]) -> tuple[Any, Fetched]:
        """An item, and what making it was like."""
        before = randomness.state()
        item, cost = self._meter.measure(call)
        drew = randomness.state() != before
        return item, Fetched(cost, drew, digest(item), size_bytes(item))

    def _boxed(self, index: int) -> list[Any]:
        """The item in a list, as it may be None itself."""
        return [self.fetch(index)]

    def _attempt(self, index: int, action: Callable[..., Any], *arguments: Any) -> Any:
        """What `action` gives, not None; None where it raises, as long as few do.

        Raises:
            RuntimeError: too many have raised.
        """
        name = f"{self._name} {index}"
        result = guard.attempt(name, action, *arguments)
        if result is None:
            self.failed[index] = guard.error_of(name) or "an earlier error"
            if len(self.failed) > MOST_FAILED:
                raise RuntimeError(f"{self.failures()}; no more were tried")
        return result


class Fetched(NamedTuple):
    """What it cost to make an item once, and what came out.

    Attributes:
        drew: Making it drew from a global random generator.
        code: Digest of its contents, None where it has none.
        size: In bytes.
    """

    cost: Cost
    drew: bool
    code: bytes | None
    size: int


class Seen:
    """What is known of the items so far.

    Attributes:
        sizes: In bytes, one for each item.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._first: list[Cost] = []
        self._again: list[Cost] = []
        self._same: list[bool | None] = []
        self._draws = False

    def add(self, fetched: list[Fetched]) -> None:
        """Notes one item that was made several times."""
        codes = {one.code for one in fetched}
        self._same.append(None if None in codes else len(codes) == 1)
        self._first.append(fetched[0].cost)
        self._again += [one.cost for one in fetched[1:]]
        self._draws = self._draws or any(one.drew for one in fetched)
        self.sizes.append(fetched[0].size)

    def figures(self) -> dict[str, Any]:
        """Means over all items."""
        return {
            **_costs(mean(self._first), mean(self._again)),
            "items": len(self.sizes),
            "item_bytes": sum(self.sizes) / len(self.sizes),
            "repeatable": None if None in self._same else all(self._same),
            "draws_random_numbers": self._draws,
        }


def _costs(first: Cost, again: Cost) -> dict[str, float]:
    return {
        "item_first_s": first.quiet_s,
        "item_s": again.quiet_s,
        "item_cpu_s": again.cpu_s,
        "item_blocked_s": again.blocked_s,
        "item_read_bytes": again.read_bytes,
        "item_disk_bytes": first.disk_bytes,
        "item_files": again.files,
    }
