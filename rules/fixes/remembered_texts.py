"""Results of functions of texts that are remembered, by every process together.

Standard library only.
"""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Callable
from typing import Any

from .dataset_state import length_of
from .flat_values import PLAIN, FlatValues, NoFlatValue, is_plain
from .memory import host_memory
from .random_state import random_state
from .shared_counts import SharedCounts
from .shared_store import ALIGNMENT, SharedStore

MOST_TEXTS = 1 << 19
"""Distinct calls that are remembered."""
MOST_BYTES = 1 << 29
MOST_OF_FREE = 0.25
"""Of the memory that is free."""
COMPARED = 8
"""First results looked up in each process that are made again."""
COMPARE_AGAIN = 128
"""Then one of so many."""


class RememberedTexts:
    """Looks results up by the arguments: texts and numbers by value, other objects by identity.

    Objects are told apart by their address, and held: a forked worker knows those of its parent. A
    call with an object that is new in a worker is made as ever.

    Args:
        torch: The user's torch.

    Attributes:
        counts: Of all processes: "made", "looked_up", "compared", and "given_whole": results for
            which a function got a data set as an argument.
        datasets: Those that are known.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._values = FlatValues(torch)
        self.counts = SharedCounts("made", "looked_up", "compared", "given_whole")
        available, _ = host_memory()
        memory = min(MOST_BYTES, int(MOST_OF_FREE * (available or 0)))
        self._store = SharedStore(MOST_TEXTS, memory)
        self._held: dict[int, Any] = {}
        self._looked_up = 0
        self._methods: set[int] = set()
        self.datasets: dict[int, Any] = {}
        self.in_worker = False

    def hold(self, thing: Any) -> None:
        """Makes an object known, so that calls with it are remembered."""
        if not self.in_worker:
            self._held[id(thing)] = thing

    def hold_function(self, function: Any, is_method: bool) -> None:
        """Makes a function known; what a method is called on is not one of its arguments."""
        self.hold(function)
        if is_method:
            self._methods.add(id(function))

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of a function that is known."""
        digest = None if self.counts.off else self._digest(function, args, kwargs)
        if digest is None:
            return function(*args, **kwargs)
        key = int.from_bytes(digest[:8], "little") >> 1
        found = self._store.get(key)
        if found is None:
            given = args[1:] if id(function) in self._methods else args
            if any(id(value) in self.datasets for value in (*given, *kwargs.values())):
                self.counts.add("given_whole")
            return self._first(key, digest, lambda: function(*args, **kwargs))
        buffer, offset, length = found
        if bytes(buffer[offset : offset + len(digest)]) != digest:
            return function(*args, **kwargs)
        self._looked_up += 1
        self.counts.add("looked_up")
        if self._looked_up > COMPARED and self._looked_up % COMPARE_AGAIN:
            return self._values.unpacked(buffer, offset + ALIGNMENT)
        value = function(*args, **kwargs)
        self.counts.add("compared")
        if self._packed(value) != buffer[offset + ALIGNMENT : offset + length]:
            self.counts.refuse("the same text gave other numbers the second time")
        return value

    def _first(self, key: int, digest: bytes, made: Callable[[], Any]) -> Any:
        before = random_state(self._torch)
        value = made()
        self.counts.add("made")
        if random_state(self._torch) != before:
            self.counts.refuse("it draws random numbers")
            return value
        record = self._packed(value) if value is not None else None
        if record is not None:
            self._store.put(key, digest.ljust(ALIGNMENT, b"\0") + record)
        return value

    def _packed(self, value: Any) -> bytearray | None:
        try:
            return self._values.packed(value)
        except NoFlatValue as error:
            self.counts.refuse(f"it returns {error}, which is not kept")
            return None

    def _digest(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | None:
        """Of the arguments; None where they hold no text, or an object that is not known."""
        parts: list[Any] = []
        texts = 0
        for name, value in [*enumerate(args), *sorted(kwargs.items())]:
            texts += type(value) is str
            parts += [name, self._argument(value)]
            if parts[-1] is None:
                return None
        if not texts:
            return None
        written = marshal.dumps([id(function), *parts], 2)
        return hashlib.blake2b(written, digest_size=16).digest()

    def _argument(self, value: Any) -> Any:
        """A plain value itself; of an object, what tells it apart, with its length."""
        if type(value) in PLAIN or (type(value) is tuple and is_plain(value)):
            return ("value", value)
        if self._held.get(id(value)) is not value:
            self.hold(value)
            if self.in_worker:
                return None
        return ("object", id(value), length_of(value))
