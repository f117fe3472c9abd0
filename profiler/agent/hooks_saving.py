"""Checkpoints: how long the training thread stands still to write them, how large they are.

`torch.save`, safetensors, `save_pretrained`, distributed checkpoints, and the methods of Lightning,
transformers and Accelerate that write one checkpoint by several of these. Each call leaves SAVE and
SAVE_END marks, the outermost one an Event.

Measured: 10 us per save, and 5 us per file where a folder was written.
"""

from __future__ import annotations

import functools
import io
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns
from types import ModuleType
from typing import Any, NamedTuple

from ..model.records import Event
from . import marks as m
from .guard import attempt
from .imports import Watch, watch
from .location import caller_location
from .patching import Patches, hide_methods_from_compiler, like
from .recorder import Recorder

_MOST_EVENTS = 10_000
_MOST_FILES = 1_000
_CLOCK_STEP_NS = 1_000_000_000  # some file systems keep modification times in whole seconds


class Target(NamedTuple):
    """A function that saves: where it is, and which of its arguments says where to.

    Attributes:
        module: Where its name lives; the hook waits for the import.
        owner: Class of a method, "" for a function.
        position, argument: Of the file or folder; None where it takes none.
        call: What the report calls it.
    """

    module: str
    owner: str
    function: str
    position: int
    argument: str | None
    call: str


_TARGETS = (
    Target("torch.serialization", "", "save", 1, "f", "torch.save"),
    Target("torch.distributed.checkpoint", "", "save", 9, "checkpoint_id", "dcp.save"),
    Target("torch.distributed.checkpoint", "", "async_save", 9, "checkpoint_id", "dcp.async_save"),
    Target("safetensors.torch", "", "save_file", 1, "filename", "safetensors.save_file"),
    Target("safetensors.torch", "", "save_model", 1, "filename", "safetensors.save_model"),
    Target(
        "transformers.modeling_utils",
        "PreTrainedModel",
        "save_pretrained",
        1,
        "save_directory",
        "save_pretrained",
    ),
    Target(
        "transformers.trainer", "Trainer", "_save_checkpoint", 9, None, "Trainer._save_checkpoint"
    ),
    Target(
        "accelerate.accelerator",
        "Accelerator",
        "save_state",
        1,
        "output_dir",
        "Accelerator.save_state",
    ),
    *(
        Target(
            f"{package}.trainer.trainer",
            "Trainer",
            "save_checkpoint",
            1,
            "filepath",
            "Trainer.save_checkpoint",
        )
        for package in ("lightning.pytorch", "pytorch_lightning")
    ),
)

_SAME_FUNCTION = {"torch.serialization": "torch"}  # a second module that holds the same name


class _Save:
    """A save under way."""

    __slots__ = ("inner_bytes", "offset", "start_ns", "start_unix_ns", "target")

    def __init__(self, target: Any) -> None:
        self.target = target
        self.inner_bytes: int | None = None
        self.offset = _offset(target)
        self.start_unix_ns = time.time_ns()
        self.start_ns = perf_counter_ns()


class SavingCollector:
    """Marks saves and describes the outermost ones."""

    def __init__(self, recorder: Recorder, compiling: Callable[[], bool]) -> None:
        self._recorder = recorder
        self._compiling = compiling
        self._open: list[_Save] = []
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._watches: list[Watch] = []

    def install(self, patches: Patches) -> None:
        """Patches torch at once and libraries as they are imported."""
        for target in _TARGETS:
            action = functools.partial(self._patch, patches, target)
            self._watches.append(watch(target.module, action))

    def uninstall(self) -> None:
        """Stops waiting for imports; the patches are undone by their owner."""
        while self._watches:
            self._watches.pop().remove()

    def take_events(self) -> list[Event]:
        """The "checkpoint" events since the last call."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def wrap(self, target: Target, original: Callable[..., Any]) -> Any:
        """A function that calls `original` between two marks."""
        recorder = self._recorder
        compiling = self._compiling

        def saved(*args: Any, **kwargs: Any) -> Any:
            if compiling() or not recorder.active():
                return original(*args, **kwargs)
            recorder.mark(m.SAVE)
            attempt("saving", self._begin, target, args, kwargs)
            try:
                return original(*args, **kwargs)
            finally:
                recorder.mark(m.SAVE_END)
                attempt("saving", self._end, target)

        return like(original, saved)

    def _patch(self, patches: Patches, target: Target, module: ModuleType) -> None:
        owner = getattr(module, target.owner) if target.owner else module
        original = getattr(owner, target.function)
        wrapper = self.wrap(target, original)
        patches.replace(owner, target.function, lambda _: wrapper)
        second = sys.modules.get(_SAME_FUNCTION.get(target.module, ""))
        if second is not None and getattr(second, target.function, None) is original:
            patches.replace(second, target.function, lambda _: wrapper)

    def _begin(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._open.append(_Save(_argument(target, args, kwargs)))

    def _end(self, target: Target) -> None:
        end_ns = perf_counter_ns()
        save = self._open.pop()
        written = _bytes_written(save)
        if written is None:
            written = save.inner_bytes
        if self._open:
            outer = self._open[-1]
            if written is not None:
                outer.inner_bytes = (outer.inner_bytes or 0) + written
            return
        data = {
            "call": target.call,
            "file": _path(save.target),
            "bytes": written,
            "where": caller_location(),
        }
        self._events.append(Event("checkpoint", save.start_ns, end_ns - save.start_ns, data))


def install(torch: Any, recorder: Recorder, patches: Patches) -> SavingCollector:
    """Starts watching saves. Undone by `uninstall()` and `patches.undo()`."""
    hide_methods_from_compiler(SavingCollector)
    collector = SavingCollector(recorder, torch.compiler.is_dynamo_compiling)
    collector.install(patches)
    return collector


def _argument(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if target.argument is None:
        return None
    if target.position < len(args):
        return args[target.position]
    return kwargs.get(target.argument)


def _path(target: Any) -> str | None:
    if _is_plain_file(target):
        target = getattr(target, "name", None)
    if not isinstance(target, (str, os.PathLike)):
        return None
    path = os.fspath(target)
    return os.path.abspath(path) if isinstance(path, str) and "://" not in path else None


def _is_plain_file(target: Any) -> bool:
    return isinstance(target, io.IOBase) and type(target).__module__ in ("io", "_io")


def _offset(target: Any) -> int | None:
    if not _is_plain_file(target) or target.closed or not target.seekable():
        return None
    return int(target.tell())


def _bytes_written(save: _Save) -> int | None:
    if save.offset is not None:
        end = _offset(save.target)
        return None if end is None else end - save.offset
    path = _path(save.target)
    if path is None:
        return None
    try:
        if os.path.isdir(path):
            return _new_bytes(path, save.start_unix_ns - _CLOCK_STEP_NS)
        return os.stat(path).st_size
    except OSError:
        return None


def _new_bytes(folder: str, since_unix_ns: int) -> int:
    """Bytes in the files of a folder, and of those below, that changed since a time."""
    total = looked_at = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            status = os.stat(os.path.join(parent, name))
            if status.st_mtime_ns >= since_unix_ns:
                total += status.st_size
            looked_at += 1
            if looked_at == _MOST_FILES:
                return total
    return total
