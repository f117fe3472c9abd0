"""Batches of rows of similar length, in random order. Standard library only."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

BATCHES_TOGETHER = 50
"""That are sorted together: enough for even batches, few enough to stay shuffled."""


class LengthGroups:
    """Stands for a batch sampler of torch's.

    Args:
        batches: That one; its sampler gives the order.
        lengths: By the number of the sample.

    Attributes:
        epochs: That were begun.
    """

    def __init__(self, batches: Any, lengths: Sequence[int]) -> None:
        self._batches = batches
        self._lengths = lengths
        self.epochs = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_batches"], name)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self._batches.sampler)
        size = self._batches.batch_size
        if self._batches.drop_last:
            order = order[: len(order) // size * size]
        self.epochs += 1
        shuffled = random.Random(str(order[:64]))  # follows the script's seed, and draws nothing
        for first in range(0, len(order), BATCHES_TOGETHER * size):
            group = order[first : first + BATCHES_TOGETHER * size]
            incomplete = group[len(group) // size * size :]  # of the end of an epoch
            rows = sorted(group[: len(group) - len(incomplete)], key=self._lengths.__getitem__)
            batches = [rows[at : at + size] for at in range(0, len(rows), size)]
            shuffled.shuffle(batches)
            yield from batches
            if incomplete:
                yield incomplete
