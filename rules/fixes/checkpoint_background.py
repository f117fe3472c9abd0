"""checkpoint-background."""

from __future__ import annotations

import contextlib
import inspect
import os
import pickle
import stat
import sys
import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .background_writer import BackgroundWriter, Buffers, Snapshot
from .files_met import HEARD, meets
from .fix import Fix, Process, ReadBack
from .memory import memory_is_short

SAVE_OPTIONS = (
    "pickle_module",
    "pickle_protocol",
    "_use_new_zipfile_serialization",
    "_disable_byteorder_record",
)
"""Of torch.save, after object and file."""
WRITES_TO = ["obj", "zip_file", "pickle_module", "pickle_protocol", "_disable_byteorder_record"]
"""Parameters of the function that torch.save serialises with, torch 2.4 to 2.13."""
MOST_WAITING = 4.0
"""Bytes that wait or are written, in sizes of the largest snapshot so far: one that is written, and
the latest of each of two files that take turns, with one to spare."""

_stat = os.stat  # as it is before anything is patched
_PACKAGE = f"{__name__.partition('.')[0]}.profiler."


class CheckpointBackground(Fix):
    """`torch.save` to a path returns once all is copied; a thread writes the file.

    Everything is pickled and every tensor copied to host memory before the call returns, so what
    the training changes later is not in the file. Files are written in their order, byte for byte
    those of torch.save, under another name first: a crash leaves the old file or the new one. What
    still waits when the script writes over its file is not written: the later one is. Whatever
    looks at the file, lists its folder, moves, copies or removes it or a folder around it, starts a
    process or forks, waits for it, as does the end of the script. A file that cannot be written
    raises at the next save, and is told at the end.

    Buffers and other file objects, the old format and other pickle modules are written in place, as
    is all when memory is short.
    """

    id = "checkpoint-background"
    title = "Checkpoints are written in the background"
    by_hand = "a copy of the state dict, saved by a thread that the script joins"
    safety = "safe"
    parameters: Mapping[str, type] = {}
    verifies = ("step.checkpoint_share", "down")

    def install(self, process: Process) -> None:
        """Wraps torch.save and torch.load, and what looks at files."""
        self._torch = process.torch
        self._serialization = sys.modules["torch.serialization"]
        self._handed = self._in_place = self._overwritten = self._largest = 0
        self._failed: str | None = None
        self._open = True
        self._reason = self._why_never()
        self._buffers = Buffers(self._torch.UntypedStorage)
        self._writer = BackgroundWriter(self._write)
        if self._reason is not None:
            return
        for name, wrap in (("save", self._save), ("load", self._load)):
            wrapper = wrap(getattr(self._serialization, name))
            for owner in (self._serialization, self._torch):  # both hold the same function
                process.patches.replace(owner, name, partial(_given, wrapper))
        process.patches.replace(os, "stat", self._look)
        process.at_end(self._finish)
        _listen()
        _live.append(self)

    def _why_never(self) -> str | None:
        private = (getattr(self._serialization, n, None) for n in ("_save", "_open_zipfile_writer"))
        if any(one is None for one in private):
            return "this torch saves in another way"
        names = list(inspect.signature(self._serialization._save).parameters)
        return None if names == WRITES_TO else "this torch saves in another way"

    # Saving.

    def _save(self, original: Any) -> Any:
        def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
            self._raise_failure()
            options = dict(zip(SAVE_OPTIONS, args, strict=False)) | kwargs
            path = guard.attempt(f"fix {self.id}", self._path, f, options)
            if path is None:
                self._writer.wait()
                self._in_place += 1
                return original(obj, f, *args, **kwargs)
            self._hand_over(obj, path, options)
            return None

        return like(original, save)

    def _path(self, file: Any, options: Mapping[str, Any]) -> str | None:
        """Where to write in the background; None to save in place."""
        if not self._open or not isinstance(file, (str, os.PathLike)):
            return None
        plain = options.get("pickle_module", pickle) is pickle and set(options) <= set(SAVE_OPTIONS)
        threads = threading.main_thread().is_alive()  # later no thread can be started
        if not plain or not options.get("_use_new_zipfile_serialization", True) or not threads:
            return None
        local = getattr(self._serialization, "_serialization_tls", None)
        if getattr(local, "skip_data", False) or memory_is_short(self._torch):
            return None
        name = os.fspath(file)
        path = os.path.realpath(name) if isinstance(name, str) else ""
        return path if _can_be_replaced(path, ours=self._writer.holds(path)) else None

    def _hand_over(self, obj: Any, path: str, options: Mapping[str, Any]) -> None:
        """Errors of the pickling are the script's, as they would be without us."""
        protocol = options.get("pickle_protocol", self._serialization.DEFAULT_PROTOCOL)
        order = options.get("_disable_byteorder_record", False)
        taken = _Taken(self._buffers)
        self._serialization._save(obj, taken, pickle, protocol, order)
        records = tuple(taken.records)
        snapshot = Snapshot(path, records, sum(size for _, _, size in records))
        self._largest = max(self._largest, snapshot.bytes)
        overwritten = self._writer.drop_waiting(path)
        if overwritten is not None:
            self._overwritten += 1
            self._buffers.give_back(overwritten)
        if self._writer.bytes + snapshot.bytes > MOST_WAITING * self._largest:
            self._writer.wait()
        try:
            self._writer.put(snapshot)
        except RuntimeError:  # no further thread can be started
            self._write(snapshot)
            self._in_place += 1
            return
        self._handed += 1

    def _write(self, snapshot: Snapshot) -> None:
        """In the writer's thread."""
        temporary = _temporary(snapshot.path)
        try:
            with self._serialization._open_zipfile_writer(temporary) as file:
                for record in snapshot.records:
                    file.write_record(*record)
            with contextlib.suppress(FileNotFoundError):
                os.chmod(temporary, stat.S_IMODE(_stat(snapshot.path).st_mode))
            os.replace(temporary, snapshot.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(temporary)
            raise
        finally:
            self._buffers.give_back(snapshot)

    def _raise_failure(self) -> None:
        failure = self._writer.take_failure()
        if failure is not None:
            self._note(*failure)
            raise failure[1]

    def _note(self, path: str, error: BaseException) -> None:
        first = str(error).partition("\n")[0]
        self._failed = f"{path} could not be written ({first or type(error).__name__})"

    # Waiting.

    def _load(self, original: Any) -> Any:
        def load(*args: Any, **kwargs: Any) -> Any:
            self._writer.wait()
            return original(*args, **kwargs)

        return like(original, load)

    def _look(self, original: Any) -> Any:
        writer = self._writer

        def look(path: Any, *args: Any, **kwargs: Any) -> Any:
            if writer.busy and self._meets(path) and not _is_ours():
                writer.wait()
            return original(path, *args, **kwargs)

        for kinds in (os.supports_fd, os.supports_dir_fd, os.supports_follow_symlinks):
            if original in kinds:  # shutil looks it up in these
                kinds.add(look)
        return like(original, look)

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Of anything that may meet a file which is still being written."""
        if not self._writer.busy or event not in HEARD or self._is_exempt():
            return
        if meets(event, args, self._writer.paths()):
            self._writer.wait()

    def _meets(self, path: Any) -> bool:
        if self._is_exempt() or not isinstance(path, (str, bytes, os.PathLike)):
            return False
        try:
            return self._writer.holds(os.path.realpath(os.fsdecode(path)))
        except ValueError:  # no path at all: whoever asks is told so
            return False

    def _is_exempt(self) -> bool:
        """The writer itself, and the agent's thread."""
        return self._writer.is_current_thread() or threading.current_thread().name == "trainprof"

    def before_fork(self) -> None:
        """Python warns of a fork while other threads run, and a child would miss this one."""
        self._writer.wait()
        self._writer.end_thread()

    def _finish(self) -> None:
        self._open = False
        self._writer.wait()
        self._writer.end_thread()
        self._buffers.clear()
        if self in _live:
            _live.remove(self)
        failure = self._writer.take_failure()
        if failure is not None:
            self._note(*failure)
            sys.stderr.write(f"trainprof: the checkpoint {self._failed}\n")

    def read_back(self) -> ReadBack:
        """How many checkpoints went through the thread."""
        written = self._writer.written
        seen = {"background": self._handed, "in_place": self._in_place, "written": written}
        if self._overwritten:
            seen["overwritten"] = self._overwritten
        if self._reason is not None or self._failed is not None:
            return ReadBack(False, seen, self._reason or self._failed)
        if self._handed:
            return ReadBack(True, seen)
        if self._in_place:
            return ReadBack(False, seen, "nothing is saved by torch.save to a plain file")
        return ReadBack(None, seen, "nothing was saved yet")


_live: list[CheckpointBackground] = []
_listening: list[bool] = []


def _given(wrapper: Any, original: Any) -> Any:
    """Both names that torch has for a function get one wrapper."""
    return wrapper


def _listen() -> None:
    """Once in a process: neither hook can be removed, and both do nothing while nothing waits."""
    if not _listening:
        _listening.append(True)
        sys.addaudithook(_hear)
        os.register_at_fork(before=_before_fork)


def _hear(event: str, args: tuple[Any, ...]) -> None:
    for fix in _live:
        fix.hear(event, args)


def _before_fork() -> None:
    for fix in _live:
        fix.before_fork()


class _Taken:
    """Stands in for torch's zip writer and keeps copies of what it is given."""

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self.records: list[tuple[str, Any, int]] = []

    def write_record(self, name: str, data: Any, size: int) -> None:
        """As the writer's method."""
        shared = size and not isinstance(data, (bytes, str))
        self.records.append((name, self._buffers.copy(data) if shared else data, size))


def _can_be_replaced(path: str, *, ours: bool) -> bool:
    """A plain file, or none yet, in a folder in which files can be made.

    Args:
        path: Of the file.
        ours: It is being written just now, so that the name beside it is taken.
    """
    folder = os.path.dirname(path)
    if not path or not os.path.basename(path) or not os.access(folder, os.W_OK | os.X_OK):
        return False
    if not ours and os.path.lexists(_temporary(path)):  # somebody else's
        return False
    try:
        status = _stat(path)
    except FileNotFoundError:
        return True
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and os.access(path, os.W_OK)


def _temporary(path: str) -> str:
    """A name beside it; torch puts the part before the last dot into the file, so that stays."""
    return f"{path}~" if "." in os.path.basename(path) else f"{path}.~"


def _is_ours() -> bool:
    """Whether the agent asks: it must not wait."""
    frame = sys._getframe(2)
    for _ in range(3):  # os.path.isdir and the like lie between
        if str(frame.f_globals.get("__name__", "")).startswith(_PACKAGE):
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False
