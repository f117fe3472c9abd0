"""What a forked process answers through a pipe. Standard library only."""

from __future__ import annotations

import os
import select
import time


def read_answer(reading: int, patience_s: float) -> str | None:
    """All that is written until the other end closes; None where that takes longer."""
    parts: list[bytes] = []
    until_s = time.monotonic() + patience_s
    while True:
        ready, _, _ = select.select([reading], [], [], max(until_s - time.monotonic(), 0.0))
        if not ready:
            return None
        part = os.read(reading, 65_536)
        if not part:
            return b"".join(parts).decode("utf-8", "replace")
        parts.append(part)
