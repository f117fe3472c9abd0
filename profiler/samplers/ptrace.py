"""Whether another program (py-spy) may read the stacks of a run's processes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from trainprof.profiler.samplers.procfs import parse_integer, read_text

PROC = Path("/proc")

CAP_SYS_PTRACE = 19
"""Bit of CapEff in /proc/PID/status (linux/capability.h)."""

ANY_OF_THE_USER, DESCENDANTS, ADMINISTRATORS, NOBODY = range(4)
"""Yama's ptrace_scope (kernel documentation, admin-guide/LSM/Yama)."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What the system allows.

    Attributes:
        own_children: Processes that `trainprof run` has started may be read, by a program that it
            has started too.
        any_process: So may any other of the same user.
        must_ask: The processes have to name the reader first (prctl PR_SET_PTRACER).
        reason: Why not, as the rest of a sentence.
        remedy: What to do about it.
    """

    own_children: bool
    any_process: bool
    must_ask: bool = False
    reason: str | None = None
    remedy: str | None = None


def read_permission(proc: Path = PROC, platform: str = sys.platform) -> Permission:
    """Reads the capabilities of this process and Yama's ptrace_scope; nothing is tried."""
    if platform != "linux":
        reason = "reading another program's stacks needs root on this system"
        return Permission(False, False, reason=reason)
    scope = parse_integer(read_text(proc / "sys" / "kernel" / "yama" / "ptrace_scope"))
    capabilities = effective_capabilities(proc)
    if scope == NOBODY:
        return Permission(
            False,
            False,
            reason="the kernel forbids reading another program's stacks (ptrace_scope 3)",
            remedy="It cannot be changed before the next boot: set kernel.yama.ptrace_scope to 1.",
        )
    if scope in (None, ANY_OF_THE_USER) or (
        capabilities is not None and bool(capabilities >> CAP_SYS_PTRACE & 1)
    ):
        return Permission(True, True)
    if scope == DESCENDANTS:
        return Permission(
            True,
            False,
            must_ask=True,
            remedy="For the latter: sudo sysctl kernel.yama.ptrace_scope=0, or add CAP_SYS_PTRACE.",
        )
    return Permission(
        False,
        False,
        reason="only administrators may read another program's stacks (ptrace_scope 2)",
        remedy="Add CAP_SYS_PTRACE, or: sudo sysctl kernel.yama.ptrace_scope=1.",
    )


def effective_capabilities(proc: Path = PROC) -> int | None:
    """CapEff of this process as a bit mask, None where it cannot be read."""
    for line in (read_text(proc / "self" / "status") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            try:
                return int(value, 16)
            except ValueError:
                return None
    return None
