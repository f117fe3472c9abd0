"""The random numbers that a process would draw next. Standard library only."""

from __future__ import annotations

import random
import sys
from typing import Any


def random_state(torch: Any) -> tuple[Any, ...]:
    """States of the global generators: torch's on the CPU, Python's, NumPy's; 20 us.

    Two are equal if nothing was drawn in between.
    """
    numpy = sys.modules.get("numpy.random")
    own: Any = numpy.get_state() if numpy is not None else ()
    words = tuple(part.tobytes() if hasattr(part, "tobytes") else part for part in own)
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), words


class RandomNumbersKept:
    """Puts the generators back as they were when the block began.

    Args:
        torch: The user's torch.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch

    def __enter__(self) -> None:
        numpy = sys.modules.get("numpy.random")
        self._numpy = numpy.get_state() if numpy is not None else None
        self._own = self._torch.get_rng_state()
        self._python = random.getstate()

    def __exit__(self, *error: object) -> None:
        self._torch.set_rng_state(self._own)
        random.setstate(self._python)
        if self._numpy is not None:
            sys.modules["numpy.random"].set_state(self._numpy)
