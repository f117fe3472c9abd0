"""What holds a device's memory, in words."""

from __future__ import annotations

from collections.abc import Mapping

from trainprof.rules.reading import percent, size

LEAST_TOLD = 0.05
"""Of the peak; less is not named in the sentence."""
WORDS = {
    "other": "by other code",
    "before the recording": "from before the recording",
    "optimizer": "optimizer state and its temporaries",
}


def held_at_peak(peak: float, reserved: float, holders: Mapping[str, int]) -> str:
    """What is in use at the peak, and by whom.

    Args:
        peak: Bytes in use.
        reserved: Bytes that the allocator held then.
        holders: Bytes of the peak by what they are for; empty where that is not known.
    """
    text = f"{size(peak)} are in use, of {size(reserved)} reserved"
    for name, held in sorted(holders.items(), key=lambda one: -one[1]):
        if held >= LEAST_TOLD * peak > 0:
            text += f", {percent(held / peak)} {WORDS.get(name, name)}"
    return text
