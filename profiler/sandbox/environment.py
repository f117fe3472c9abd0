"""What trials find in their environment: a temporary folder of their own, loggers kept offline.

Sources: the manuals of Weights & Biases (WANDB_MODE), neptune (NEPTUNE_MODE), ClearML
(CLEARML_OFFLINE_MODE) and MLflow (MLFLOW_TRACKING_URI).
"""

from __future__ import annotations

import os
from pathlib import Path

from trainprof.profiler.sandbox.mounts import is_within

CACHES = ("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "TORCH_HOME", "TRITON_CACHE_DIR")
"""Variables that name such folders."""


def cache_folders() -> tuple[str, ...]:
    """Where libraries keep what they have downloaded, prepared or compiled; never the project."""
    home = os.path.expanduser("~")
    named = [os.environ.get(name, "") for name in CACHES]
    usual = [os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache", f"{home}/.triton"]
    paths = sorted({os.path.realpath(path) for path in [*usual, *named] if os.path.isabs(path)})
    inner = [path for path in paths if any(path != one and is_within(path, one) for one in paths)]
    return tuple(path for path in paths if path not in inner and not is_within(os.getcwd(), path))


def trial_environment(temporary: Path) -> dict[str, str]:
    """Variables that differ from ours.

    Args:
        temporary: For TMPDIR.
    """
    changes = {
        "TMPDIR": str(temporary),
        "WANDB_MODE": "offline",
        "NEPTUNE_MODE": "offline",
        "CLEARML_OFFLINE_MODE": "1",
    }
    if "MLFLOW_TRACKING_URI" in os.environ:
        changes["MLFLOW_TRACKING_URI"] = f"file:{temporary}/mlruns"
    return changes
