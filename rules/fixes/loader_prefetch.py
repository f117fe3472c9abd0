"""loader-prefetch."""

from __future__ import annotations

from collections.abc import Mapping

from .loader_arguments import LoaderArguments


class LoaderPrefetch(LoaderArguments):
    """How many batches each worker of a loader makes ahead.

    Batches, their order and their random numbers stay the same. It is refused without workers, and
    where the batches do not fit into shared memory.
    """

    id = "loader-prefetch"
    title = "Batches made ahead"
    safety = "safe"
    parameters: Mapping[str, type] = {"prefetch_factor": int}
    searched = ("prefetch_factor",)
