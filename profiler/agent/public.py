"""The public API inside a training script: optional hints for exotic loops.

Without a live agent (the script runs without trainprof) every call is a harmless no-op.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["phase", "step"]


def _live() -> Any:
    module = sys.modules.get("_trainprof.profiler.agent.agent")
    return getattr(module, "live", None)


def step() -> None:
    """Marks the end of a training step; from the first call on, only these calls end steps."""
    agent = _live()
    if agent is not None:
        agent.public_step()


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Times the block as the phase `name` ("forward", "data_wait" …); unknown names: residual."""
    agent = _live()
    if agent is None:
        yield
        return
    agent.public_phase(name, opening=True)
    try:
        yield
    finally:
        agent.public_phase(name, opening=False)
