"""Runs of the same script with other seeds: a number is added to every seed that the script sets.

Only a trial of `tune` asks for it, to learn how far apart runs end that differ in their random
numbers alone. Libraries that seed (Lightning, transformers, accelerate) go through these calls.
"""

from __future__ import annotations

import random
from numbers import Integral
from typing import Any

from .imports import Watch, watch
from .patching import Patches, like

SEED_LIMIT = 1 << 32
"""NumPy takes no larger seed; torch and random take any below it."""


class OtherSeeds:
    """Adds to the seeds of random, NumPy and torch, and counts the calls.

    Args:
        torch: The user's torch.
        shift: What is added; with 0 the calls are counted only.

    Attributes:
        calls: Seeds that the script has set so far.
    """

    def __init__(self, torch: Any, shift: int) -> None:
        self._torch = torch
        self._shift = shift
        self._watch: Watch | None = None
        self.calls = 0

    def install(self, patches: Patches) -> None:
        """Patches the functions that seed; NumPy's once it is imported."""
        torch = self._torch
        for owner in (torch, torch.random):
            patches.replace(owner, "manual_seed", self._seeds)
        for name in ("manual_seed", "manual_seed_all"):
            patches.replace(torch.cuda, name, self._seeds)
        patches.replace(random, "seed", self._seeds)
        self._watch = watch("numpy.random", lambda numpy: self._install_numpy(numpy, patches))

    def _install_numpy(self, numpy_random: Any, patches: Patches) -> None:
        patches.replace(numpy_random, "seed", self._seeds)

    def uninstall(self) -> None:
        """Ends the wait for NumPy; the patches are undone by whoever owns them."""
        if self._watch is not None:
            self._watch.remove()

    def _seeds(self, original: Any) -> Any:
        def seed(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if not self._shift:
                return original(*args, **kwargs)
            named = {name: self._moved(value) for name, value in kwargs.items()}
            return original(*[self._moved(value) for value in args[:1]], *args[1:], **named)

        return like(original, seed)

    def _moved(self, value: Any) -> Any:
        """Seeds that are no whole numbers (None, text) stay."""
        return (int(value) + self._shift) % SEED_LIMIT if isinstance(value, Integral) else value
