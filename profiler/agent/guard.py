"""Fail open, once: the only blind `except` inside the user's process.

Whatever goes wrong in a collector of ours disables that collector, leaves one `collector_failed`
event for the report, and lets the training go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

failures: list[tuple[str, int, str]] = []
"""(collector, time_ns, error) of every collector that was disabled; the agent writes them out."""

_disabled: set[str] = set()


def report(collector: str, error: BaseException) -> None:
    """Remembers that `collector` failed and is disabled from now on."""
    if collector in _disabled:
        return
    _disabled.add(collector)
    text = f"{type(error).__name__}: {error}"
    failures.append((collector, time.perf_counter_ns(), text[:300]))


def enabled(collector: str) -> bool:
    """Whether `collector` has not failed yet."""
    return collector not in _disabled


def error_of(collector: str) -> str | None:
    """Why `collector` is disabled; None where it is not, or its failure was written out."""
    return next((error for name, _, error in failures if name == collector), None)


def attempt(collector: str, action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls `action` unless its collector is disabled; an error disables it and gives None."""
    if collector in _disabled:
        return None
    try:
        return action(*args, **kwargs)
    except Exception as error:
        report(collector, error)
        return None


def reset() -> None:
    """Forgets all failures (a forked child starts afresh)."""
    failures.clear()
    _disabled.clear()
