"""Which calls an item's time goes to: parts of `__getitem__`, files, and making numbers of text.

A profile function sees every call for a few items. Its own cost is taken out again: it is measured
first, and the calls inside each call are counted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from ...agent.location import is_user_file
from .text import is_text, makes_numbers, splits_text, tokenizer_library

MOST_PARTS = 8
LEAST_OWN = 0.05
"""Part of a call's time that is its own, however much watching seems to have cost: what an event
costs is measured once, and a machine that was slow just then would leave nothing."""
CALIBRATIONS = 15
"""Runs of 0.2 ms, of which the shortest counts: others may hold the CPU in most of them."""


@dataclass
class Part:
    """A function called by `__getitem__` itself (or by a chain of transforms that it calls).

    Attributes:
        name: Its qualified name.
        ns: Time in it over all items.
        reads: It opens files, or reads from one.
        where: The line of the call.
    """

    name: str
    ns: float = 0.0
    reads: bool = False
    where: dict[str, Any] = field(default_factory=dict)


class _Call:
    """One call that is under way."""

    __slots__ = (
        "callee",
        "code",
        "entered",
        "line",
        "opened",
        "splits",
        "text",
        "tokens",
        "watching",
    )

    def __init__(self, code: CodeType | None, callee: Any, entered: int, line: int) -> None:
        self.code = code
        self.callee = callee
        self.entered = entered
        self.line = line
        self.watching = 0.0
        self.opened = 0
        self.splits = False
        self.text = False
        self.tokens = 0.0


class CallWatch:
    """Watches calls of one thread between `start` and `stop`.

    Args:
        outer: Code objects whose direct calls are the parts: `__getitem__`, a collate function.
        opened: Files opened so far.

    Attributes:
        parts: By name.
        file_ns: Time in calls of the user's code to libraries that open or read files;
            `file_where`: the costliest of them.
        token_ns: Time in calls that make numbers of text; `token_where`, `token_name`: the
            costliest of them.
        total_ns: Time of the outer calls, less the cost of watching.
    """

    def __init__(self, outer: set[CodeType], opened: Callable[[], int]) -> None:
        self.parts: dict[str, Part] = {}
        self.file_ns = 0.0
        self.token_ns = 0.0
        self.total_ns = 0.0
        self.token_name: str | None = None
        self.token_where: dict[str, Any] | None = None
        self._outer = outer
        self._opened = opened
        self._stack: list[_Call] = []
        self.file_where: dict[str, Any] | None = None
        self._dearest_ns = self._dearest_file_ns = 0.0
        self._of_python_ns = self._of_c_ns = 0.0
        of_python_ns = self._cost_of_an_event(_nothing)
        of_both_ns = self._cost_of_an_event(_calls_abs)
        self._of_python_ns, self._of_c_ns = of_python_ns, max(of_both_ns - of_python_ns, 0.0)

    def watch(self, call: Callable[[], Any]) -> Any:
        """Calls with every call below it seen; what it raises passes."""
        self._stack.clear()
        sys.setprofile(self._on_event)
        try:
            return call()
        finally:
            sys.setprofile(None)

    def _cost_of_an_event(self, call: Callable[[], Any]) -> float:
        """Nanoseconds that beginning or ending a call costs more when it is watched."""

        def calls() -> int:
            start = time.perf_counter_ns()
            for _ in range(200):
                call()
            return time.perf_counter_ns() - start

        bare = min(calls() for _ in range(CALIBRATIONS))
        watched = min(int(self.watch(calls)) for _ in range(CALIBRATIONS))
        self.total_ns = 0.0
        return max(watched - bare, 0) / 400

    def _on_event(self, frame: FrameType, event: str, argument: Any) -> None:
        now = time.perf_counter_ns()
        stack = self._stack
        if stack:
            of_c = event.startswith("c_")
            stack[-1].watching += self._of_c_ns if of_c else self._of_python_ns
        if event == "call":
            back = frame.f_back
            call = _Call(frame.f_code, None, now, back.f_lineno if back is not None else 0)
            call.text = _gets_text(frame)
        elif event == "c_call":
            call = _Call(None, argument, now, frame.f_lineno)
            if stack and splits_text(argument):
                _outside_library(stack).splits = True
        else:
            if stack:
                self._leave(stack.pop(), now, argument if event == "return" else None)
            return
        call.opened = self._opened()
        stack.append(call)

    def _leave(self, call: _Call, now: int, result: Any) -> None:
        elapsed = now - call.entered
        spent = max(elapsed - call.watching, LEAST_OWN * elapsed)
        parent = self._stack[-1] if self._stack else None
        if self._is_tokenizing(call, result):
            call.tokens = spent
            self._note_tokens(call, parent, spent)
        if parent is None:
            self.total_ns += spent
            self.token_ns += call.tokens
            return
        parent.watching += call.watching
        parent.tokens += call.tokens
        if call.code is None or not is_user_file(call.code.co_filename):
            self._note_file(call, parent, spent)
        inside = parent.code in self._outer or _is_chain(parent.code)
        if inside and not _is_chain(call.code):
            self._note_part(call, parent, spent)

    def _is_tokenizing(self, call: _Call, result: Any) -> bool:
        if call.code is None:
            return tokenizer_library(call.callee)
        # What is only handed on to a function that does it is not the tokenizing itself.
        return (call.splits or (call.text and not call.tokens)) and makes_numbers(result)

    def _note_tokens(self, call: _Call, parent: _Call | None, spent: float) -> None:
        if spent <= self._dearest_ns:
            return
        self._dearest_ns = spent
        code = call.code
        if code is not None and is_user_file(code.co_filename):
            self.token_name, self.token_where = code.co_name, _place(code, code.co_firstlineno)
            return
        users = [one for one in self._stack if one.code and is_user_file(one.code.co_filename)]
        self.token_name = _name(call)
        if users and users[-1].code is not None:
            line = call.line if parent is users[-1] else users[-1].code.co_firstlineno
            self.token_where = _place(users[-1].code, line)

    def _note_file(self, call: _Call, parent: _Call, spent: float) -> None:
        """A library's function, called by the user's code, that opens a file or reads from one."""
        if parent.code is None or not is_user_file(parent.code.co_filename):
            return
        if _is_reading(call) or self._opened() > call.opened:
            self.file_ns += spent
            if spent > self._dearest_file_ns:
                self._dearest_file_ns = spent
                self.file_where = _place(parent.code, call.line)

    def _note_part(self, call: _Call, parent: _Call, spent: float) -> None:
        name = _name(call)
        part = self.parts.setdefault(name, Part(name))
        part.ns += spent
        part.reads = part.reads or self._opened() > call.opened or _is_reading(call)
        if not part.where and parent.code is not None:
            if is_user_file(parent.code.co_filename):
                part.where = _place(parent.code, call.line)
            elif call.code is not None and is_user_file(call.code.co_filename):
                part.where = _place(call.code, call.code.co_firstlineno)


def _is_reading(call: _Call) -> bool:
    """A method of an open file."""
    return type(getattr(call.callee, "__self__", None)).__module__ == "_io"


def _nothing() -> None:
    """A call to Python code."""


def _calls_abs() -> int:
    """The same, and in it a call to C code."""
    return abs(1)


def _gets_text(frame: FrameType) -> bool:
    """Whether an argument of the function that begins is a text, or a list of texts."""
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return any(is_text(frame.f_locals.get(name)) for name in names[:4])


def _outside_library(stack: list[_Call]) -> _Call:
    """The innermost call that is not of Python's `re`, nor a comprehension."""
    for call in reversed(stack):
        code = call.code
        if code is not None and code.co_name[0] != "<" and "/re/" not in code.co_filename:
            return call
    return stack[-1]


def _is_chain(code: CodeType | None) -> bool:
    """`Compose.__call__` and its like: its calls are the parts, and it is itself."""
    return code is not None and getattr(code, "co_qualname", "").startswith("Compose.")


def _name(call: _Call) -> str:
    if call.code is not None:
        return str(getattr(call.code, "co_qualname", call.code.co_name))
    callee = call.callee
    name = getattr(callee, "__qualname__", None) or getattr(callee, "__name__", "?")
    module = getattr(callee, "__module__", None)
    return f"{module}.{name}" if isinstance(module, str) and module != "builtins" else str(name)


def _place(code: CodeType, line: int) -> dict[str, Any]:
    return {"file": code.co_filename, "line": line, "function": code.co_name}
