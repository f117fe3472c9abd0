"""What a collector could do: of its own, as runs and diagnoses both say it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CollectorStatus:
    """What one collector could do here: status ok | partial | missing | failed."""

    name: str
    status: str
    reason: str | None = None
