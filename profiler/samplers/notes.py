"""What a collector could not do, source by source, until somebody asks for its status."""

from __future__ import annotations

from trainprof.profiler.model.collector_status import CollectorStatus

SAMPLER_ERRORS = (ImportError, LookupError, OSError, RuntimeError, ValueError)
"""What a machine may do to psutil and pynvml that no collector has foreseen."""


class CollectorNotes:
    """Gathers, for one collector, what it delivered and what it lacked.

    Args:
        name: The collector, as reports print it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lacks: dict[str, str] = {}
        self._remarks: dict[str, str] = {}
        self._failure: str | None = None
        self._delivered = False

    def deliver(self) -> None:
        """Notes that at least one value was measured."""
        self._delivered = True

    def lack(self, source: str, sentence: str) -> None:
        """Notes, once per source, why values that should be there are missing."""
        self._lacks.setdefault(source, sentence)

    def remark(self, source: str, sentence: str) -> None:
        """Notes, once per source, what does not exist here and is no loss."""
        self._remarks.setdefault(source, sentence)

    def fail(self, sentence: str) -> None:
        """Notes that the collector worked no more from some moment on; the first reason stays."""
        if self._failure is None:
            self._failure = sentence

    def status(self) -> CollectorStatus:
        """failed, missing (nothing was measured), partial (something lacked) or ok."""
        if self._failure is not None:
            return CollectorStatus(self._name, "failed", self._failure)
        reason = "; ".join((*self._lacks.values(), *self._remarks.values())) or None
        if self._delivered:
            return CollectorStatus(self._name, "partial" if self._lacks else "ok", reason)
        return CollectorStatus(self._name, "missing", reason or "no look was taken")
