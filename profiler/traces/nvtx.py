"""NVTX ranges of an export of Nsight Systems: what they are called, and which of them are steps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from trainprof.profiler.traces.columns import LARGEST
from trainprof.profiler.traces.events import Kind, Whole

RANGE_TYPES = frozenset({59, 60, 70, 71})
"""Ranges that are pushed and popped, or started and ended; the latter two carry more."""
DOMAIN = 75
"""An event that names a domain."""
STEPS = (
    re.compile(r"ProfilerStep\s*#\s*(\d+)"),
    re.compile(r"trainprof: step (\d+)$"),
    re.compile(
        r"(?:global|train(?:ing)?)[ _-]?(?:step|batch|iter(?:ation)?)[\W_]{0,3}(\d+)\b", re.I
    ),
    re.compile(r"(?:step|iter(?:ation)?|batch)[\W_]{0,3}(\d+)\b", re.I),
    re.compile(r"(?:\[[^\]]*\])*(?:run_training_batch|training_batch)$"),
)
"""Names of ranges that are steps, the surest first: of torch.profiler, of `trainprof run --nvtx`,
as many write them by hand, and as Lightning does under emit_nvtx."""
_OPERATOR = re.compile(r"aten::\w")
_NUMBERED = re.compile(r", (?:seq|op_id|sizes|input_op_ids) = .*", re.DOTALL)


class Ranges(msgspec.Struct, frozen=True):
    """Ranges that have an end: times in ns, their thread (a globalTid), and their names."""

    start_ns: Whole
    end_ns: Whole
    thread: Whole
    names: list[str]


class NvtxRanges:
    """Gathers ranges from rows of the table, part by part.

    Args:
        texts: Of the export, by number.
    """

    def __init__(self, texts: Mapping[int, str]) -> None:
        self._texts = texts
        self._numbers: list[Whole] = []
        self._names: list[str] = []
        self._domains: dict[int, str] = {}
        self._of_domain: list[int] = []

    def add(self, rows: Sequence[Sequence[object]]) -> None:
        """Rows of start, end, globalTid, eventType, textId, domainId and text."""
        kept = []
        for start, end, thread, kind, text_id, domain, text in rows:
            name = text if isinstance(text, str) and text else self._texts.get(_int(text_id), "")
            if kind == DOMAIN:
                self._domains[_int(domain)] = name
            elif (kind in RANGE_TYPES or kind == -1) and _lasts(_int(start), _int(end)):
                kept.append((start, end, thread))
                self._names.append(_NUMBERED.sub("", name) or "a range without a name")
                self._of_domain.append(_int(domain))
        self._numbers.append(np.array(kept, np.int64).reshape(-1, 3))

    def finish(self) -> Ranges:
        """All of them; a range in a domain with a name has that in front of its own."""
        numbers = np.concatenate(self._numbers or [np.zeros((0, 3), np.int64)])
        names = [
            f"{self._domains[domain]}: {name}" if self._domains.get(domain) else name
            for name, domain in zip(self._names, self._of_domain, strict=True)
        ]
        return Ranges(numbers[:, 0], numbers[:, 1], numbers[:, 2], names)


def renamed(names: Sequence[str], thread: Whole) -> tuple[list[str], Whole]:
    """Names and kinds of ranges; steps are named as torch.profiler names them.

    Ranges of one pattern on one thread are steps: of the surest pattern that any name has, on the
    thread that has most of them.
    """
    kinds = np.full(len(names), Kind.ANNOTATION, np.int64)
    operators = {name for name in set(names) if _OPERATOR.match(name)}
    kinds[[name in operators for name in names]] = Kind.OPERATOR
    matches = _steps(set(names))
    if not matches:
        return list(names), kinds
    places = [place for place, name in enumerate(names) if name in matches]
    counted = Counter(thread[places].tolist())
    trains = max(counted, key=lambda one: counted[one])
    found = list(names)
    for count, place in enumerate(place for place in places if thread[place] == trains):
        number = matches[names[place]]
        step = f"ProfilerStep#{count if number is None else number}"
        found[place] = step if names[place].startswith("ProfilerStep") else f"{step} {names[place]}"
        kinds[place] = Kind.ANNOTATION
    return found, kinds


def _steps(names: set[str]) -> dict[str, str | None]:
    for pattern in STEPS:
        found = {name: pattern.match(name) for name in names}
        matches = {name: one for name, one in found.items() if one is not None}
        if matches:
            return {name: one[1] if one.groups() else None for name, one in matches.items()}
    return {}


def _int(value: object) -> int:
    return value if isinstance(value, int) else -1


def _lasts(start: int, end: int) -> bool:
    return -LARGEST < start < end < LARGEST
