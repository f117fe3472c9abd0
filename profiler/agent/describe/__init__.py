"""What the agent learns of the user's objects: payloads of Facts, without running user code.

Nothing here raises on an unusual object knowingly, keeps a reference to one, touches a device or
asks an object for its `repr`. What cannot be read is left out of the payload.
"""

from __future__ import annotations

from .batch import batch_samples, describe_batch
from .distributed import describe_distributed
from .flags import FlagWatch, read_flags
from .loader import describe_loader
from .memory import read_peak_memory
from .model import describe_model
from .optimizer import describe_optimizer

__all__ = [
    "FlagWatch",
    "batch_samples",
    "describe_batch",
    "describe_distributed",
    "describe_loader",
    "describe_model",
    "describe_optimizer",
    "read_flags",
    "read_peak_memory",
]
