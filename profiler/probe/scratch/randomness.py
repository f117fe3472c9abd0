"""The random generators of Python, numpy and torch: seeded alike, and watched for draws."""

from __future__ import annotations

import random
import sys
from typing import Any


def seed(number: int) -> None:
    """Puts all three into a known state."""
    random.seed(number)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(number)
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.random.default_generator.manual_seed(number)


def state() -> tuple[Any, ...]:
    """Comparable: differs after any draw."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    return (
        random.getstate(),
        None if numpy is None else _of_numpy(numpy),
        None if torch is None else torch.random.default_generator.get_state().numpy().tobytes(),
    )


def _of_numpy(numpy: Any) -> tuple[Any, ...]:
    name, keys, *rest = numpy.random.get_state()
    return (name, keys.tobytes(), *rest)
