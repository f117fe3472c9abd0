"""The parts of an item and of a batch, by watching calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import CodeType
from typing import Any

from . import randomness
from .calls import MOST_PARTS, CallWatch
from .items import Items
from .meter import Meter

MOST_WATCHED = 48
ITEM_METHODS = ("__getitem__", "__getitems__")
STREAM_METHODS = ("__iter__", "__next__")


def measure_parts(items: Items, meter: Meter, deadline: float, item_s: float) -> dict[str, Any]:
    """What `__getitem__` (or `__iter__`) calls, scaled to the time that an item takes unwatched."""
    methods = ITEM_METHODS if items.drawn_at_random else STREAM_METHODS
    watch = CallWatch(_codes_of(items.dataset, methods), lambda: meter.opened)
    items.rewind()
    for count, index in enumerate(items.order()[:MOST_WATCHED], start=1):
        randomness.seed(1)
        watch.watch(lambda index=index: items.fetch(index))  # type: ignore[misc]
        if time.perf_counter() > deadline and count >= 2:
            break
    if not watch.total_ns:
        return {}
    scale = item_s / watch.total_ns
    parts = sorted(watch.parts.values(), key=lambda part: -part.ns)[:MOST_PARTS]
    return {
        "parts": [
            {
                "name": part.name,
                "s": min(part.ns * scale, item_s),
                "reads": part.reads,
                "where": part.where,
            }
            for part in parts
        ],
        "file_where": watch.file_where,
        "item_file_s": min(watch.file_ns * scale, item_s),
        "item_token_s": min(watch.token_ns * scale, item_s),
        **_tokens_of(watch),
    }


def measure_batch_tokens(
    collate: Callable[[Any], Any], samples: list[Any], meter: Meter, collate_s: float
) -> dict[str, Any]:
    """How much of the collate function makes numbers of text."""
    watch = CallWatch(set(), lambda: meter.opened)
    watch.watch(lambda: collate(list(samples)))
    if not watch.total_ns:
        return {}
    share = min(watch.token_ns / watch.total_ns, 1.0)
    found = _tokens_of(watch) if share else {}
    return {"collate_token_s": share * collate_s, **found}


def _tokens_of(watch: CallWatch) -> dict[str, Any]:
    if watch.token_name is None:
        return {}
    return {"token_function": watch.token_name, "token_where": watch.token_where}


def _codes_of(dataset: Any, methods: tuple[str, ...]) -> set[CodeType]:
    """These methods of the data set, and of those inside torch's own wrappers."""
    codes: set[CodeType] = set()
    waiting = [dataset]
    while waiting and len(codes) < 16:
        one = waiting.pop()
        for name in methods:
            code = getattr(getattr(type(one), name, None), "__code__", None)
            library = type(one).__module__.startswith("torch.utils.data")
            if isinstance(code, CodeType) and not library:
                codes.add(code)
        attributes = getattr(one, "__dict__", {})
        inner = [attributes.get("dataset"), *(attributes.get("datasets") or [])[:4]]
        waiting += [found for found in inner if hasattr(type(found), methods[0])]
    return codes
