"""Who this process is: its part in the run, its rank, and where its files go."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from ..model.records import ProcessInfo
from ..store.writer import write_process_info
from . import boot
from .trace_requests import Trainer

Rank = tuple[int | None, int | None]
"""Rank and world size; None where there is no group of ranks."""


class ProcessIdentity:
    """What `proc.json` says of this process; a forked child becomes another one.

    Args:
        torch: The user's torch.
        run: The run folder. folder: This process's folder in it.
        started_ns: When the process booted.

    Attributes:
        pid: Of the process that this describes.
        role, started_ns, ended: As in `ProcessInfo`.
        folder: "" in a forked child, until it trains or makes batches.
    """

    def __init__(self, torch: Any, run: str, folder: str, started_ns: int) -> None:
        self._torch = torch
        self._run = run
        self.folder = folder
        self.started_ns = started_ns
        self._become_new()

    def _become_new(self) -> None:
        self.pid = os.getpid()
        self.role = "other"
        self.ended: str | None = None
        self._rank: Rank = (None, None)

    def after_fork(self) -> None:
        """The child has no folder yet, and no rank of its parent's."""
        self._become_new()
        self.folder = ""

    def make_folder(self) -> None:
        """Of a forked child: boot never ran in it."""
        if self.folder == "":
            self.started_ns = time.perf_counter_ns()
            self.folder = boot.process_folder(self._run, self.started_ns)
            os.makedirs(self.folder, exist_ok=True)

    @property
    def is_first_rank(self) -> bool:
        """Also where it is the only one."""
        return self._rank[0] in (None, 0)

    def trainer(self) -> Trainer:
        """As whom it takes part in traces."""
        rank, size = self._rank
        folder = os.path.basename(self.folder)
        if (size or 1) < 2:
            return Trainer(folder, folder, None, None)
        restarts = _integer("TORCHELASTIC_RESTART_COUNT") or 0
        return Trainer(folder, f"{_launch_key(size)}#{restarts}", rank, size)

    def write(self, seen: dict[str, int], thread: int | None) -> None:
        """Writes `proc.json` where there is a folder; see `ProcessInfo` for the arguments."""
        if self.folder:
            write_process_info(self.folder, self._info(seen, thread))

    def _info(self, seen: dict[str, int], thread: int | None) -> ProcessInfo:
        rank = self._rank = self._read_rank()
        return ProcessInfo(
            pid=self.pid,
            parent_pid=os.getppid(),
            host=os.uname().nodename,
            role=self.role,
            argv=tuple(boot.command(sys.orig_argv)),
            started_ns=self.started_ns,
            ended_ns=time.perf_counter_ns() if self.ended else None,
            ended=self.ended,
            rank=rank[0],
            local_rank=_integer("LOCAL_RANK"),
            world_size=rank[1],
            restart_count=_integer("TORCHELASTIC_RESTART_COUNT"),
            launch_key=_launch_key(rank[1]),
            python=".".join(map(str, sys.version_info[:3])),
            executable=sys.executable,
            torch=str(self._torch.__version__),
            clock={"unix_s": time.time(), "perf_ns": float(time.perf_counter_ns())},
            seen=dict(seen),
            thread=thread,
        )

    def _read_rank(self) -> Rank:
        """Once known it stays, as the script may end the group before us."""
        distributed: Any = getattr(self._torch, "distributed", None)
        available = distributed is not None and distributed.is_available()
        if available and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        if self._rank[0] is not None:
            return self._rank
        return _integer("RANK"), _integer("WORLD_SIZE")


def _integer(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    return int(text) if text.isdigit() else None


def _launch_key(world_size: int | None) -> str | None:
    """What ranks of one training share, and two trainings do not."""
    environ = os.environ
    run_id = environ.get("TORCHELASTIC_RUN_ID")
    port = environ.get("MASTER_PORT")
    if run_id or port:
        return f"{run_id or ''}@{environ.get('MASTER_ADDR', '')}:{port or ''}"
    return f"parent-{os.getppid()}" if world_size and world_size > 1 else None
