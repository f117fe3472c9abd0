"""Which commit of the user's repository a run was made from."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

LONGEST_S = 2.0
"""Of either question; in a repository of millions of files the second takes longer: dropped."""


def read_commit(folder: Path | str) -> str | None:
    """The commit of `folder`, " with changes" where tracked files differ from it.

    None where it is in no repository, or git is absent or too slow. Nothing is written there, and
    no program is started that the repository names.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None or commit.returncode != 0:
        return None
    name = commit.stdout.decode("ascii", "replace").strip()
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if status is None or status.returncode != 0:
        return f"{name}, changes unknown"
    return f"{name} with changes" if status.stdout.strip() else name


def _git(folder: Path | str, *arguments: str) -> subprocess.CompletedProcess[bytes] | None:
    command = ["git", "-C", str(folder), "-c", "core.fsmonitor=false", *arguments]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
