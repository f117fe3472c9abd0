"""batch-larger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .loader_arguments import LoaderArguments
from .memory import memory_is_short
from .source_edit import CallArguments


class BatchLarger(LoaderArguments):
    """Another size of the batches of one loader.

    Another trajectory: the same samples make fewer updates, and the learning rate may have to be
    adapted. So it has to be asked for, and is judged by the time per sample; among the sizes that
    are tried the fastest is taken, not the largest.

    It is refused for a loader whose batches are made by a sampler of the script's own or that makes
    none, for more samples than the data set has, and where memory is short.
    """

    id = "batch-larger"
    title = "Larger batches"
    safety = "semantics"
    rounding = False
    parameters: Mapping[str, type] = {"batch_size": int}
    searched = ("batch_size",)
    verifies = None

    def _why_not(self, named: dict[str, Any], changed: dict[str, Any]) -> str | None:
        wanted = self.params.get("batch_size", 0)
        if wanted < 1:
            return "a batch holds one sample at least"
        if named.get("batch_sampler") is not None:
            return "its batches are made by a sampler of the script's own"
        if named.get("batch_size", 1) is None:
            return "the loader makes no batches"
        count = getattr(named.get("dataset"), "__len__", None)
        if count is not None and count() < wanted:
            return f"the data set has {count()} samples only"
        if memory_is_short(self._process.torch):
            return "memory is short"
        return self._checks.why_not(named, changed)

    def edit(self) -> CallArguments:
        """The argument of the very call.

        Raises:
            ValueError: the size is missing.
        """
        if "batch_size" not in self.params:
            raise ValueError(f"{self.id} needs batch_size=N")
        size = self.params["batch_size"]
        return CallArguments(
            ("DataLoader",),
            {"batch_size": size},
            defaults={"batch_size": 1},
            positions={"batch_size": 1},
            instead={"TrainingArguments": {"per_device_train_batch_size": size}},
        )
