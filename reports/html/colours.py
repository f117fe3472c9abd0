"""The colours of phases: dark text is readable on each, and no two neighbours look alike.

Never the only sign: a letter, a label or a caption always says the same.
"""

from __future__ import annotations

PHASE_COLOURS = {
    "data_wait": "#e69f00",
    "h2d": "#f0e442",
    "forward": "#56b4e9",
    "loss": "#b8e0c8",
    "backward": "#8fa8f5",
    "optimizer": "#d39be0",
    "comm_exposed": "#ff8a75",
    "sync": "#d9a98c",
    "validation": "#63c9a8",
    "checkpoint": "#b9c75f",
    "logging": "#f4b6cf",
    "gc": "#c4ad93",
    "compile": "#d1bb57",
    "residual": "#b4bac2",
}
OTHER = "#d5d9de"


def phase_colour(phase: str) -> str:
    """The fill of a phase, the same in the bar and over time."""
    return PHASE_COLOURS.get(phase, OTHER)
