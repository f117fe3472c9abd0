"""logging-interval."""

from __future__ import annotations

import builtins
import logging
import sys
from collections.abc import Mapping
from types import FrameType, ModuleType
from typing import Any

from ...profiler.agent.imports import watch
from ...profiler.agent.location import absolute_path, is_user_file
from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .source_edit import SourceEdit, Thinned

EVERY = 50
"""Steps; Lightning's own interval."""
RARELY = 10
"""Updates between two calls of one line; what comes as rarely as that is left alone."""
WRITERS = (
    ("torch.utils.tensorboard.writer", "SummaryWriter", "add_"),
    ("tensorboardX.writer", "SummaryWriter", "add_"),
    ("wandb.sdk.wandb_run", "Run", "log"),
)
"""Module, class, and how the methods' names begin."""
_PACKAGE = f"{__name__.partition('.')[0]}."


class LoggingInterval(Fix):
    """Lines of the script's own that log in each step do so in each 50th only.

    That is for `print` to the terminal, `logging` below the level of a warning, the `add_...`
    methods of TensorBoard's SummaryWriter, and `wandb.log`. What is logged is what would have been
    logged in that step; all calls of a line in one step are made, or none. Lines that log more
    rarely than each tenth step, before the first update, in libraries, or into files of the
    script's own are left alone. With a target it is for that line only.

    The training is the same, but points of the log are lost for good, and Weights & Biases counts
    fewer steps by itself: so it has to be asked for. What the call is given is still computed,
    `loss.item()` too; only the source can change that.
    """

    id = "logging-interval"
    title = "Fewer points in the log"
    safety = "semantics"
    parameters: Mapping[str, type] = {"every_steps": int}
    verifies = ("step.logging_share", "down")
    made_in_source = True

    def install(self, process: Process) -> None:
        """Wraps `print`, `Logger.handle`, and the writers once the script has imported them."""
        self._every = max(1, int(self.params.get("every_steps", EVERY)))
        self._updates = self._left_out = self._made = 0
        self._lines: dict[tuple[str, int], list[int]] = {}  # updates at its latest call, and log
        process.patches.replace(builtins, "print", self._print)
        process.patches.replace(logging.Logger, "handle", self._handle)
        for module, owner, start in WRITERS:
            watched = watch(module, self._patching(process, owner, start))
            process.at_end(watched.remove)
        process.after_update(self._count)

    def _count(self) -> None:
        self._updates += 1

    def _patching(self, process: Process, owner: str, start: str) -> Any:
        def patch(module: ModuleType) -> None:
            cls = getattr(module, owner)
            names = [name for name, value in vars(cls).items() if callable(value)]
            for name in names:
                if name == start or (start.endswith("_") and name.startswith(start)):
                    process.patches.replace(cls, name, self._write)

        return patch

    def _print(self, original: Any) -> Any:
        def print_(*args: Any, **kwargs: Any) -> None:
            to_terminal = kwargs.get("file") in (None, sys.stdout, sys.stderr)
            if not to_terminal or self._passes(_calling_line()):
                original(*args, **kwargs)

        return like(original, print_)

    def _handle(self, original: Any) -> Any:
        def handle(logger: Any, record: Any) -> None:
            line = (record.pathname, record.lineno)
            warns = record.levelno >= logging.WARNING
            if warns or not is_user_file(record.pathname) or self._passes(line):
                original(logger, record)

        return like(original, handle)

    def _write(self, original: Any) -> Any:
        def write(writer: Any, *args: Any, **kwargs: Any) -> Any:
            return original(writer, *args, **kwargs) if self._passes(_calling_line()) else None

        return like(original, write)

    def _passes(self, line: tuple[str, int] | None) -> bool:
        """Whether this call is made."""
        now = self._updates
        if line is None or not now or not self._is_meant(line):
            return True
        before = self._lines.setdefault(line, [now, now])
        called, logged = before
        before[0] = now
        if now == logged or now - called >= RARELY or now - logged >= self._every:
            before[1] = now
            self._made += 1
            return True
        self._left_out += 1
        return False

    def _is_meant(self, line: tuple[str, int]) -> bool:
        target = self.target
        return target is None or (absolute_path(line[0]), line[1]) == (target.file, target.line)

    def read_back(self) -> ReadBack:
        """How many calls were left out."""
        seen = {"left_out": self._left_out, "made": self._made}
        if self._left_out:
            return ReadBack(True, seen)
        if self._updates < 2 * RARELY:
            return ReadBack(None, seen, "too few updates were made")
        return ReadBack(False, seen, "no line of the script's own logs in each step")

    def edit(self) -> SourceEdit:
        """The call stands under `if step % 50 == 0:`."""
        return Thinned(int(self.params.get("every_steps", EVERY)))


def _calling_line() -> tuple[str, int] | None:
    """File and line of the call, if the script itself makes it and no library."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(_PACKAGE):
        frame = frame.f_back  # the agent's own wrapper
    if frame is None or not is_user_file(frame.f_code.co_filename):
        return None
    return frame.f_code.co_filename, frame.f_lineno
