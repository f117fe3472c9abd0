"""Copies of a whole model: `copy.deepcopy` of a module, of its state or of an optimizer's.

Other deep copies pass straight through. A script that said `from copy import deepcopy` before it
imported torch holds the function itself: such names in the user's own modules are replaced too.

Measured: 0.6 us for a copy that passes through, 2 us for one that is counted (which takes tens of
microseconds at least).
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from ..model.records import Event
from .guard import attempt
from .location import caller_location, is_user_file
from .patching import Patches, hide_methods_from_compiler, like
from .recorder import Recorder

Place = tuple[str, int, str]
_MOST_PLACES = 1_000


class DeepcopyCollector:
    """Counts the copies of models on the training thread; the agent's thread reads."""

    def __init__(self, torch: Any, recorder: Recorder) -> None:
        self._torch = torch
        self._recorder = recorder
        self._count = 0
        self._total_ns = 0
        self._taken = (0, 0)
        self._places: dict[Place, int] = {}
        self._what = ""
        self._since_ns = perf_counter_ns()

    def install(self, patches: Patches) -> None:
        """Patches `copy.deepcopy`, and its name in modules of the user's."""
        original = copy.deepcopy
        wrapper = self.wrap(original)
        patches.replace(copy, "deepcopy", lambda _: wrapper)
        for module in list(sys.modules.values()):
            names = getattr(module, "__dict__", None) or {}
            if names.get("deepcopy") is original and _is_users(module):
                patches.replace(module, "deepcopy", lambda _: wrapper)

    def uninstall(self) -> None:
        """Nothing to do: the patches are undone by their owner."""

    def take_events(self) -> list[Event]:
        """One event with the copies since the last call, none if there were none."""
        since_ns, self._since_ns = self._since_ns, perf_counter_ns()
        now = (self._count, self._total_ns)
        before, self._taken = self._taken, now
        if now[0] == before[0]:
            return []
        data: dict[str, Any] = {
            "count": now[0] - before[0],
            "total_ns": now[1] - before[1],
            "what": self._what,
        }
        places = dict(self._places)
        if places:
            file, line, function = max(places, key=lambda place: places[place])
            data["where"] = {"file": file, "line": line, "function": function}
        return [Event("deepcopy", since_ns, self._since_ns - since_ns, data)]

    def wrap(self, original: Callable[..., Any]) -> Any:
        """A function that times `original` where it copies a model."""
        recorder = self._recorder

        def deepcopy(*args: Any, **kwargs: Any) -> Any:
            if not args or not recorder.active() or not attempt("deepcopy", self._holds, args[0]):
                return original(*args, **kwargs)
            start_ns = perf_counter_ns()
            try:
                return original(*args, **kwargs)
            finally:
                attempt("deepcopy", self._note, args[0], perf_counter_ns() - start_ns)

        return like(original, deepcopy)

    def _holds(self, thing: Any) -> bool:
        """Whether it is a module, or the state of a module or an optimizer."""
        if isinstance(thing, self._torch.nn.Module):
            return True
        if not isinstance(thing, dict) or not thing:
            return False
        first = next(iter(thing.values()))
        return isinstance(first, self._torch.Tensor) or "param_groups" in thing

    def _note(self, thing: Any, spent_ns: int) -> None:
        self._count += 1
        self._total_ns += spent_ns
        self._what = type(thing).__name__
        where = caller_location()
        if where is not None and len(self._places) < _MOST_PLACES:
            place = (where["file"], where["line"], where["function"])
            self._places[place] = self._places.get(place, 0) + 1


def _is_users(module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and is_user_file(file)


def install(torch: Any, recorder: Recorder, patches: Patches) -> DeepcopyCollector:
    """Starts counting copies. Undone by `patches.undo()`."""
    hide_methods_from_compiler(DeepcopyCollector)
    collector = DeepcopyCollector(torch, recorder)
    collector.install(patches)
    return collector
