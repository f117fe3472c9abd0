"""What trainprof's own process needs of an item to know near copies of it: no more than that.

The libraries that compare are trainprof's and not the training's, so they do not run here. An image
leaves as 9 x 9 grey values, a text or a row of tokens as hashes of its runs of three.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from typing import Any

from .contents import is_array, is_image, is_numbers, is_tensor, leaves
from .text import WIDE_INTEGERS

MOST_SKETCHES = 1_000
SIDE = 9
"""A difference hash of 8 x 8 bits compares the neighbours of 9 x 9 values."""
LEAST_SIDE = 16
LEAST_CONTRAST = 0.02
"""Of the range that the type of the values has; flatter images look alike."""
RUN = 3
MOST_TOKENS = 512
LEAST_RUNS = 16
_WORD = re.compile(r"\w+")
_CHANNELS = (1, 3, 4)

Sketch = dict[str, Any]


def sketch(torch: Any, item: Any) -> Sketch | None:
    """Of the first image, text or row of tokens in an item; None where there is none."""
    for _, leaf in leaves(item):
        made = _of_text(leaf) or _of_image(torch, leaf)
        if made is not None:
            return made
    return None


def line(made: Sketch, code: bytes) -> str:
    """A sketch and the digest of its item's contents, as one line of JSON."""
    return json.dumps({**made, "code": code.hex()}) + "\n"


def _of_text(leaf: Any) -> Sketch | None:
    if isinstance(leaf, str):
        tokens: Sequence[Any] = [word.lower() for word in _WORD.findall(leaf[: 16 * MOST_TOKENS])]
    elif (is_tensor(leaf) or is_array(leaf)) and leaf.ndim == 1:
        if str(leaf.dtype).removeprefix("torch.") not in WIDE_INTEGERS:
            return None
        tokens = leaf[:MOST_TOKENS].tolist()
    elif is_numbers(leaf) and all(type(number) is int for number in leaf[:MOST_TOKENS]):
        tokens = leaf
    else:
        return None
    tokens = tokens[:MOST_TOKENS]
    runs = {
        zlib.crc32(repr(tokens[place : place + RUN]).encode())
        for place in range(len(tokens) - RUN + 1)
    }
    return {"runs": sorted(runs)} if len(runs) >= LEAST_RUNS else None


def _of_image(torch: Any, leaf: Any) -> Sketch | None:
    if is_image(leaf):
        image = leaf.convert("L")
        raw = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        table = raw.reshape(image.height, image.width)
    elif is_tensor(leaf) and leaf.layout is torch.strided:
        table = _grey(leaf.detach())
    elif is_array(leaf) and not leaf.dtype.hasobject and leaf.dtype.kind in "uif":
        table = _grey(torch.tensor(leaf.copy()))
    else:
        return None
    if table is None or min(table.shape) < LEAST_SIDE:
        return None
    small = torch.nn.functional.adaptive_avg_pool2d(table[None, None].float(), SIDE).flatten()
    low, high = float(small.min()), float(small.max())
    full = 255.0 if table.dtype == torch.uint8 else 1.0
    if not high - low > LEAST_CONTRAST * full:
        return None
    return {"grey": ((small - low) * (255.0 / (high - low))).round().int().tolist()}


def _grey(image: Any) -> Any:
    """The mean over an image's channels; None for what is no image."""
    if image.ndim == 2 and str(image.dtype) == "torch.uint8":
        return image
    if image.ndim != 3:
        return None
    axis = 0 if image.shape[0] in _CHANNELS else 2 if image.shape[2] in _CHANNELS else None
    if axis is None:
        return None
    grey = image.float().mean(axis)
    return grey.round().byte() if str(image.dtype) == "torch.uint8" else grey
