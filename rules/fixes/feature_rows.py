"""Rows of a batch by their content, and the features that belong to them.

Standard library only.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from typing import Any

FIRST_ROWS = 256


def row_keys(tensors: Sequence[Any], extra: object) -> list[bytes]:
    """A key for each row: equal for equal rows only.

    All bytes of a row are hashed (16 bytes of BLAKE2b), so that two different rows share a key with
    a probability below 1e-20 for ten thousand million rows. About 1 GB/s.

    Args:
        tensors: On the CPU, each with as many rows.
        extra: Whatever else the features depend on.
    """
    prefix = repr((extra, [(one.dtype, tuple(one.shape[1:])) for one in tensors])).encode()
    hashes = [hashlib.blake2b(prefix, digest_size=16) for _ in range(len(tensors[0]))]
    for tensor in tensors:
        held = tensor.detach().contiguous()
        size = held.element_size() * (held.numel() // max(len(held), 1))
        start = held.data_ptr()
        for row, one in enumerate(hashes):
            one.update((ctypes.c_char * size).from_address(start + row * size))
    return [one.digest() for one in hashes]


class FeatureRows:
    """Features by the key of their row, as rows of tensors that grow twofold.

    Attributes:
        rows: How many there are. held_bytes: Of the tensors.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._places: dict[bytes, int] = {}
        self._stores: list[Any] = []
        self.held_bytes = 0

    @property
    def rows(self) -> int:
        """Rows that are held."""
        return len(self._places)

    def places(self, keys: Sequence[bytes]) -> list[int | None]:
        """Where the features of these rows are; None for those that are not known."""
        return [self._places.get(key) for key in keys]

    def grown_bytes(self, features: Sequence[Any]) -> int:
        """What the tensors would hold with these features as well."""
        needed, capacity = self.rows + len(features[0]), FIRST_ROWS
        while capacity < needed:
            capacity *= 2
        return sum(_row_bytes(one) * capacity for one in features)

    def add(self, keys: Sequence[bytes], features: Sequence[Any]) -> bool:
        """Takes the features of new rows; False where they do not match those that are held."""
        if self._stores and [_kind(one) for one in self._stores] != [
            _kind(one) for one in features
        ]:
            return False
        new = [row for row, key in enumerate(keys) if key not in self._places]
        first = self.rows
        self._grow(features, first + len(new))
        at = first
        for row in new:
            if keys[row] in self._places:  # twice in one batch
                continue
            for store, one in zip(self._stores, features, strict=True):
                store[at].copy_(one[row])
            self._places[keys[row]] = at
            at += 1
        return True

    def _grow(self, features: Sequence[Any], needed: int) -> None:
        held = len(self._stores[0]) if self._stores else 0
        capacity = max(held, FIRST_ROWS)
        while capacity < needed:
            capacity *= 2
        if capacity == held:
            return
        grown = []
        for number, one in enumerate(features):
            store = self._torch.empty((capacity, *one.shape[1:]), dtype=one.dtype)
            if held:
                store[:held].copy_(self._stores[number])
            grown.append(store)
        self._stores = grown
        self.held_bytes = sum(_row_bytes(one) * capacity for one in grown)

    def take(self, places: Sequence[int]) -> list[Any]:
        """New tensors with the features at these places, one row each."""
        index = self._torch.tensor(places)
        return [store.index_select(0, index) for store in self._stores]

    def clear(self) -> None:
        """Gives the memory back."""
        self._places.clear()
        self._stores = []
        self.held_bytes = 0


def _row_bytes(tensor: Any) -> int:
    return int(tensor.element_size() * (tensor.numel() // max(len(tensor), 1)))


def _kind(tensor: Any) -> tuple[Any, tuple[int, ...]]:
    return tensor.dtype, tuple(tensor.shape[1:])
