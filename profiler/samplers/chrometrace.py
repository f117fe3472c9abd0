"""Reads what `py-spy record --subprocesses --idle --format chrometrace` writes.

Of py-spy's formats only this one carries times, and only of changes: "E" ends and "B" begins the
frames in which a thread's stack differs from the last one seen *under the same thread id*. Forked
processes share the ids of their threads, so the stacks of a training and its DataLoader workers
come interleaved; what tells them apart are the frames `process 123:"..."` at the bottom.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import msgspec

from trainprof.profiler.model.stacks import Frame, Stack, StackSample

LONGEST_SHARED_PERIODS = 4
"""Where processes share a thread id, silence may also mean that the process has ended: a sample
then stands for at most so many periods."""

_PROCESS = re.compile(r"process (\d+):")


class _Arguments(msgspec.Struct):
    filename: str = ""
    line: int | None = None
    name: str | None = None


class _Event(msgspec.Struct):
    name: str
    ph: str
    pid: int
    tid: int
    ts: int = 0
    args: _Arguments = msgspec.field(default_factory=_Arguments)


@dataclass(frozen=True, slots=True)
class _Sight:
    """One thread's stack at one instant, in microseconds since py-spy began."""

    at_us: int
    pid: int
    thread: int
    stack: Stack


def read_trace(data: bytes, started_ns: int, period_ns: int) -> list[StackSample]:
    """The samples of one trace.

    Args:
        data: The whole file.
        started_ns: `perf_counter_ns` at which py-spy began.
        period_ns: Mean time between its looks.

    Raises:
        ValueError: the data is no such trace.
    """
    try:
        events = msgspec.json.decode(data, type=list[_Event])
    except msgspec.MsgspecError as error:
        raise ValueError(f"py-spy wrote no trace that can be read ({error})") from None
    sights = list(_sights(events))
    end_us = max((event.ts for event in events), default=0)
    owners: dict[int, set[int]] = {}
    for sight in sights:
        owners.setdefault(sight.thread, set()).add(sight.pid)
    shared = {thread for thread, pids in owners.items() if len(pids) > 1}
    by_thread: dict[tuple[int, int], list[_Sight]] = {}
    for sight in sights:
        by_thread.setdefault((sight.pid, sight.thread), []).append(sight)
    samples = []
    for (pid, thread), seen in by_thread.items():
        longest_ns = LONGEST_SHARED_PERIODS * period_ns if thread in shared else None
        ends_us = [*(sight.at_us for sight in seen[1:]), end_us]
        for sight, until_us in zip(seen, ends_us, strict=True):
            duration_ns = max(until_us - sight.at_us, 0) * 1000
            if longest_ns is not None:
                duration_ns = min(duration_ns, longest_ns)
            at_ns = started_ns + sight.at_us * 1000
            samples.append(StackSample(at_ns, duration_ns, pid, thread, sight.stack))
    return samples


def _sights(events: Sequence[_Event]) -> Iterator[_Sight]:
    """Follows the stack of each thread id; a sight after each group of changes made at once."""
    frames: dict[int, list[Frame]] = {}
    idents: dict[int, int] = {}
    changes = [event for event in events if event.ph in ("B", "E", "M")]
    for (tid, pid, at_us), group in groupby(changes, key=lambda one: (one.tid, one.pid, one.ts)):
        stack = frames.setdefault(tid, [])
        began = False
        for event in group:
            if event.ph == "M":
                _remember_ident(event, idents)
            elif event.ph == "E":
                if stack:
                    stack.pop()
            else:
                began = True
                stack.append(Frame(event.name, event.args.filename, event.args.line or 0))
        if stack:
            owner, seen = _without_processes(stack, pid)
            if seen and (began or owner == pid):
                yield _Sight(at_us, owner, idents.get(tid, tid), seen)


def _remember_ident(event: _Event, idents: dict[int, int]) -> None:
    """Newer versions number the threads and name each once, as "140737353963328: MainThread"."""
    ident, _, _ = (event.args.name or "").partition(":")
    if event.name == "thread_name" and ident.isdecimal():
        idents[event.tid] = int(ident)


def _without_processes(stack: Sequence[Frame], pid: int) -> tuple[int, Stack]:
    """The process a stack belongs to, by the last of the marks at its bottom, and the rest."""
    depth = 0
    for frame in stack:
        match = None if frame.file else _PROCESS.match(frame.function)
        if match is None:
            break
        pid, depth = int(match.group(1)), depth + 1
    return pid, tuple(stack[depth:])
