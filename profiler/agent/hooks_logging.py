"""Time that the training thread spends telling people how it goes.

`print`, `logging`, tqdm, SummaryWriter (torch's and tensorboardX), wandb. Each call leaves a LOG
and a LOG_END mark; libraries are hooked once the script has imported them, never before.

Measured: 0.9 us per call outside of the original, 1 us more where the place is looked up (the
first call and then one in 64).
"""

from __future__ import annotations

import builtins
import functools
import logging
from collections.abc import Callable
from time import perf_counter_ns
from types import ModuleType
from typing import Any

from ..model.records import Event
from . import marks as m
from .guard import attempt
from .imports import Watch, watch
from .location import caller_location
from .patching import Patches, hide_from_compiler, hide_methods_from_compiler, like
from .recorder import Recorder

CHANNELS = ("print", "logging", "tqdm", "tensorboard", "tensorboardx", "wandb")
"""Where the output goes; the object of a LOG mark is the index here."""

LOCATE_EVERY = 64

_METHODS = (  # module, class, methods (a name ending in "_" means all that start so), channel
    ("tqdm.std", "tqdm", ("display", "refresh"), 2),
    ("tqdm.notebook", "tqdm_notebook", ("display",), 2),
    ("torch.utils.tensorboard.writer", "SummaryWriter", ("add_", "flush"), 3),
    ("tensorboardX.writer", "SummaryWriter", ("add_", "flush"), 4),
    ("wandb.sdk.wandb_run", "Run", ("log",), 5),
)

Place = tuple[str, int, str]


class Channel:
    """One way of output. The training thread counts, the agent's thread reads."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.calls = 0
        self.total_ns = 0
        self.depth = 0
        self.places: dict[Place, int] = {}
        self._taken = (0, 0)

    def enter(self) -> int:
        """The start of an outermost call, or -1 inside another one of the same channel."""
        self.depth += 1
        return perf_counter_ns() if self.depth == 1 else -1

    def leave(self, start_ns: int) -> None:
        """Counts a call; looks up its place every now and then."""
        self.depth -= 1
        if start_ns < 0:
            return
        self.total_ns += perf_counter_ns() - start_ns
        if self.calls % LOCATE_EVERY == 0:
            attempt("location", self._locate)
        self.calls += 1

    def _locate(self) -> None:
        where = caller_location()
        if where is not None and (len(self.places) < 1_000):
            place = (where["file"], where["line"], where["function"])
            self.places[place] = self.places.get(place, 0) + 1

    def take(self) -> tuple[int, int]:
        """Calls and nanoseconds since the last taking."""
        now = (self.calls, self.total_ns)
        before, self._taken = self._taken, now
        return now[0] - before[0], now[1] - before[1]


class LoggingCollector:
    """Counts the output calls of the training thread per channel."""

    def __init__(self, recorder: Recorder, compiling: Callable[[], bool]) -> None:
        self._recorder = recorder
        self._compiling = compiling
        self._channels = [Channel(index) for index in range(len(CHANNELS))]
        self._watches: list[Watch] = []
        self._since_ns = perf_counter_ns()

    def install(self, patches: Patches) -> None:
        """Patches print and logging, and libraries as they are imported."""
        patches.replace(builtins, "print", self._print)
        patches.replace(logging.Logger, "handle", functools.partial(self.wrap, 1))
        for module, owner, methods, channel in _METHODS:
            action = functools.partial(self._patch, patches, owner, methods, channel)
            self._watches.append(watch(module, action))

    def uninstall(self) -> None:
        """Stops waiting for imports; the patches are undone by their owner."""
        while self._watches:
            self._watches.pop().remove()

    def take_events(self) -> list[Event]:
        """One event with what was counted since the last call, none if nothing was."""
        since_ns, self._since_ns = self._since_ns, perf_counter_ns()
        calls: dict[str, int] = {}
        total_ns: dict[str, int] = {}
        where: dict[str, object] = {}
        for name, channel in zip(CHANNELS, self._channels, strict=True):
            count, spent_ns = channel.take()
            if count == 0:
                continue
            calls[name] = count
            total_ns[name] = spent_ns
            places = dict(channel.places)
            if places:
                file, line, function = max(places, key=lambda place: places[place])
                where[name] = {"file": file, "line": line, "function": function}
        if not calls:
            return []
        data = {"calls": calls, "total_ns": total_ns, "where": where}
        return [Event("logging", since_ns, self._since_ns - since_ns, data)]

    def wrap(self, index: int, original: Callable[..., Any]) -> Any:
        """A function that calls `original` between two marks of a channel."""
        recorder = self._recorder
        compiling = self._compiling
        channel = self._channels[index]

        def logged(*args: Any, **kwargs: Any) -> Any:
            if compiling() or not recorder.active():
                return original(*args, **kwargs)
            recorder.mark(m.LOG, index)
            start_ns = channel.enter()
            try:
                return original(*args, **kwargs)
            finally:
                channel.leave(start_ns)
                recorder.mark(m.LOG_END, index)

        return like(original, logged)

    def _print(self, original: Callable[..., Any]) -> Any:
        return _Print(original, self.wrap(0, original))

    def _patch(
        self,
        patches: Patches,
        owner: str,
        methods: tuple[str, ...],
        channel: int,
        module: ModuleType,
    ) -> None:
        cls = getattr(module, owner)
        for method in methods:
            for name in _matching(cls, method):
                patches.replace(cls, name, functools.partial(self.wrap, channel))


class _Print:
    """Stands in for `print`, and like it is no descriptor: `class Report: line = print` works.

    It is pickled and copied as the global name `print`.
    """

    def __init__(self, original: Callable[..., Any], logged: Callable[..., Any]) -> None:
        self._logged = logged
        for name in ("__name__", "__qualname__", "__module__", "__doc__", "__self__"):
            if hasattr(original, name):
                setattr(self, name, getattr(original, name))
        self.__wrapped__ = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._logged(*args, **kwargs)

    def __reduce__(self) -> str:
        return "print"

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


def _matching(cls: type, method: str) -> list[str]:
    if not method.endswith("_"):
        return [method] if hasattr(cls, method) else []
    return [
        name for name, value in vars(cls).items() if name.startswith(method) and callable(value)
    ]


def install(torch: Any, recorder: Recorder, patches: Patches) -> LoggingCollector:
    """Starts counting output. Undone by `uninstall()` and `patches.undo()`."""
    for ours in (Channel, LoggingCollector):
        hide_methods_from_compiler(ours)
    hide_from_compiler(_Print.__call__)
    collector = LoggingCollector(recorder, torch.compiler.is_dynamo_compiling)
    collector.install(patches)
    return collector
