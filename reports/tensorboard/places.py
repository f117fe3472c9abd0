"""Which folder of a run's shows which of its training processes."""

from __future__ import annotations

from pathlib import PurePath

from trainprof.profiler.model.records import ProcessInfo

MOST_RANKS = 16
"""Ranks with curves, the lowest; each is a run of its own for TensorBoard, which hundreds slow
down. The mean step of every rank is in one curve over the ranks."""


class Places:
    """Gives each process its folder, in the order in which they are asked for.

    The first training is in the folder of the run itself, the others in `training-2` and so on; of
    several ranks each is in a folder below.

    Attributes:
        by_process: Folder of each process of a run folder, by its name; None: it has no curves.
    """

    def __init__(self) -> None:
        self.by_process: dict[str, str | None] = {}
        self._trainings: list[tuple[object, set[int | None]]] = []

    def place(self, process: str, info: ProcessInfo) -> str | None:
        """The folder of one process; `process` is its own folder in that of the run."""
        name = PurePath(process).name
        if name not in self.by_process:
            self.by_process[name] = self._new(info)
        return self.by_process[name]

    def _new(self, info: ProcessInfo) -> str | None:
        several = is_one_of_several(info)
        if several and (info.rank or 0) >= MOST_RANKS:
            return None
        rank = f"rank-{info.rank}" if several else ""
        return part(self._training_of(info, several), rank)

    def _training_of(self, info: ProcessInfo, several: bool) -> int:
        """The number of the training that a process belongs to, from 1 on."""
        launch = (info.world_size, info.restart_count, info.launch_key or info.parent_pid)
        for number, (key, ranks) in enumerate(self._trainings, 1):
            if several and key == launch and info.rank not in ranks:
                ranks.add(info.rank)
                return number
        self._trainings.append((launch if several else None, {info.rank}))
        return len(self._trainings)


def is_one_of_several(info: ProcessInfo) -> bool:
    """Whether this rank trains with others."""
    return info.rank is not None and (info.world_size or 1) > 1


def part(training: int, rank: str = "") -> str:
    """The folder of a training and rank within that of the run."""
    first = "" if training == 1 else f"training-{training}"
    return "/".join(one for one in (first, rank) if one)
