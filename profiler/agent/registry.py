"""Small integers for the loaders, modules and optimizers of a training, without keeping them alive.

The training thread only looks an object up; what is behind the integer is described later.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any, Generic, NamedTuple, TypeVar

from .location import caller_location, is_user_file

Thing = TypeVar("Thing")


class Registry(Generic[Thing]):
    """Numbers objects in order of first sight; a number is never given twice.

    Attributes:
        numbers: By `id` of the objects that are alive: hooks look there first.
    """

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self._things: list[weakref.ref[Any]] = []
        self._held: list[Any] | None = None

    def hold(self) -> None:
        """Keeps what is alive, and what is new, until `release`: it is about to be described."""
        self._held = [thing for reference in self._things if (thing := reference()) is not None]

    def release(self) -> None:
        """Ends the holding; what comes later is held until the next call."""
        if self._held:
            self._held = []

    def number(self, thing: Thing) -> int:
        """The number of `thing`; -1 for objects that cannot be referred to weakly."""
        number = self.numbers.get(id(thing))
        if number is not None:
            return number
        try:
            reference = weakref.ref(thing, forgetting(id(thing), self.numbers))
        except TypeError:
            return -1
        number = len(self._things)
        self.numbers[id(thing)] = number
        self._things.append(reference)
        if self._held is not None:
            self._held.append(thing)
        return number

    def known(self, thing: Thing) -> bool:
        """Whether `thing` has a number already."""
        return id(thing) in self.numbers

    def thing(self, number: int) -> Thing | None:
        """The object behind a number, or None when it is gone."""
        return self._things[number]() if 0 <= number < len(self._things) else None

    def __len__(self) -> int:
        return len(self._things)


def forgetting(key: int, *tables: dict[int, Any]) -> Callable[[Any], None]:
    """For the weak reference to an object: takes its key out of the tables when it dies.

    So a lookup by `id` needs no second look at the object: its memory, and so its id, is given to
    another one only afterwards.
    """

    def forget(reference: Any) -> None:
        for table in tables:
            table.pop(key, None)

    return forget


class LoaderEntry:
    """One data set that loaders read, and what was seen of those loaders.

    Attributes:
        loader: The latest DataLoader over it; `dataset`: what that reads.
        site: Where in the user's source that DataLoader was made, or None.
        made: DataLoader objects seen; `iterators`: iterators made.
        fact: What describes the loader, as of `described` loaders made.
    """

    __slots__ = ("dataset", "described", "fact", "iterators", "loader", "made", "site")

    def __init__(self) -> None:
        self.loader: weakref.ref[Any] | None = None
        self.dataset: weakref.ref[Any] | None = None
        self.site: Site | None = None
        self.made = 0
        self.iterators = 0
        self.described = 0
        self.fact: Any = None

    def saw(self, loader: Any, site: Site | None) -> None:
        """Notes that an iterator of `loader` is being made."""
        self.iterators += 1
        if self.loader is None or self.loader() is not loader:
            self.made += 1
            self.loader = weakref.ref(loader)
            self.dataset = _weakly(getattr(loader, "dataset", None))
            self.site = site


class LoaderRegistry:
    """Numbers loaders by their data set and the place that made them.

    A loader built anew in each epoch keeps its number; two loaders over one data set (training and
    validation through different samplers) have different ones, as they are made at two places.
    """

    def __init__(self) -> None:
        self.entries: list[LoaderEntry] = []
        self._by_key: dict[tuple[int, Any], tuple[weakref.ref[Any] | None, int]] = {}

    def number(self, loader: Any, site: Site | None) -> int:
        """The number of `loader`, whose iterator is being made."""
        dataset = getattr(loader, "dataset", loader)
        key = (id(dataset), site.calls if site is not None else None)
        known = self._by_key.get(key)
        if known is not None and (known[0] is None or known[0]() is dataset):
            number = known[1]
        else:
            number = len(self.entries)
            self.entries.append(LoaderEntry())
            self._by_key[key] = (_weakly(dataset), number)
        self.entries[number].saw(loader, site)
        return number

    def workers(self, number: int) -> int | None:
        """`num_workers` of the latest loader with this number."""
        if not 0 <= number < len(self.entries):
            return None
        reference = self.entries[number].loader
        workers = getattr(reference() if reference is not None else None, "num_workers", None)
        return int(workers) if workers is not None else None


class Site(NamedTuple):
    """Where a loader was made: the place to show, and the calls that led there, to tell apart."""

    where: Any
    calls: tuple[tuple[str, int], ...]


def construction_site() -> Site:
    """The site of the constructor that is running now, through at most three user frames."""
    calls: list[tuple[str, int]] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(calls) < 3:
        if is_user_file(frame.f_code.co_filename):
            calls.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return Site(caller_location(), tuple(calls))


def _weakly(thing: Any) -> weakref.ref[Any] | None:
    try:
        return weakref.ref(thing)
    except TypeError:
        return None  # a list as data set: its id has to do
