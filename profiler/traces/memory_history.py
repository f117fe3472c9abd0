"""What a snapshot of the allocator tells of a device: the peak, who holds it, what grows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.traces.events import MISSING, Flags, Whole
from trainprof.profiler.traces.memory_holders import HOLDERS
from trainprof.profiler.traces.memory_snapshot import ACTIONS, STATES, Snapshot

ALLOC, FREED = ACTIONS.index("alloc"), ACTIONS.index("free_completed")
GROWS = [ACTIONS.index("segment_alloc"), ACTIONS.index("segment_map")]
SHRINKS = [ACTIONS.index("segment_free"), ACTIONS.index("segment_unmap")]
OOM = ACTIONS.index("oom")
NEVER = 2**62
OTHER, BEFORE = HOLDERS.index("other"), HOLDERS.index("before the recording")
LIBRARIES = ("/site-packages/", "/dist-packages/", "/lib/python3", "<")
WARM_STEPS = 2
"""Optimizer steps in which state is made that stays."""


class Held(msgspec.Struct, frozen=True):
    """What one line holds at the peak. where: None where no stack leads to a line of the user's."""

    where: Location | None
    size: int


class MemoryHistory(msgspec.Struct, frozen=True):
    """One device; sizes in bytes.

    Attributes:
        device: Its number.
        peak: Most that was in use at a time. reserved: That the allocator held then.
        most_reserved: Most that it ever held.
        inactive_split: Free at the end, in segments that are partly in use, so that it cannot be
            given back.
        reserved_at_end: What the segments hold. in_use_at_end: Of it, blocks in use.
        holders: What is in use at the peak by `HOLDERS`; None where no stacks were recorded.
        largest: The lines that hold most at the peak.
        levels: In use at the end of each optimizer step that is marked, warm-up left out.
        grown: What was allocated between these and stays, by line, the largest first.
        allocations: In the steps after the warm-up. segment_calls: Calls of cudaMalloc and cudaFree
            in them, or of their like for expandable segments. steps: How many these are.
        retries: Times that memory went back to the device and was then asked for anew.
        emptied: Calls of empty_cache() that gave memory back.
        failures: Out of memory. broken: Of these, those that more was free for than they asked for,
            but not in one piece. device_bytes: Of the device, where a failure tells it.
        expandable: Segments are expandable; None where that is not told.
    """

    device: int
    peak: int
    reserved: int
    most_reserved: int
    inactive_split: int
    reserved_at_end: int
    in_use_at_end: int
    holders: Mapping[str, int] | None
    largest: tuple[Held, ...]
    levels: Whole
    grown: tuple[Held, ...]
    allocations: int
    segment_calls: int
    steps: int
    retries: int
    emptied: int
    failures: int
    broken: int
    device_bytes: int | None
    expandable: bool | None


def memory_history(snapshot: Snapshot) -> MemoryHistory:
    """The device that holds most memory, replayed."""
    return _Replay(snapshot).history()


class _Replay:
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        segments, blocks, entries = snapshot.segments, snapshot.blocks, snapshot.entries
        self._device = _fullest(snapshot)
        own = segments[:, 0] == self._device
        self._segments = segments[own]
        self._blocks = blocks[own[blocks[:, 0]]] if len(segments) else blocks
        self._entries = entries[entries[:, 0] == self._device]
        _, self._action, self._address, self._size, self._time, self._stack = self._entries.T
        self._used = self._blocks[self._blocks[:, 4] != STATES.index("inactive")]
        self._death = self._lifetimes()

    def history(self) -> MemoryHistory:
        used = self._levels([ALLOC], [FREED], int(self._used[:, 3].sum()))
        held = self._levels(GROWS, SHRINKS, int(self._segments[:, 1].sum()))
        peak = int(used.argmax())
        sizes, kinds, stacks = self._live_at(peak - 1)
        told = len(self._snapshot.stacks) > 0
        marks = self._marks()
        stays = self._stays(marks)
        inside = self._between(marks)
        retries, emptied = self._given_back()
        failed = np.flatnonzero(self._action == OOM)
        told_free = failed[self._address[failed] >= 0][:1]
        return MemoryHistory(
            device=self._device,
            peak=int(used[peak]),
            reserved=int(held[peak]),
            most_reserved=int(held.max()),
            inactive_split=self._inactive_split(),
            reserved_at_end=int(held[-1]),
            in_use_at_end=int(used[-1]),
            holders=_summed(kinds, sizes) if told else None,
            largest=self._by_line(stacks, sizes) if told else (),
            levels=used[marks + 1],
            grown=self._by_line(self._stack[stays], self._size[stays]),
            allocations=int((self._action[inside] == ALLOC).sum()),
            segment_calls=int(np.isin(self._action[inside], (*GROWS, *SHRINKS)).sum()),
            steps=max(len(marks) - 1, 0),
            retries=retries,
            emptied=emptied,
            failures=len(failed),
            broken=int((held[failed] - used[failed] >= self._size[failed]).sum()),
            device_bytes=int(self._address[told_free[0]] + held[told_free[0]])
            if len(told_free)
            else None,
            expandable=self._expandable(),
        )

    def _levels(self, up: list[int], down: list[int], at_end: int) -> Whole:
        """Before the first entry and after each; the history may have lost its beginning."""
        change = np.where(np.isin(self._action, up), self._size, 0)
        change -= np.where(np.isin(self._action, down), self._size, 0)
        level = np.append(0, np.cumsum(change))
        found: Whole = np.maximum(level + (at_end - level[-1]), 0)
        return found

    def _lifetimes(self) -> Whole:
        """Place of the entry that frees what each entry allocates; NEVER, or MISSING for others."""
        death = np.full(len(self._entries), MISSING, np.int64)
        chosen = np.flatnonzero(np.isin(self._action, (ALLOC, FREED)))
        order = chosen[np.lexsort((chosen, self._address[chosen]))]
        same = np.append(self._address[order][1:] == self._address[order][:-1], False)
        after = np.append(order[1:], 0)
        allocates = self._action[order] == ALLOC
        freed = same & (self._action[after] == FREED) if len(order) else same
        death[order[allocates]] = np.where(freed, after, NEVER)[allocates]
        return death

    def _live_at(self, place: int) -> tuple[Whole, Whole, Whole]:
        """Sizes, kinds and stacks of what is in use after an entry; -1 for before the first."""
        places = np.arange(len(self._entries))
        born = (self._action == ALLOC) & (places <= place) & (self._death > place)
        matched = np.zeros(len(self._entries) + 1, bool)
        matched[self._death[(self._death >= 0) & (self._death < NEVER)]] = True
        older = (self._action == FREED) & ~matched[:-1] & (places > place)
        stay = self._address[(self._action == ALLOC) & (self._death == NEVER)]
        kept = self._used[~np.isin(self._used[:, 1], stay)]
        size = np.concatenate([self._size[born], self._size[older], kept[:, 3]])
        stack = np.concatenate([self._stack[born], np.full(older.sum(), MISSING), kept[:, 5]])
        kind = self._kind(stack)
        in_history = np.arange(len(stack)) < born.sum()
        unknown = stack == MISSING
        # the threads of autograd's engine have no Python stack
        kind[unknown] = np.where(in_history[unknown], HOLDERS.index("gradients"), BEFORE)
        return size, kind, stack

    def _kind(self, stacks: Whole) -> Whole:
        each, places = np.unique(stacks, return_inverse=True)
        frames = self._snapshot.stacks
        kinds = [BEFORE if one == MISSING else _holder(frames[one]) for one in each.tolist()]
        return np.array(kinds, np.int64)[places]

    def _marks(self) -> Whole:
        """Places of the last entries of the optimizer steps that are marked, without the first."""
        steps = self._snapshot.steps
        own = steps[(steps[:, 0] == self._device) & (steps[:, 1] > 0), 1]
        if not len(self._time) or (self._time < 0).any() or (np.diff(self._time) < 0).any():
            return np.zeros(0, np.int64)
        places = np.searchsorted(self._time, own, "right") - 1
        found: Whole = np.unique(places[places >= 0])[WARM_STEPS:]
        return found

    def _between(self, marks: Whole) -> slice:
        return slice(int(marks[0]) + 1, int(marks[-1]) + 1) if len(marks) > 1 else slice(0, 0)

    def _stays(self, marks: Whole) -> Flags:
        inside = np.zeros(len(self._entries), bool)
        inside[self._between(marks)] = True
        last = int(marks[-1]) if len(marks) else 0
        found: Flags = inside & (self._action == ALLOC) & (self._death > last)
        return found

    def _given_back(self) -> tuple[int, int]:
        """How often freeing segments came before asking for one at once; and by empty_cache()."""
        calls = np.flatnonzero(np.isin(self._action, (*GROWS, *SHRINKS, ALLOC)))
        back = np.isin(self._action[calls], SHRINKS)
        last = back & np.append(~back[1:], True)
        emptied = np.zeros(len(calls), bool)
        for one in np.flatnonzero(last).tolist():
            stack = int(self._stack[calls[one]])
            emptied[one] = stack != MISSING and _empties(self._snapshot.stacks[stack])
        next_grows = np.append(np.isin(self._action[calls], GROWS)[1:], False)
        return int((last & next_grows & ~emptied).sum()), int(emptied.sum())

    def _inactive_split(self) -> int:
        own = self._blocks
        partly = np.isin(own[:, 0], np.unique(self._used[:, 0]))
        free = own[:, 4] == STATES.index("inactive")
        return int(own[partly & free, 2].sum())

    def _expandable(self) -> bool | None:
        said = self._snapshot.settings.get("expandable_segments")
        if isinstance(said, bool):
            return said
        return bool(self._segments[:, 2].any()) or None

    def _by_line(self, stacks: Whole, sizes: Whole) -> tuple[Held, ...]:
        """Sizes by the line of the user's that allocated, the largest first."""
        each, places = np.unique(stacks, return_inverse=True)
        summed = np.zeros(len(each), np.int64)
        np.add.at(summed, places, sizes)
        sums: Counter[Location | None] = Counter()
        for stack, size in zip(each.tolist(), summed.tolist(), strict=True):
            sums[None if stack == MISSING else _user_line(self._snapshot.stacks[stack])] += size
        return tuple(Held(where, size) for where, size in sums.most_common(MOST_LINES))


MOST_LINES = 8
"""That are kept; a report names few of them."""


def _fullest(snapshot: Snapshot) -> int:
    segments = snapshot.segments
    if not len(segments):
        return int(snapshot.entries[0, 0])
    devices = np.unique(segments[:, 0])
    held = [int(segments[segments[:, 0] == one, 1].sum()) for one in devices]
    return int(devices[int(np.argmax(held))])


def _summed(kinds: Whole, sizes: Whole) -> dict[str, int]:
    return {name: int(sizes[kinds == place].sum()) for place, name in enumerate(HOLDERS)}


def _holder(frames: list[Any]) -> int:
    """What an allocation is for, by what called it."""
    places = [(_word(one, "filename"), _word(one, "name")) for one in frames]
    if any("/optim/" in file or "/optimizers/" in file for file, _ in places):
        return HOLDERS.index("optimizer")
    if any("autograd::Engine" in name or "autograd::python::PythonEngine" in name
           or file.endswith("torch/autograd/graph.py") for file, name in places):  # fmt: skip
        return HOLDERS.index("gradients")
    module = [name for file, name in places if file.endswith("torch/nn/modules/module.py")]
    if "_call_impl" in module or any(name == "forward" for _, name in places):
        return HOLDERS.index("activations")
    if any(name in ("_apply", "to", "cuda", "load_state_dict") for name in module):
        return HOLDERS.index("parameters")
    if any(
        file.endswith("torch/nn/init.py") or name == "reset_parameters" for file, name in places
    ):
        return HOLDERS.index("parameters")
    return OTHER


def _empties(frames: list[Any]) -> bool:
    return any(_word(one, "name") in ("empty_cache", "emptyCache") for one in frames)


def _user_line(frames: list[Any]) -> Location | None:
    """The innermost line that is no library's; that of a library where there is no other."""
    found = None
    for one in frames:
        file, line = _word(one, "filename"), one.get("line") if isinstance(one, dict) else None
        if not file.endswith(".py") or type(line) is not int or not 0 < line < NEVER:
            continue
        place = Location(file, line, _word(one, "name") or None)
        if not any(part in file for part in LIBRARIES):
            return place
        found = found or place
    return found


def _word(frame: Any, key: str) -> str:
    found = frame.get(key) if isinstance(frame, dict) else None
    return found if isinstance(found, str) else ""
