"""The planted cost of live_tunes_training.py; it stands in a project as planted.py."""

import time


def spin(milliseconds):
    """Keeps the processor busy for so long."""
    until = time.perf_counter() + milliseconds / 1e3
    while time.perf_counter() < until:
        pass
