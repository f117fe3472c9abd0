"""Reads what `torch.cuda.memory._dump_snapshot` writes: segments, blocks, the allocator's history.

The format is that of `torch.cuda.memory._snapshot`:
https://github.com/pytorch/pytorch/blob/main/torch/cuda/memory.py and
https://github.com/pytorch/pytorch/blob/main/torch/csrc/cuda/memory_snapshot.cpp
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trainprof.profiler.traces.events import MISSING, Whole
from trainprof.profiler.traces.plain_pickle import PickleError, load_plain
from trainprof.profiler.traces.reading import TraceError

MOST_BYTES = 128 << 20
"""Of a pickle, unpacked: some 800,000 entries with their stacks. With the bounds of `plain_pickle`
it keeps the memory below 4 GB, whatever the file holds; a real one takes five times its size."""
LARGEST = 2**62
ACTIONS = (
    "alloc",
    "free_requested",
    "free_completed",
    "segment_alloc",
    "segment_free",
    "segment_map",
    "segment_unmap",
    "oom",
    "snapshot",
)
STATES = ("inactive", "active_allocated", "active_awaiting_free", "active_pending_free")
"""Of a block; the first is free for reuse, all others are in use."""


class Snapshot(msgspec.Struct, frozen=True):
    """What one file holds; rows of whole numbers.

    Attributes:
        path: Of the file.
        segments: Device, bytes, and 1 where it is expandable, of each piece of reserved memory.
        blocks: Place of the segment, address, bytes, bytes that were asked for, place in STATES,
            and place in `stacks`.
        entries: Device, place in ACTIONS, address (of "oom" the bytes that the device had free),
            bytes, time in us (MISSING where it is not told) and place in `stacks`, as they came.
        stacks: Frames of each stack, the innermost first; MISSING is the place of none.
        steps: Device and end of each optimizer step that the file marks, in us.
        settings: Of the allocator. skipped: What could not be understood.
    """

    path: str
    segments: Whole
    blocks: Whole
    entries: Whole
    stacks: list[list[Any]]
    steps: Whole
    settings: Mapping[str, Any] = msgspec.field(default_factory=dict)
    skipped: int = 0


def read_snapshot(path: Path) -> Snapshot:
    """A snapshot of the allocator's memory; no code of the file is run.

    Args:
        path: Of the pickle, or that gzipped.

    Raises:
        TraceError: it cannot be opened, is too large, or is no snapshot.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise TraceError(f"{path}: {reason}; name a snapshot.") from None
    if data[:2] == b"\x1f\x8b":
        data = _inflated(path, data)
    if len(data) > MOST_BYTES:
        raise TraceError(
            f"{path} is larger than {MOST_BYTES >> 20} MiB; record less "
            "(_record_memory_history(max_entries=100000))."
        )
    try:
        found = load_plain(data)
    except PickleError as error:
        raise _no_snapshot(path, str(error)) from None
    if isinstance(found, list):  # before torch 2.0: the segments alone
        found = {"segments": found}
    if not isinstance(found, dict) or not isinstance(found.get("segments"), list):
        raise _no_snapshot(path, "it holds no segments")
    return _Columns(path, found).snapshot()


def _inflated(path: Path, data: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(data, MOST_BYTES + 1)
    except zlib.error:
        raise _no_snapshot(path, "its compression is damaged") from None


def _no_snapshot(path: Path, why: str) -> TraceError:
    return TraceError(
        f"{path} is no memory snapshot that can be read: {why}; name a file that "
        "torch.cuda.memory._dump_snapshot() has written."
    )


class _Columns:
    def __init__(self, path: Path, found: Mapping[str, Any]) -> None:
        self._path = path
        self._found = found
        self._stacks: dict[int, int] = {}
        self._frames: list[list[Any]] = []
        self._segments: list[tuple[int, ...]] = []
        self._blocks: list[tuple[int, ...]] = []
        self._skipped = 0

    def snapshot(self) -> Snapshot:
        for one in self._dictionaries(self._found["segments"]):
            self._segment(one)
        entries = [
            (device, *self._entry(one))
            for device, trace in enumerate(_listed(self._found.get("device_traces")))
            for one in self._dictionaries(_listed(trace))
        ]
        settings = self._found.get("allocator_settings")
        if not self._segments and not entries:
            raise _no_snapshot(self._path, "neither segments nor a history are in it")
        return Snapshot(
            path=str(self._path),
            segments=_rows(self._segments, 3),
            blocks=_rows(self._blocks, 6),
            entries=_rows(entries, 6),
            stacks=self._frames,
            steps=_rows(self._steps(), 2),
            settings=settings if isinstance(settings, dict) else {},
            skipped=self._skipped,
        )

    def _dictionaries(self, found: Iterable[Any]) -> Iterable[dict[Any, Any]]:
        for one in found:
            if isinstance(one, dict):
                yield one
            else:
                self._skipped += 1

    def _segment(self, given: dict[Any, Any]) -> None:
        place = len(self._segments)
        expandable = int(given.get("is_expandable") is True)
        device, size = _number(given.get("device"), 0), _number(given.get("total_size"), 0)
        self._segments.append((device, size, expandable))
        address = _number(given.get("address"))
        for one in self._dictionaries(_listed(given.get("blocks"))):
            size = _number(one.get("size"), 0)
            own = _number(one.get("address"), address)
            asked = _number(one.get("requested_size"), size)
            state = _place(STATES, one.get("state"))
            frames = one.get("frames")
            self._blocks.append((place, own, size, asked, state, self._stack(frames)))
            address = own + size

    def _entry(self, given: dict[Any, Any]) -> tuple[int, ...]:
        address = given.get("device_free") if given.get("action") == "oom" else given.get("addr")
        return (
            _place(ACTIONS, given.get("action")),
            _number(address),
            _number(given.get("size"), 0),
            _number(given.get("time_us")),
            self._stack(given.get("frames")),
        )

    def _stack(self, frames: Any) -> int:
        """Stacks are shared in the file, so that the object tells which it is."""
        if not isinstance(frames, list) or not frames:
            return MISSING
        place = self._stacks.get(id(frames))
        if place is None:
            place = self._stacks[id(frames)] = len(self._frames)
            self._frames.append(frames)
        return place

    def _steps(self) -> list[tuple[int, int]]:
        return sorted(
            (_number(one.get("device"), 0), _number(one.get("time_us")))
            for one in self._dictionaries(_listed(self._found.get("external_annotations")))
            if one.get("stage") == "END" and str(one.get("name")).startswith("Optimizer.step")
        )


def _listed(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _number(found: Any, otherwise: int = MISSING) -> int:
    """A whole number of a size that memory and times have."""
    return found if type(found) is int and 0 <= found < LARGEST else otherwise


def _place(words: tuple[str, ...], word: Any) -> int:
    return words.index(word) if isinstance(word, str) and word in words else MISSING


def _rows(rows: list[Any], width: int) -> Whole:
    return np.array(rows, np.int64).reshape(-1, width)
