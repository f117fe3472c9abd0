"""Numbers of texts as tensors of one process, ready to be put together. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .dataset_state import PLAIN, length_of
from .memory import room_for_rows

ROW_BYTES = 500
"""Of the objects around a text's tensors."""

Key = tuple[Any, ...]
Row = dict[str, Any]
"""A tensor of whole numbers by name."""


class ReadyRows:
    """What a tokenizer made of single texts.

    Args:
        torch: The user's torch.
        most_bytes: So many may be held; None for an eighth of the free memory, 128 MB at most.
    """

    def __init__(self, torch: Any, most_bytes: int | None = None) -> None:
        self._torch = torch
        self._left = room_for_rows() if most_bytes is None else most_bytes
        self._texts: dict[Key, dict[str, Row]] = {}

    @staticmethod
    def key(tokenizer: Any, arguments: Mapping[str, Any]) -> Key | None:
        """Tells apart what decides about a text's numbers; None where that cannot be told."""
        if not all(type(value) in PLAIN for value in arguments.values()):
            return None
        named = sorted((name, type(value), value) for name, value in arguments.items())
        return (id(tokenizer), length_of(tokenizer), *named)

    def find(self, key: Key, texts: Sequence[str]) -> list[Row] | None:
        """The rows of all texts; None where one is missing."""
        known = self._texts.get(key)
        rows = [known.get(text) for text in texts] if known else [None]
        return None if None in rows else rows  # type: ignore[return-value]

    def keep(self, key: Key, texts: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Remembers rows that are lists of whole numbers, while there is room."""
        known = self._texts.setdefault(key, {})
        for text, row in zip(texts, rows, strict=True):
            size = ROW_BYTES + sum(8 * len(numbers) for numbers in row.values())
            if text in known or size > self._left:
                continue
            self._left -= size
            known[text] = {
                name: self._torch.tensor(numbers, dtype=self._torch.int64)
                for name, numbers in row.items()
            }

    def together(self, rows: Sequence[Row], fills: Mapping[str, int], length: int) -> Row:
        """Batches of rows, each filled up at its end.

        Args:
            rows: Of the texts.
            fills: Names, each with what its rows are filled up with.
            length: Of the batch's rows; at least that of the longest.
        """
        pad = self._torch.nn.functional.pad
        pad_sequence = self._torch.nn.utils.rnn.pad_sequence
        batch = {}
        for name, fill in fills.items():
            made = pad_sequence([row[name] for row in rows], batch_first=True, padding_value=fill)
            missing = length - made.shape[1]
            batch[name] = pad(made, (0, missing), value=fill) if missing else made
        return batch
