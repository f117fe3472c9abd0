"""Groups the processes of a run into trainings: ranks that train together, and their workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainprof.profiler.model.run import ProcessRecord, Session


@dataclass(frozen=True)
class _Life:
    """A process and when it lived, in seconds of a clock that all processes of the run share."""

    process: ProcessRecord
    start_s: float
    end_s: float

    def overlaps(self, other: _Life) -> bool:
        return self.start_s <= other.end_s and other.start_s <= self.end_s


def build_sessions(
    processes: Iterable[ProcessRecord],
) -> tuple[tuple[Session, ...], tuple[ProcessRecord, ...]]:
    """The trainings in order of their start, and the processes that belong to none.

    Trainers share a session when the same launcher started them (`launch_key`, or else the same
    parent), they lived at the same time and no two claim one rank. So an elastic restart, or the
    next training of a shell script, is a session of its own.
    """
    lives = _lives(list(processes))
    groups: list[list[_Life]] = []
    for life in lives:
        if life.process.info.role == "trainer":
            _group_of(life, groups).append(life)
    owners = _Owners(lives, groups)
    workers: list[list[ProcessRecord]] = [[] for _ in groups]
    others: list[ProcessRecord] = []
    for life in lives:
        role = life.process.info.role
        owner = owners.group_of(life) if role == "worker" else None
        if owner is not None:
            workers[owner].append(life.process)
        elif role != "trainer":
            others.append(life.process)
    sessions = (
        Session(trainers=_by_rank(group), workers=tuple(of_group))
        for group, of_group in zip(groups, workers, strict=True)
    )
    return tuple(sessions), tuple(others)


def _lives(processes: Sequence[ProcessRecord]) -> list[_Life]:
    """Lives in order of their start.

    The monotonic clock serves as long as one machine is concerned; across machines it is placed in
    time by the pair of clock readings that each process took.
    """
    several_hosts = len({process.info.host for process in processes}) > 1
    lives = []
    for process in processes:
        clock = process.info.clock
        offset_ns = 0.0
        if several_hosts and "unix_s" in clock and "perf_ns" in clock:
            offset_ns = clock["unix_s"] * 1e9 - clock["perf_ns"]
        start_s = (process.info.started_ns + offset_ns) / 1e9
        lives.append(_Life(process, start_s, (_end_ns(process) + offset_ns) / 1e9))
    return sorted(lives, key=lambda life: life.start_s)


def _end_ns(process: ProcessRecord) -> int:
    """When the process ended, or was last seen."""
    if process.info.ended_ns is not None:
        return process.info.ended_ns
    seen_ns = [process.info.started_ns]
    if len(process.steps):
        columns = process.steps.columns
        seen_ns.append(columns["start_ns"][-1] + columns["wall_ns"][-1])
    seen_ns += [event.start_ns + event.duration_ns for event in process.events[-1:]]
    seen_ns += [fact.at_ns for fact in process.facts[-1:]]
    return max(seen_ns)


def _group_of(life: _Life, groups: list[list[_Life]]) -> list[_Life]:
    """The group that the trainer joins; a new one, already in `groups`, where it joins none."""
    candidates = [group for group in groups if _joins(life, group)]
    if not candidates:
        groups.append([])
        return groups[-1]
    parent = life.process.info.parent_pid
    # Two launches with the same key (torchrun's default) differ by the launcher's process.
    same_parent = [g for g in candidates if g[0].process.info.parent_pid == parent]
    return (same_parent or candidates)[0]


def _joins(life: _Life, group: list[_Life]) -> bool:
    mine, first = life.process.info, group[0].process.info
    if mine.rank is None or mine.world_size == 1 or mine.world_size != first.world_size:
        return False
    if mine.launch_key != first.launch_key or mine.restart_count != first.restart_count:
        return False
    if mine.launch_key is None and (mine.host, mine.parent_pid) != (first.host, first.parent_pid):
        return False
    ranks = {member.process.info.rank for member in group}
    if mine.rank in ranks or None in ranks:
        return False
    return all(life.overlaps(member) for member in group)


def _by_rank(group: list[_Life]) -> tuple[ProcessRecord, ...]:
    processes = [life.process for life in group]
    return tuple(sorted(processes, key=lambda process: process.info.rank or 0))


class _Owners:
    """Finds the training that a worker belongs to."""

    def __init__(self, lives: Sequence[_Life], groups: Sequence[Sequence[_Life]]) -> None:
        self._by_pid: dict[tuple[str, int], list[_Life]] = {}
        for life in lives:
            info = life.process.info
            self._by_pid.setdefault((info.host, info.pid), []).append(life)
        self._groups = {id(member): index for index, group in enumerate(groups) for member in group}
        self._generations = len(lives)

    def group_of(self, worker: _Life) -> int | None:
        """Index of the group whose trainer started the worker, itself or through a fork server."""
        child = worker
        for _ in range(self._generations):  # a damaged file may hold a circle of parents
            info = child.process.info
            same_pid = self._by_pid.get((info.host, info.parent_pid), ())
            parents = [life for life in same_pid if life.start_s <= child.start_s]
            if not parents:
                return None
            child = parents[-1]  # a process id may have been used before: the latest one
            if id(child) in self._groups:
                return self._groups[id(child)]
        return None
