"""The fixes of live_tunes.py, as another package brings them: placebos, and a real one.

Each placebo changes something that can be read back and costs and gains nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from trainprof.rules.fixes.fix import Fix, Process, ReadBack


class PlaceboFlag(Fix):
    """A flag on torch that nobody reads."""

    id = "placebo-flag"
    title = "Placebo: a flag"
    safety = "safe"

    def install(self, process: Process) -> None:
        """Sets it."""
        self._torch = process.torch
        process.torch.flag_of_a_placebo = True

    def read_back(self) -> ReadBack:
        """The flag."""
        return ReadBack(getattr(self._torch, "flag_of_a_placebo", False))


class PlaceboHook(Fix):
    """A function after each update that counts."""

    id = "placebo-hook"
    title = "Placebo: a hook"
    safety = "safe"

    def install(self, process: Process) -> None:
        """Registers it."""
        self._calls = 0
        process.after_update(self._count)

    def _count(self) -> None:
        self._calls += 1

    def read_back(self) -> ReadBack:
        """Whether it was called."""
        return ReadBack(self._calls > 0 or None, {"calls": min(self._calls, 1)})


class PlaceboWrapper(Fix):
    """The loss function, called through one more function."""

    id = "placebo-wrapper"
    title = "Placebo: a wrapper"
    safety = "safe"

    def install(self, process: Process) -> None:
        """Wraps it."""
        self._functional = process.torch.nn.functional
        process.patches.replace(self._functional, "cross_entropy", self._wrapped)

    def _wrapped(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def cross_entropy(*args: Any, **kwargs: Any) -> Any:
            return original(*args, **kwargs)

        self._wrapper = cross_entropy
        return cross_entropy

    def read_back(self) -> ReadBack:
        """Whether it is there."""
        return ReadBack(self._functional.cross_entropy is self._wrapper)


class PlaceboIdle(Fix):
    """Does nothing, and says so: it must never count."""

    id = "placebo-idle"
    title = "Placebo: not in force"
    safety = "safe"

    def install(self, process: Process) -> None:
        """Does nothing."""

    def read_back(self) -> ReadBack:
        """Not active."""
        return ReadBack(False, reason="it changes nothing")


class PlantedSpin(Fix):
    """Takes the planted cost out of the step: 1.3 times faster."""

    id = "planted-spin"
    title = "The planted cost is gone"
    safety = "safe"

    def install(self, process: Process) -> None:
        """Replaces the function that spins; the script has imported it before torch."""
        self._left_out = 0
        process.patches.replace(sys.modules["planted"], "spin", self._quick)

    def _quick(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def spin(milliseconds: float) -> None:
            self._left_out += 1

        return spin

    def read_back(self) -> ReadBack:
        """Whether calls were left out."""
        return ReadBack(self._left_out > 0 or None, {"left_out": min(self._left_out, 1)})
