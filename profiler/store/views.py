"""Records of a long series, made when they are asked for: the columns stay the only copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from trainprof.profiler.model.records import MicroBatch

T = TypeVar("T")


class RecordView(Sequence[T], Generic[T]):
    """A sequence of records over columns of equal length.

    Args:
        make: Makes a record of one value per column.
    """

    def __init__(self, make: Callable[..., T], *columns: Sequence[Any]) -> None:
        self._make = make
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[T]:
        return map(self._make, *self._columns)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> RecordView[T]: ...
    def __getitem__(self, index: int | slice) -> T | RecordView[T]:
        parts = [column[index] for column in self._columns]
        return RecordView(self._make, *parts) if isinstance(index, slice) else self._make(*parts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(lambda a, b: a == b, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} records>"


class MicroBatches(Mapping[int, tuple[MicroBatch, ...]]):
    """Step index -> its micro-batches, over the columns of micro.jsonl.

    Args:
        steps: Step index of each micro-batch.
        records: The micro-batches, in the same order.
    """

    def __init__(self, steps: Sequence[int], records: RecordView[MicroBatch]) -> None:
        import numpy as np

        indices = np.asarray(steps, dtype=np.int64)
        self._order = np.argsort(indices, kind="stable")
        self._indices = indices[self._order]
        self._records = records

    def __getitem__(self, step: int) -> tuple[MicroBatch, ...]:
        first, last = self._indices.searchsorted([step, step + 1])
        if first == last:
            raise KeyError(step)
        return tuple(self._records[int(position)] for position in self._order[first:last])

    def __iter__(self) -> Iterator[int]:
        import numpy as np

        return iter(np.unique(self._indices).tolist())

    def __len__(self) -> int:
        import numpy as np

        return len(np.unique(self._indices))
