"""Time that torch.compile takes on the training thread, and what it compiled.

Dynamo's own callbacks say when a compilation starts and ends, so that nothing of what is compiled
is touched: no graph break, no recompilation. Two calls of 1 us per compilation of seconds.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from time import perf_counter_ns
from types import ModuleType
from typing import Any

from ..model.records import Event
from . import marks as m
from .guard import attempt
from .imports import Watch, watch
from .location import caller_location
from .patching import Patches, hide_methods_from_compiler
from .recorder import Recorder

_MOST_EVENTS = 10_000


class CompileCollector:
    """Registers with dynamo once the script has imported it (to import it takes a second)."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._handler: Any = None
        self._watch: Watch | None = None
        self._start_ns = 0  # of the compilation under way on the training thread, else 0
        self._again = False
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._starting = self._on_start  # one object each, to find them in the lists again
        self._ending = self._on_end

    def install(self, patches: Patches) -> None:
        """Waits for dynamo."""
        hide_methods_from_compiler(CompileCollector)
        register = functools.partial(self._register, patches)
        self._watch = watch("torch._dynamo.callback", register)

    def uninstall(self) -> None:
        """Takes the callbacks out of dynamo."""
        if self._watch is not None:
            self._watch.remove()
            self._watch = None
        if self._handler is not None:
            for callbacks, ours in self._lists():
                if ours in callbacks:
                    callbacks.remove(ours)
            self._handler = None

    def take_events(self) -> list[Event]:
        """The "compile" events since the last call, one per frame compiled.

        In each either `frames` is 1 (compiled for the first time) or `recompiles` is.
        """
        return [self._events.popleft() for _ in range(len(self._events))]

    def _register(self, patches: Patches, module: ModuleType) -> None:
        self._handler = module.callback_handler
        self._add()
        # torch._dynamo.reset() clears the callbacks, in mid-training as well.
        patches.replace(self._handler, "clear", self._around_clear)

    def _lists(self) -> list[tuple[list[Any], Any]]:
        return [
            (self._handler.start_callbacks, self._starting),
            (self._handler.end_callbacks, self._ending),
        ]

    def _add(self) -> None:
        for callbacks, ours in self._lists():
            if ours not in callbacks:
                callbacks.append(ours)

    def _around_clear(self, original: Any) -> Any:
        def clear() -> None:
            original()
            if self._handler is not None and not self._recorder.closed:
                self._add()

        return clear

    def _on_start(self, *_: Any) -> None:
        if self._recorder.active():
            self._recorder.mark(m.COMPILE)
            self._again = _is_recompilation()
            self._start_ns = perf_counter_ns()

    def _on_end(self, *_: Any) -> None:
        if not self._start_ns:
            return
        duration_ns = perf_counter_ns() - self._start_ns
        self._recorder.mark(m.COMPILE_END)
        data = {
            "frames": int(not self._again),
            "recompiles": int(self._again),
            "where": attempt("location", caller_location),
        }
        self._events.append(Event("compile", self._start_ns, duration_ns, data))
        self._start_ns = 0


def _is_recompilation() -> bool:
    """Whether the frame that is being compiled has been compiled before."""
    guards = sys.modules.get("torch._guards")
    context = getattr(guards, "CompileContext", None)
    current = getattr(context, "current_compile_id", None)
    compile_id = current() if current is not None else None
    return bool(getattr(compile_id, "frame_compile_id", 0))


def install(torch: Any, recorder: Recorder, patches: Patches) -> CompileCollector:
    """Starts watching compilations. Undone by `uninstall()` and `patches.undo()`."""
    collector = CompileCollector(recorder)
    collector.install(patches)
    return collector
