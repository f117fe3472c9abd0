"""loader-order."""

from __future__ import annotations

from collections.abc import Mapping

from .loader_arguments import LoaderArguments


class LoaderOrder(LoaderArguments):
    """Batches come as they are ready: one that takes long does not hold up the others.

    Their order then differs from run to run, so this is never kept without being asked for. It is
    refused without workers, and by a torch whose loader has no `in_order` (before 2.6).
    """

    id = "loader-order"
    title = "Batches as they are ready"
    safety = "semantics"
    rounding = False
    parameters: Mapping[str, type] = {"in_order": bool}
