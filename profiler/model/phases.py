"""The phases of a training step, in the order every report shows them."""

from __future__ import annotations

PHASES = (
    "data_wait",
    "h2d",
    "forward",
    "loss",
    "backward",
    "optimizer",
    "comm_exposed",
    "sync",
    "validation",
    "checkpoint",
    "logging",
    "gc",
    "compile",
    "residual",
)
"""Mutually exclusive and exhaustive: the phases of a step sum to its wall time."""

PHASE_INDEX = {name: index for index, name in enumerate(PHASES)}

PHASES_OF_COLLECTOR = {
    "hooks_gc": ("gc",),
    "hooks_logging": ("logging",),
    "hooks_saving": ("checkpoint",),
    "hooks_compile": ("compile",),
    "communication": ("comm_exposed",),
    "device": ("h2d", "sync"),
    "loaders": ("data_wait",),
    "modules": ("forward", "loss"),
}
"""What is not measured once the agent has disabled a collector of this name."""
