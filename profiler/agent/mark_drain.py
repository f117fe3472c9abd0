"""The way of the marks: from the training thread into steps, and into the writer's buffers."""

from __future__ import annotations

import threading

from ..model.records import Event, QueueDepth
from ..store.writer import ProcessWriter
from .evaluations import RecentMarks
from .recorder import Recorder
from .registry import LoaderRegistry
from .segment import Segmenter

RAW_STEPS = 200
"""The raw marks of this many first steps are kept (marks.jsonl)."""


class MarkDrain:
    """Empties the recorder, mostly on the agent's thread.

    The training thread calls as well: before a fork, at the end, and at each step with `--steps`.

    Args:
        recorder: Holds the marks that have arrived.
        segmenter: Cuts them into steps.
        loaders: Know their workers.

    Attributes:
        marks_seen: Marks taken so far.
    """

    def __init__(self, recorder: Recorder, segmenter: Segmenter, loaders: LoaderRegistry) -> None:
        self._recorder = recorder
        self._segmenter = segmenter
        self._loaders = loaders
        self._recent = RecentMarks()
        self._lock = threading.Lock()
        self.marks_seen = 0

    def drain(self, writer: ProcessWriter | None) -> None:
        """Takes the marks that have arrived; without a writer the steps wait for one."""
        with self._lock:
            marks = self._recorder.marks
            take = marks.popleft
            arrived = [take() for _ in range(len(marks))]
            if not arrived:
                return
            self.marks_seen += len(arrived)
            if writer is not None and self._segmenter.count < RAW_STEPS:
                writer.marks(mark[:4] for mark in arrived)
            self._segmenter.feed(arrived)
            self._recent.keep(arrived)
            self._write_steps(writer)

    def finish(self, writer: ProcessWriter | None) -> None:
        """The training is over: closes the last step."""
        with self._lock:
            self._segmenter.finish()
            self._write_steps(writer)

    def progress(self) -> tuple[int, dict[str, int]]:
        """Steps, and `Segmenter.seen`, of the same instant."""
        with self._lock:
            return self._segmenter.count, self._segmenter.seen

    def _write_steps(self, writer: ProcessWriter | None) -> None:
        measure = self._segmenter.measure
        if writer is None:
            return
        for record in self._segmenter.take():
            writer.step(record)
        for step, value in measure.losses:
            writer.loss(step, value)
        for step, loader, wait_ns, ready in measure.queue:
            writer.queue(QueueDepth(step, f"l{loader}", wait_ns, ready))
        for start_ns, duration_ns in measure.validations:
            how = self._recent.evaluation(start_ns, duration_ns)
            writer.event(Event("validation", start_ns, duration_ns, how))
        for loader, start_ns, duration_ns in self._segmenter.loader_starts:
            data = {"loader": f"l{loader}", "workers": self._loaders.workers(loader)}
            writer.event(Event("loader_start", start_ns, duration_ns, data))
        self._segmenter.loader_starts.clear()
        measure.losses.clear()
        measure.queue.clear()
        measure.validations.clear()
