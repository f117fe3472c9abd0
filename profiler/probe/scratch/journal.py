"""What the scratch process has found out so far: one JSON object a line, flushed at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from ...agent import guard


class Journal:
    """Writes results as they come, so that nothing is lost when the process is killed.

    Lines: `{"stage": name}` before each stage, `{"data": {...}}` after it, `{"problem": sentence}`,
    and `{"done": true}` last.

    Args:
        path: Its file, made anew.
        budget_s: Time for everything after `ready`.
    """

    def __init__(self, path: str, budget_s: float) -> None:
        self._file = open(path, "w", buffering=1)  # noqa: SIM115  open as long as the process
        self._budget_s = budget_s
        self._deadline = time.perf_counter() + budget_s

    def ready(self) -> None:
        """The budget begins: torch is imported and the data set is there."""
        self._deadline = time.perf_counter() + self._budget_s
        self._write({"stage": "ready"})

    def until(self, share: float) -> float:
        """When a stage that may take `share` of the budget has to end, on `perf_counter`."""
        now = time.perf_counter()
        return min(now + share * self._budget_s, self._deadline - 0.05 * self._budget_s)

    def stage(self, name: str, action: Callable[[], dict[str, Any] | None]) -> bool:
        """Runs a stage and writes what it returns; False, and a problem, where it raises."""
        self._write({"stage": name})
        data = guard.attempt(name, action)
        if data:
            self._write({"data": data})
        if guard.enabled(name):
            return True
        self.problem(f"{name} raised {guard.error_of(name) or 'an error'}")
        return False

    def problem(self, sentence: str) -> None:
        """Notes why something could not be seen."""
        self._write({"problem": sentence[:300]})

    def done(self) -> None:
        """Notes that every stage has ended."""
        self._write({"done": True})

    def close(self) -> None:
        """Closes its file."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, default=str) + "\n")
