"""Whether torch.compile has been at work in this process."""

from __future__ import annotations

import sys


def has_compiled() -> bool:
    """Whether dynamo has compiled a frame.

    Its code guards on `Module.__call__`, on hooks and on a profile function: a change of these
    would make it compile everything again. And its backward gives all gradients at once.
    """
    utilities = sys.modules.get("torch._dynamo.utils")
    return bool(getattr(utilities, "counters", {}).get("frames"))
