"""How the call of a `DataLoader` reads with other workers. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .source_edit import CallArguments

WITHOUT_WORKERS: Mapping[str, Any] = {
    "num_workers": 0,
    "persistent_workers": False,
    "prefetch_factor": None,
    "multiprocessing_context": None,
    "timeout": 0,
}
"""A loader's arguments when they are left out; torch refuses others where there are no workers."""
OF_TRANSFORMERS = ("num_workers", "persistent_workers", "prefetch_factor")
"""Those that `TrainingArguments` has as `dataloader_...`."""


def loader_edit(params: Mapping[str, Any]) -> CallArguments:
    """Arguments of the very call; those that need workers go when these do.

    Raises:
        ValueError: there are no parameters.
    """
    if not params:
        raise ValueError("a loader's fix needs its parameters, as in num_workers=2")
    none = params.get("num_workers") == 0
    wanted = WITHOUT_WORKERS if none else params
    defaults = WITHOUT_WORKERS if none else {**WITHOUT_WORKERS, "prefetch_factor": 2}
    names = {name: f"dataloader_{name}" for name in OF_TRANSFORMERS}
    return CallArguments(
        ("DataLoader",),
        wanted,
        defaults={**defaults, **{names[name]: defaults[name] for name in names}},
        positions={"num_workers": 5, "timeout": 9, "multiprocessing_context": 11},
        instead={
            "TrainingArguments": {names[name]: wanted[name] for name in names if name in wanted}
        },
    )
