"""Single items: what they cost, whether they come out the same twice, how large they are."""

from __future__ import annotations

import random
import time
from typing import Any

from . import randomness
from .contents import digest, size_bytes
from .meter import Cost, Meter, mean

MOST_ITEMS = 64
MOST_KEPT_BYTES = 256 << 20


class Items:
    """A sample of a data set's items.

    Args:
        dataset: A map-style data set.
        meter: Measures each fetch.

    Attributes:
        kept: The items, for collating.
        index: The item that is being fetched, or was last.
    """

    def __init__(self, dataset: Any, meter: Meter) -> None:
        self.dataset = dataset
        self.length = len(dataset)
        self.kept: list[Any] = []
        self.index: int | None = None
        self._meter = meter
        self._kept_bytes = 0

    def fetch(self, index: int) -> Any:
        """The item, the way torch's fetcher gets it."""
        self.index = index
        together = getattr(self.dataset, "__getitems__", None)
        return self.dataset[index] if together is None else together([index])[0]

    def keep(self, item: Any, size: int) -> None:
        """Keeps an item while there is room."""
        if self._kept_bytes + size <= MOST_KEPT_BYTES:
            self._kept_bytes += size
            self.kept.append(item)

    def order(self) -> list[int]:
        """Places to look at: random, always the same, each once."""
        chooser = random.Random(0)
        return chooser.sample(range(self.length), min(self.length, MOST_ITEMS))

    def measure(self, deadline: float) -> dict[str, Any] | None:
        """Fetches each item three times: twice after one seed, once after another.

        The first fetch may have to wait for a disk that the others find in the page cache; the
        others are what the training pays from its second epoch on.
        """
        first: list[Cost] = []
        again: list[Cost] = []
        sizes: list[int] = []
        same: list[bool | None] = []
        draws = False
        for index in self.order():
            digests: list[bytes | None] = []
            for number in (1, 1, 2):
                randomness.seed(number)
                before = randomness.state()
                item, cost = self._meter.measure(lambda index=index: self.fetch(index))  # type: ignore[misc]
                draws = draws or randomness.state() != before
                (again if digests else first).append(cost)
                digests.append(digest(item))
            same.append(None if None in digests else len(set(digests)) == 1)
            sizes.append(size_bytes(item))
            self.keep(item, sizes[-1])
            if time.perf_counter() > deadline and len(same) >= 2:
                break
        if not same:
            return None
        return {
            **_costs(mean(first), mean(again)),
            "length": self.length,
            "items": len(same),
            "item_bytes": sum(sizes) / len(sizes),
            "repeatable": None if None in same else all(same),
            "draws_random_numbers": draws,
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
