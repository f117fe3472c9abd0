"""malloc-default."""

from __future__ import annotations

from .environment import EnvironmentFix


class MallocDefault(EnvironmentFix):
    """Python's own allocator instead of the debugging one: PYTHONMALLOC is removed."""

    id = "malloc-default"
    title = "Python's allocator without debugging"
    safety = "safe"
    by_hand = "unset PYTHONMALLOC"
    variable = "PYTHONMALLOC"
