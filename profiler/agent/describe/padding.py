"""How much of a batch is padding: by its mask, or by the run of one value in which rows end.

Only tensors in host memory are looked at, and nothing is waited for. Measured on 64 rows of 256
places: 30 us with a mask, 100 us without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from ...model.facts import PaddingFact

MOST_BATCHES, LEAST_BATCHES, TRIES = 64, 8, 3
LEAST_LENGTH = 4
"""Shorter rows are no sequences."""
MOST_PLACES = 1 << 18
"""Of a tensor; a larger one would take more than a millisecond."""
MOST_PADDING_INSIDE = 0.1
"""Part of the real places that may hold the value of the padding."""
MASKS = ("attention_mask", "mask", "padding_mask", "src_key_padding_mask", "key_padding_mask")
_WIDEST, _DEEPEST = 16, 2  # of the containers in a batch

PaddedRows = tuple[list[int], int]
"""The real lengths of a batch's rows, and the length to which they are padded."""


class LivePadding:
    """The padding of batches that the training was given.

    Args:
        torch: The user's torch.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._batches: list[PaddedRows] = []
        self._masked = 0
        self._left = MOST_BATCHES

    def look(self, batch: Any) -> None:
        """Notes one batch, in the training thread; the first 64 only, or three without tokens."""
        if self._left <= 0 or self._torch.autograd._profiler_enabled():
            return
        self._left -= 1
        mask, tokens = _mask_and_tokens(self._torch, batch)
        rows = None
        if mask is not None:
            rows = by_mask(*mask)
        elif tokens is not None:
            lengths = by_equal_ends(tokens)
            rows = None if lengths is None else (lengths, int(tokens.shape[1]))
        if rows is not None:
            self._batches.append(rows)
            self._masked += mask is not None
        elif self._left == MOST_BATCHES - TRIES and not self._batches:
            self._left = 0

    def fact(self) -> PaddingFact | None:
        """The figures so far, None of too few batches.

        None as well where all rows look full, and no mask says that they are.
        """
        batches = [*self._batches]
        masked = self._masked >= len(batches)
        if len(batches) < LEAST_BATCHES or (are_full(batches) and not masked):
            return None
        figures = padding_figures(batches)
        figures["padding_by_mask"] = masked
        return figures


def _mask_and_tokens(torch: Any, batch: Any) -> tuple[tuple[str, Any] | None, Any]:
    """The mask with its name, and the first table of integers, each None where there is none."""
    tokens = None
    for name, tensor in _tensors(torch, batch):
        if name in MASKS and (not tensor.is_floating_point() or bool((tensor >= 0).all())):
            return (name, tensor), tokens
        if tokens is None and not tensor.is_floating_point() and tensor.dtype != torch.bool:
            tokens = tensor
    return None, tokens


def _tensors(torch: Any, batch: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Tables of rows in host memory, with the key or attribute under which they lie."""
    if type(batch) is torch.Tensor:
        table = batch.dim() == 2 and batch.layout is torch.strided and batch.device.type == "cpu"
        if table and batch.shape[1] >= LEAST_LENGTH and 0 < batch.numel() <= MOST_PLACES:
            yield name, batch
    elif depth < _DEEPEST and isinstance(batch, Mapping):
        for key, value in islice(batch.items(), _WIDEST):
            yield from _tensors(torch, value, str(key), depth + 1)
    elif depth < _DEEPEST and isinstance(batch, (tuple, list)):
        for value in batch[:_WIDEST]:
            yield from _tensors(torch, value, name, depth + 1)


def by_mask(name: str, mask: Any) -> PaddedRows:
    """Rows' lengths by a mask that is not 0 at real places (of torch's layers: at padding)."""
    longest = int(mask.shape[1])
    marked = [int(count) for count in (mask != 0).sum(1).tolist()]
    if name.endswith("key_padding_mask"):
        marked = [longest - count for count in marked]
    return marked, longest


def by_equal_ends(tensor: Any) -> list[int] | None:
    """Rows' lengths without the run of one value that most rows end in.

    None where that value is frequent before the run, too: then it is data (a one-hot row).
    """
    last = tensor[:, -1]
    value, times = last.unique(return_counts=True)
    common = value[times.argmax()]
    longest = tensor.shape[1]
    ends = (tensor != common).flip(1).int()
    has_other = ends.any(1)
    run = ends.argmax(1)
    # One equal value may be the text's own last token.
    lengths = [
        longest - (int(length) if other and length > 1 else 0)
        for length, other in zip(run.tolist(), has_other.tolist(), strict=True)
    ]
    padding = len(tensor) * longest - sum(lengths)
    inside = int((tensor == common).sum()) - padding
    return lengths if inside <= MOST_PADDING_INSIDE * sum(lengths) else None


def are_full(batches: list[PaddedRows]) -> bool:
    """Whether all rows are of one length, that to which they are padded."""
    longest = batches[0][1]
    return all(length == longest for rows, _ in batches for length in rows)


def padding_figures(batches: list[PaddedRows]) -> PaddingFact:
    """The padding of several batches, at least one."""
    lengths = sorted(length for rows, _ in batches for length in rows)
    real = sum(lengths)
    places = sum(len(rows) * longest for rows, longest in batches)
    size = max(len(rows) for rows, _ in batches)
    groups = [lengths[place : place + size] for place in range(0, len(lengths), size)]
    return {
        "padding_batches": len(batches),
        "padding_share": 1.0 - real / places,
        "padding_share_to_longest": 1.0 - real / sum(len(r) * max(*r, 1) for r, _ in batches),
        "padding_share_grouped": 1.0 - real / sum(len(g) * max(g[-1], 1) for g in groups),
        "length_median": lengths[len(lengths) // 2],
        "length_p90": lengths[len(lengths) * 9 // 10],
        "length_max": lengths[-1],
        "padded_length": max(longest for _, longest in batches),
        "padded_length_varies": len({longest for _, longest in batches}) > 1,
    }
