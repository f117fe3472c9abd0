"""The hooks on loaders: where they were made, what they are, and each batch the loop asks for.

In the training thread a batch costs two marks (see `Recorder` for the quick and the thorough way).
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from time import perf_counter_ns
from typing import Any

from . import guard
from . import marks as m
from .describe.batch import batch_samples, describe_batch
from .describe.loader import describe_loader
from .describe.padding import LivePadding
from .patching import Patches, hide_from_compiler, like
from .recorder import UPDATES_WITHOUT_ASK, Recorder
from .registry import LoaderRegistry, construction_site

PATIENCE_BATCHES = 64
"""A loader whose first batch has not come after so many of others is not waited for."""
_ASK, _GOT = m.ASK, m.GOT


class LoaderHooks:
    """Watches every DataLoader.

    Args:
        torch: The user's torch.
        recorder: Takes the marks.
        before_ask: Called on the thorough way before the mark of an ask.
        on_iterator: Called whenever an iterator is made.
        check_limit: With --steps: called after each ask; raises to stop.
        watched: Called after each ask while `recorder.watched`.

    Attributes:
        loaders: The numbers in the marks.
        first_batches: Description of the first batch of each loader, by number.
        padding: What the sampled batches of each loader show of their padding, by number.
    """

    def __init__(
        self,
        torch: Any,
        recorder: Recorder,
        before_ask: Callable[[], None],
        on_iterator: Callable[[], None],
        check_limit: Callable[[], None] | None,
        watched: Callable[[int], None],
    ) -> None:
        self._torch = torch
        self._recorder = recorder
        self._before_ask = before_ask
        self._on_iterator = on_iterator
        self._check_limit = check_limit
        self._watched = watched
        self.loaders = LoaderRegistry()
        self.first_batches: dict[int, Any] = {}
        self.padding: dict[int, LivePadding] = {}
        self._undescribed: dict[int, int] = {}  # loader -> batches left to wait for its first

    def install(self, patches: Patches) -> None:
        """Patches DataLoader and its iterators."""
        loader = self._torch.utils.data.DataLoader
        iterator = self._torch.utils.data.dataloader._BaseDataLoaderIter
        patches.replace(loader, "__init__", self._init)
        patches.replace(loader, "__iter__", self._iter)
        patches.replace(iterator, "__next__", self._next)

    def _init(self, original: Any) -> Any:
        def __init__(loader: Any, *args: Any, **kwargs: Any) -> None:
            original(loader, *args, **kwargs)
            site = guard.attempt("location", construction_site)
            object.__setattr__(loader, "_trainprof_site", site)

        return like(original, __init__)

    def _iter(self, original: Any) -> Any:
        recorder = self._recorder
        number_of = self.loaders.number

        def __iter__(loader: Any) -> Any:
            if not recorder.active():
                return original(loader)
            site = getattr(loader, "_trainprof_site", None)
            number = guard.attempt("loaders", number_of, loader, site)
            guard.attempt("loader facts", self._describe_loader, number, loader)
            guard.attempt("modules", self._on_iterator)
            if number is None:
                return original(loader)
            if number not in self.first_batches:
                self._expect_first_batch(number)
            recorder.mark(m.ITERATOR, number)
            try:
                iterator = original(loader)
            finally:
                recorder.mark(m.ITERATOR_END, number)
            guard.attempt("loaders", _note_origin, iterator, loader, number)
            return iterator

        return like(original, __iter__)

    def _next(self, original: Any) -> Any:
        recorder = self._recorder
        append, now, ident = recorder.append, perf_counter_ns, get_ident
        check_limit = self._check_limit
        thorough = self._thorough_next(original)

        def __next__(iterator: Any) -> Any:
            at_ns = now()
            if ident() != recorder.quick or at_ns >= recorder.due_ns:
                return thorough(iterator)
            number = getattr(iterator, "_trainprof_loader", -1)
            recorder.asked = UPDATES_WITHOUT_ASK
            recorder.step_over = recorder.loss_due = False
            append((_ASK, at_ns, number, None))
            if check_limit is not None:
                check_limit()
            try:
                batch = original(iterator)
            except BaseException:
                recorder.mark(m.END, number)
                raise
            append((_GOT, now(), number, batch_samples(batch)))
            return batch

        return like(original, __next__)

    def _thorough_next(self, original: Any) -> Any:
        recorder = self._recorder
        check_limit = self._check_limit

        def thorough_next(iterator: Any) -> Any:
            if get_ident() != recorder.thread:
                return original(iterator)
            number = getattr(iterator, "_trainprof_loader", -1)
            self._before_ask()
            recorder.boundary(
                m.ASK, number, _ready_batches(iterator) if recorder.detailed else None
            )
            if recorder.watched:
                self._watched(m.ASK)
            if check_limit is not None:
                check_limit()
            try:
                batch = original(iterator)
            except BaseException:
                recorder.mark(m.END, number)
                raise
            recorder.mark(m.GOT, number, batch_samples(batch))
            if recorder.batch_due:
                guard.attempt("batches", self._note_batch, number, batch)
            if recorder.detailed:
                guard.attempt("padding", self._note_padding, number, batch)
            return batch

        hide_from_compiler(thorough_next)
        return thorough_next

    def _describe_loader(self, number: int, loader: Any) -> None:
        """At once, as a loader built inline in the loop is gone when the loop is."""
        entry = self.loaders.entries[number]
        if entry.described != entry.made:
            entry.described = entry.made
            entry.fact = describe_loader(self._torch, loader)

    def _expect_first_batch(self, number: int) -> None:
        self._undescribed[number] = PATIENCE_BATCHES
        self._recorder.batch_due = True
        self._recorder.close_quick_way()

    def _note_batch(self, number: int, batch: Any) -> None:
        """Describes the first batch of a loader; forgets loaders that are never asked."""
        waiting = self._undescribed
        if waiting.pop(number, 0):
            self.first_batches[number] = describe_batch(self._torch, batch)
        for other in [*waiting]:
            waiting[other] -= 1
            if not waiting[other]:
                del waiting[other]
        self._recorder.batch_due = bool(waiting)

    def _note_padding(self, number: int, batch: Any) -> None:
        """Of a batch of one step in 16, at most ten a second."""
        live = self.padding.get(number)
        if live is None:
            live = self.padding[number] = LivePadding(self._torch)
        live.look(batch)


def _note_origin(iterator: Any, loader: Any, number: int) -> None:
    """Gives the iterator its loader's number, and keeps the loader alive for as long.

    `for batch in DataLoader(...)` keeps the iterator only: the loader would be gone before anything
    can be learnt of it. Where a loader holds its iterator (persistent workers) it lives anyway, and
    a cycle of the two would delay the end of the workers.
    """
    iterator._trainprof_loader = number
    if getattr(loader, "_iterator", None) is not iterator:
        iterator._trainprof_origin = loader


def _ready_batches(iterator: Any) -> int | None:
    """Batches that wait for the loop: in the workers' queue, or taken out of order before."""
    queue = getattr(iterator, "_data_queue", None)
    if queue is None:
        return None
    try:
        waiting = int(queue.qsize())
    except NotImplementedError:  # macOS has no sem_getvalue
        return None
    early = sum(1 for entry in iterator._task_info.values() if len(entry) == 2)
    return waiting + early
