"""The values that a script logs: losses, accuracies, learning rates, validation results.

`SummaryWriter.add_scalar` and `add_scalars` (torch's and tensorboardX), wandb's `Run.log`,
transformers' `Trainer.log`, Lightning's `CSVLogger.log_metrics`. Only numbers that the host holds
already are read: nothing waits for a device. Lines that are printed are not read. Of a W&B run
it is noted which one it is, so that what trainprof logs can join it.

Measured: 0.4 us for a float given by `add_scalar(tag, value, step)`, 2 us for other forms (such a
call takes tens of microseconds itself); the place of a tag is looked up once.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from types import ModuleType
from typing import Any

from ..model.records import Event
from .guard import attempt
from .imports import Watch, watch
from .location import caller_location
from .patching import Patches, hide_methods_from_compiler, like
from .recorder import Recorder

MOST_WAITING = 8_192
"""Values between two seconds; older ones are dropped."""
MOST_TAGS = 256
MOST_A_SECOND, MOST_A_SECOND_LATER = 64, 4
"""Values of a tag that are kept of each second, at first and after `MANY_VALUES`."""
MANY_VALUES = 5_000

_TARGETS = (  # module, class, method, how its arguments are read
    ("torch.utils.tensorboard.writer", "SummaryWriter", "add_scalar", "scalar"),
    ("torch.utils.tensorboard.writer", "SummaryWriter", "add_scalars", "scalars"),
    ("tensorboardX.writer", "SummaryWriter", "add_scalar", "scalar"),
    ("tensorboardX.writer", "SummaryWriter", "add_scalars", "scalars"),
    ("wandb.sdk.wandb_run", "Run", "log", "wandb"),
    ("transformers.trainer", "Trainer", "log", "trainer"),
    ("lightning.fabric.loggers.csv_logs", "CSVLogger", "log_metrics", "mapping"),
    ("lightning_fabric.loggers.csv_logs", "CSVLogger", "log_metrics", "mapping"),
)


class MetricsCollector:
    """Keeps what is logged until the agent's thread takes it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._waiting: deque[tuple[str, int, Any, float]] = deque(maxlen=MOST_WAITING)
        self._places: dict[str, Any] = {}  # of each tag; None once it was written
        self._counts: dict[str, int] = {}
        self._watches: list[Watch] = []
        self._wandb_id: object = None
        self._wandb_runs: deque[Event] = deque(maxlen=MOST_TAGS)
        self._since_ns = perf_counter_ns()

    def install(self, patches: Patches) -> None:
        """Patches libraries as they are imported."""
        for module, owner, method, reader in _TARGETS:
            action = functools.partial(self._patch, patches, owner, method, reader)
            self._watches.append(watch(module, action))

    def uninstall(self) -> None:
        """Stops waiting for imports; the patches are undone by their owner."""
        while self._watches:
            self._watches.pop().remove()

    def take_events(self) -> list[Event]:
        """One event with the values since the last call, and one for each W&B run that is new."""
        runs = [self._wandb_runs.popleft() for _ in range(len(self._wandb_runs))]
        return [*runs, *self._take_values()]

    def _take_values(self) -> list[Event]:
        since_ns, self._since_ns = self._since_ns, perf_counter_ns()
        series: dict[str, list[tuple[int, Any, float]]] = {}
        for _ in range(len(self._waiting)):
            tag, at_ns, step, value = self._waiting.popleft()
            step = step if type(step) is int else None
            series.setdefault(tag, []).append(((at_ns - since_ns) // 1_000, step, value))
        if not series:
            return []
        values = {tag: self._thinned(tag, points) for tag, points in series.items()}
        places = {tag: place for tag in series if (place := self._places.get(tag))}
        self._places.update(dict.fromkeys(places))
        data: dict[str, Any] = {"values": values, "where": places}
        return [Event("metrics", since_ns, self._since_ns - since_ns, data)]

    def _thinned(self, tag: str, points: list[Any]) -> list[Any]:
        """Points spread evenly, the last among them; few once the tag has had many."""
        seen = self._counts[tag] = self._counts.get(tag, 0) + len(points)
        most = MOST_A_SECOND if seen <= MANY_VALUES else MOST_A_SECOND_LATER
        every = -(-len(points) // most)
        return points[::-1][::every][::-1]

    def wrap(self, reader: str, original: Callable[..., Any]) -> Any:
        """A function that notes the values among its arguments, then calls `original`."""
        recorder = self._recorder
        read = getattr(self, f"_read_{reader}")

        def noted(*args: Any, **kwargs: Any) -> Any:
            if recorder.active():
                attempt("metrics", read, *args, **kwargs)
            return original(*args, **kwargs)

        return like(original, noted)

    def wrap_scalar(self, original: Callable[..., Any]) -> Any:
        """The same for `add_scalar(tag, value, step)`, which some scripts call in every step."""
        recorder = self._recorder
        places = self._places
        read = self._read_scalar
        append = self._waiting.append

        def noted(*args: Any, **kwargs: Any) -> Any:
            if recorder.active():
                if (
                    len(args) == 4
                    and type(args[2]) is float
                    and type(args[1]) is str
                    and args[1] in places
                ):
                    append((args[1], perf_counter_ns(), args[3], args[2]))
                else:  # a tensor, keywords, a tag's first value
                    attempt("metrics", read, *args, **kwargs)
            return original(*args, **kwargs)

        return like(original, noted)

    def _patch(
        self, patches: Patches, owner: str, method: str, reader: str, module: ModuleType
    ) -> None:
        cls = getattr(module, owner)
        if hasattr(cls, method):
            plain = functools.partial(self.wrap, reader)
            patches.replace(cls, method, self.wrap_scalar if reader == "scalar" else plain)

    # Readers take the arguments of the function they stand before.

    def _read_scalar(
        self, _: Any, tag: Any, scalar_value: Any, global_step: Any = None, *__: Any, **___: Any
    ) -> None:
        self._note(tag, scalar_value, global_step)

    def _read_scalars(
        self,
        _: Any,
        main_tag: Any,
        tag_scalar_dict: Any,
        global_step: Any = None,
        *__: Any,
        **___: Any,
    ) -> None:
        for tag, value in tag_scalar_dict.items():
            self._note(f"{main_tag}/{tag}", value, global_step)

    def _read_mapping(
        self, _: Any, *args: Any, step: Any = None, data: Any = None, metrics: Any = None, **__: Any
    ) -> None:
        values = args[0] if args else metrics if data is None else data
        if isinstance(values, Mapping):
            for tag, value in values.items():
                self._note(tag, value, args[1] if len(args) > 1 else step)

    def _read_wandb(self, run: Any, *args: Any, **kwargs: Any) -> None:
        settings = getattr(run, "_settings", None)
        run_id = getattr(settings, "run_id", None)
        if run_id != self._wandb_id:
            self._wandb_id = run_id
            names = ("run_id", "project", "entity", "mode", "sync_dir")
            data = {name: getattr(settings, name, None) for name in names}
            data = {name: str(value) for name, value in data.items() if value is not None}
            self._wandb_runs.append(Event("wandb_run", perf_counter_ns(), 0, data))
        self._read_mapping(run, *args, **kwargs)

    def _read_trainer(self, trainer: Any, logs: Any, *_: Any, **__: Any) -> None:
        self._read_mapping(trainer, logs, step=trainer.state.global_step)

    def _note(self, tag: Any, value: Any, step: Any) -> None:
        number = value if type(value) is float else _number(value)
        if number is None or type(tag) is not str:
            return
        if tag not in self._places:
            if len(self._places) >= MOST_TAGS:
                return
            self._places[tag] = caller_location()
        self._waiting.append((tag, perf_counter_ns(), step if type(step) is int else None, number))


def _number(value: Any) -> float | None:
    """A number that costs nothing to read: Python's own, NumPy's, or a tensor on the host."""
    if type(value) is int:
        return float(value)
    if getattr(value, "ndim", 1) != 0 or not getattr(value, "is_cpu", _is_numpy(value)):
        return None
    found = value.item()
    return float(found) if isinstance(found, (int, float)) else None


def _is_numpy(value: Any) -> bool:
    return type(value).__module__ == "numpy"


def install(torch: Any, recorder: Recorder, patches: Patches) -> MetricsCollector:
    """Starts noting logged values. Undone by `uninstall()` and `patches.undo()`."""
    hide_methods_from_compiler(MetricsCollector)
    collector = MetricsCollector(recorder)
    collector.install(patches)
    return collector
