"""What trials find in their environment: a temporary folder of their own, loggers kept offline.

Sources: the manuals of Weights & Biases (WANDB_MODE), neptune (NEPTUNE_MODE), ClearML
(CLEARML_OFFLINE_MODE) and MLflow (MLFLOW_TRACKING_URI).
"""

from __future__ import annotations

import os
from pathlib import Path


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
