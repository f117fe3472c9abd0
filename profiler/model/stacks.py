"""Sampled Python stacks: what each thread was executing, seen from outside or by the agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Frame(NamedTuple):
    """One call on a stack.

    Attributes:
        function: Qualified where the interpreter says so (Python 3.11 and newer).
        line: That was being executed; 0 where it is unknown.
    """

    function: str
    file: str
    line: int


Stack = tuple[Frame, ...]
"""Frames from the outermost to the innermost."""


class StackSample(NamedTuple):
    """A thread that was seen in a stack, and for how long that stands for it.

    Attributes:
        duration_ns: Until the next look at this thread; a thread that does not move gives one long
            sample, not many.
        thread: `threading.get_ident()` of it.
    """

    at_ns: int
    duration_ns: int
    pid: int
    thread: int
    stack: Stack


class StackWindow(NamedTuple):
    """A span of time in which stacks were sampled.

    Attributes:
        period_ns: Mean time between two looks.
        source: "py-spy" (from outside, all processes of the run) or "agent" (from inside, the
            training thread only).
    """

    start_ns: int
    end_ns: int
    period_ns: int
    source: str


class Holder(NamedTuple):
    """A stack that held Python's interpreter lock.

    Attributes:
        main: Of the process's main thread.
        looks: That found it so.
    """

    main: bool
    stack: Stack
    looks: int


class LockWindow(NamedTuple):
    """A span of time in which one process was asked who holds the interpreter lock.

    Attributes:
        looks: In the span; those that found nobody holding it included.
    """

    start_ns: int
    end_ns: int
    pid: int
    looks: int
    holders: tuple[Holder, ...] = ()


@dataclass(frozen=True, slots=True)
class Stacks:
    """All that was sampled in a run, in no particular order."""

    samples: Sequence[StackSample] = ()
    windows: Sequence[StackWindow] = ()
    lock_windows: Sequence[LockWindow] = ()
