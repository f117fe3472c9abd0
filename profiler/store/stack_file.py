"""Writes sampled stacks: each frame, stack and thread once, then a short line per sample.

Standard library only: the supervisor writes the run's file, an agent that samples its own process
writes one in that process's folder.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..model.stacks import Frame, LockWindow, StackSample, StackWindow
from .appended_file import AppendedFile
from .layout import FORMAT, UNIT_NS

MOST_FRAMES = 150
"""Of a deeper stack (a recursion) the outermost frames are left out."""


class StackFile:
    """Appends samples to one file.

    Args:
        path: The file; it is created by the first `write`.
        base_ns: The instant (`perf_counter_ns`) that times in the file are relative to.

    Attributes:
        size: Bytes written so far.
    """

    def __init__(self, path: str, base_ns: int) -> None:
        self.size = 0
        self._base_ns = base_ns
        header: dict[str, object] = {"format": FORMAT, "base_ns": base_ns, "unit_ns": UNIT_NS}
        self._file = AppendedFile(path, header, keeps=False)
        self._frames: dict[Frame, int] = {}
        self._stacks: dict[tuple[int, ...], int] = {}
        self._threads: dict[tuple[int, int], int] = {}

    def window(self, window: StackWindow) -> None:
        """Adds a span in which stacks were sampled."""
        start, end = self._ticks(window.start_ns), self._ticks(window.end_ns)
        period = window.period_ns // UNIT_NS
        self._add(f'["window",{start},{end},{period},{_text(window.source)}]\n')

    def sample(self, sample: StackSample) -> None:
        """Adds a sample, and before it whatever of it is new to the file."""
        thread = self._thread(sample.pid, sample.thread)
        stack = self._stack(sample.stack[-MOST_FRAMES:])
        duration = sample.duration_ns // UNIT_NS
        self._add(f"[{self._ticks(sample.at_ns)},{duration},{thread},{stack}]\n")

    def lock_window(self, window: LockWindow) -> None:
        """Adds who held the interpreter lock in a span."""
        start, end = self._ticks(window.start_ns), self._ticks(window.end_ns)
        stacks = [self._stack(holder.stack[-MOST_FRAMES:]) for holder in window.holders]
        self._add(f'["lock",{start},{end},{window.pid},{window.looks}]\n')
        for holder, stack in zip(window.holders, stacks, strict=True):
            self._add(f'["held",{int(holder.main)},{stack},{holder.looks}]\n')

    def write(self) -> None:
        """Appends what was added, in one write.

        Raises:
            OSError: it could not be written; what was added is lost, and the file is to be closed.
        """
        if self._file.lines:
            self._file.write()

    def close(self) -> None:
        """Closes the file; raises OSError like `write`."""
        self._file.close()

    def _ticks(self, at_ns: int) -> int:
        return (at_ns - self._base_ns) // UNIT_NS

    def _add(self, line: str) -> None:
        self.size += len(line)
        self._file.lines.append(line)

    def _thread(self, pid: int, thread: int) -> int:
        key = (pid, thread)
        number = self._threads.get(key)
        if number is None:
            number = self._threads[key] = len(self._threads)
            self._add(f'["thread",{number},{pid},{thread}]\n')
        return number

    def _stack(self, frames: Sequence[Frame]) -> int:
        key = tuple([self._frame(frame) for frame in frames])
        number = self._stacks.get(key)
        if number is None:
            number = self._stacks[key] = len(self._stacks)
            self._add(f'["stack",{",".join(map(str, (number, *key)))}]\n')
        return number

    def _frame(self, frame: Frame) -> int:
        number = self._frames.get(frame)
        if number is None:
            number = self._frames[frame] = len(self._frames)
            function, file, line = _text(frame.function), _text(frame.file), frame.line
            self._add(f'["frame",{number},{function},{file},{line}]\n')
        return number


def _text(text: str) -> str:
    from json import dumps

    return dumps(text)
