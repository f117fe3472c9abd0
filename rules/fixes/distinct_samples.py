"""A view of a data set with some of its samples. Standard library only."""

from __future__ import annotations

from typing import Any


def distinct_class(torch: Any) -> Any:
    """A `Subset` that passes on what it is asked for beside samples."""

    class Distinct(torch.utils.data.Subset):  # type: ignore[misc, name-defined, unused-ignore]
        """Of some samples."""

        def __getattr__(self, name: str) -> Any:
            return getattr(self.__dict__["dataset"], name)

    return Distinct
