"""Reads sampled stacks back: the run's own file, and those of agents that sampled themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from trainprof.profiler.model.stacks import (
    Frame,
    Holder,
    LockWindow,
    Stack,
    Stacks,
    StackSample,
    StackWindow,
)
from trainprof.profiler.store.layout import PROCESSES_FOLDER, STACKS_FILE
from trainprof.profiler.store.lines import Problems, array_of_lines, read_header, read_records

OWNER = "the sampled stacks"


def read_stacks(folder: Path, problems: Problems) -> Stacks:
    """All sampled stacks of a run folder; lines that cannot be read are left out and named."""
    samples: list[StackSample] = []
    windows: list[StackWindow] = []
    lock_windows: list[LockWindow] = []
    for path in (folder / STACKS_FILE, *sorted(folder.glob(f"{PROCESSES_FOLDER}/*/{STACKS_FILE}"))):
        reading = _Reading(samples, windows, lock_windows)
        reading.read(path, problems)
    return Stacks(tuple(samples), tuple(windows), tuple(lock_windows))


class _Reading:
    """One file while it is read: what its lines have defined so far."""

    def __init__(
        self,
        samples: list[StackSample],
        windows: list[StackWindow],
        lock_windows: list[LockWindow],
    ) -> None:
        self._samples = samples
        self._windows = windows
        self._lock_windows = lock_windows
        self._frames: dict[int, Frame] = {}
        self._stacks: dict[int, Stack] = {}
        self._threads: dict[int, tuple[int, int]] = {}
        self._base_ns = 0
        self._unit_ns = 1

    def read(self, path: Path, problems: Problems) -> None:
        header = read_header(path, OWNER, problems)
        if header is None:
            return
        self._base_ns, self._unit_ns = header.base_ns, header.unit_ns
        unusable = 0
        for row in self._rows(path, problems):
            try:
                self._take(row)
            except (LookupError, ValueError, TypeError):
                unusable += 1  # of a kind to come, or of a frame whose own line is lost
        problems.unreadable_lines(unusable, path.name, OWNER)

    @staticmethod
    def _rows(path: Path, problems: Problems) -> Iterator[list[Any]]:
        decoder = msgspec.json.Decoder(list[list[Any]])

        def parse(chunk: bytes) -> list[list[Any]]:
            return decoder.decode(array_of_lines(chunk))

        for rows in read_records(path, OWNER, problems, parse):
            yield from rows

    def _take(self, row: list[Any]) -> None:
        kind, *values = row
        if kind == "frame":
            number, function, file, line = values
            self._frames[number] = Frame(str(function), str(file), int(line))
        elif kind == "stack":
            number, *frames = values
            self._stacks[number] = tuple([self._frames[frame] for frame in frames])
        elif kind == "thread":
            number, pid, thread = values
            self._threads[number] = (int(pid), int(thread))
        elif kind == "window":
            start, end, period, source = values
            self._windows.append(
                StackWindow(self._at(start), self._at(end), period * self._unit_ns, str(source))
            )
        elif kind == "lock":
            start, end, pid, looks = values
            self._lock_windows.append(
                LockWindow(self._at(start), self._at(end), int(pid), int(looks))
            )
        elif kind == "held":
            main, stack, looks = values
            window = self._lock_windows[-1]
            holder = Holder(bool(main), self._stacks[stack], int(looks))
            self._lock_windows[-1] = window._replace(holders=(*window.holders, holder))
        elif isinstance(kind, int):
            duration, thread, stack = values
            pid, ident = self._threads[thread]
            self._samples.append(
                StackSample(
                    self._at(kind), duration * self._unit_ns, pid, ident, self._stacks[stack]
                )
            )

    def _at(self, ticks: int) -> int:
        return self._base_ns + ticks * self._unit_ns
