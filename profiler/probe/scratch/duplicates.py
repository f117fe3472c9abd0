"""Items that are the same as another: exact, by hash; estimated where not all can be made."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import Any

from . import randomness
from .contents import digest
from .items import Items

LEAST_HASHED = 50


def measure_duplicates(items: Items, deadline: float) -> dict[str, Any] | None:
    """Hashes items in random order until the time is up; the same seed before each."""
    order = list(range(items.length)) if items.length <= 1_000_000 else None
    chooser = random.Random(1)
    if order is None:
        order = chooser.sample(range(items.length), 100_000)
    else:
        chooser.shuffle(order)
    seen: Counter[bytes] = Counter()
    count = 0
    for index in order:
        randomness.seed(1)
        code = digest(items.fetch(index))
        if code is None:
            return None
        seen[code] += 1
        count += 1
        if time.perf_counter() > deadline:
            break
    if count < LEAST_HASHED:
        return None
    return {
        "hashed_items": count,
        "hashed_all": count == items.length,
        "distinct_items": len(seen),
        "equal_pairs": sum(times * (times - 1) // 2 for times in seen.values()),
    }
