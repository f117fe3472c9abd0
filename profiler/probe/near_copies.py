"""Items that nearly equal another, from the sketches that the scratch process made of them.

Texts and rows of tokens by MinHash (rensa), images by a difference hash (dhash). Both libraries
belong to the extra `near-duplicates`; they run here, in trainprof's own process.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trainprof.profiler.model.facts import DatasetFact

LEAST_ITEMS = 50
PERMUTATIONS = 128
"""The similarity of two texts is known to 0.035 (one standard error at 0.8)."""
LEAST_SIMILARITY = 0.8
"""Of the sets of three successive words (Jaccard); Lee et al. 2022 take texts from 0.8 on for near
copies of one another."""
MOST_BITS = 4
"""Of the 128 of two images' hashes that may differ (a starting value: dhash's author counts 64 bits
and takes up to 2)."""
MOST_GREY_DIFFERENCE = 6.0
"""Of 255, on average: flat images have like hashes by chance."""

Pairs = list[tuple[int, int]]


class _Sketch(msgspec.Struct):
    code: str
    runs: list[int] | None = None
    grey: list[int] | None = None


def compare_sketches(path: Path) -> DatasetFact:
    """The keys `near*` of the fact "dataset"; none where there are too few sketches."""
    every = _read(path)
    sketches = {one.code: one for one in every}  # copies that are equal count as one
    texts = [one.runs for one in sketches.values() if one.runs is not None]
    images = [one.grey for one in sketches.values() if one.grey is not None]
    if len(every) < LEAST_ITEMS:
        return {}
    kind, name = ("text", "rensa") if len(texts) >= len(images) else ("image", "dhash")
    try:
        library = import_module(name)
    except ImportError:
        return {
            "near_reason": f"near copies of {kind}s are told by {name}, which is not installed: "
            "pip install 'trainprof[near-duplicates]'"
        }
    pairs = _like_texts(library, texts) if kind == "text" else _like_images(library, images)
    contents = len(texts if kind == "text" else images)
    return {
        "near": kind,
        "near_items": len(every),
        "near_contents": contents,
        "near_pairs": len(pairs),
        "near_groups": _groups(contents, pairs),
    }


def _read(path: Path) -> list[_Sketch]:
    """A torn last line, of a process that was ended, is left out."""
    sketches: list[_Sketch] = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            sketches.append(msgspec.json.decode(line, type=_Sketch))
        except msgspec.MsgspecError:
            break
    return sketches


def _like_texts(rensa: Any, texts: Sequence[Sequence[int]]) -> Pairs:
    sets = [[str(run) for run in runs] for runs in texts]
    hashes = np.array(
        [one.digest() for one in rensa.RMinHash.from_token_sets(sets, PERMUTATIONS, 1)],
        dtype=np.uint32,
    )
    pairs = []
    for place, row in enumerate(hashes):
        equal = np.count_nonzero(hashes[place + 1 :] == row, axis=1)
        alike = equal >= LEAST_SIMILARITY * PERMUTATIONS
        pairs += [(place, place + 1 + int(other)) for other in np.flatnonzero(alike)]
    return pairs


def _like_images(dhash: Any, images: Sequence[Sequence[int]]) -> Pairs:
    hashes = [dhash.dhash_int(list(grey)) for grey in images]
    values = np.array(images, dtype=np.float64)
    return [
        (place, other)
        for place, one in enumerate(hashes)
        for other in range(place + 1, len(hashes))
        if (one ^ hashes[other]).bit_count() <= MOST_BITS
        and float(np.abs(values[place] - values[other]).mean()) <= MOST_GREY_DIFFERENCE
    ]


def _groups(count: int, pairs: Pairs) -> int:
    """How many groups `count` things form when those of a pair are in one group."""
    leader = list(range(count))

    def first(place: int) -> int:
        while leader[place] != place:
            leader[place] = place = leader[leader[place]]
        return place

    for one, other in pairs:
        leader[first(other)] = first(one)
    return sum(1 for place in range(count) if leader[place] == place)
