"""Asks the GPUs' driver in a thread of its own: a driver that hangs holds up nothing else."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.records import GpuSample
from trainprof.profiler.samplers.gpu import GpuSampler
from trainprof.profiler.samplers.notes import SAMPLER_ERRORS

ANSWER_S = 2.0
"""How long a look waits for the driver; the first call to one that nobody keeps loaded takes a
second or more."""

Answer = tuple[tuple[GpuSample, ...], float] | Exception
"""Samples and the CPU seconds that they took; or what ended the sampler."""


class GpuThread:
    """A `GpuSampler` behind a thread. While it does not answer, looks go on without GPUs.

    Args:
        open_sampler: Makes the sampler, in the thread.
        answer_s: How long a look may wait for it.

    Attributes:
        cost_s: CPU seconds of the last look.
    """

    def __init__(
        self, open_sampler: Callable[[], GpuSampler] = GpuSampler, answer_s: float = ANSWER_S
    ) -> None:
        self._open_sampler = open_sampler
        self._answer_s = answer_s
        self._sampler: GpuSampler | None = None
        self._questions: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._asked_s: float | None = None
        self._hung = False
        self.cost_s = 0.0
        threading.Thread(target=self._run, name="trainprof-gpus", daemon=True).start()

    def sample(self, slow_figures: bool = True) -> tuple[GpuSample, ...]:
        """One look; without GPUs while the driver does not answer. A late answer is dropped.

        Raises:
            Exception: one of SAMPLER_ERRORS, where that has ended the sampler.
        """
        if self._asked_s is None:
            self._asked_s = time.monotonic()
            self._questions.put(slow_figures)
            return self._answer(self._answer_s)
        if self._answers.empty():
            return ()
        self._answer(0.0)
        return self.sample(slow_figures)

    def statuses(self) -> tuple[CollectorStatus, ...]:
        """That of the sampler, or that the driver hangs."""
        if self._asked_s is not None and self._hung and self._answers.empty():
            waited_s = time.monotonic() - self._asked_s
            reason = f"the NVIDIA driver has not answered for {waited_s:.0f} s"
            return (CollectorStatus("gpu", "failed", reason),)
        if self._sampler is None:
            return (CollectorStatus("gpu", "missing", "the run ended before the first look"),)
        return self._sampler.statuses()

    def _answer(self, wait_s: float) -> tuple[GpuSample, ...]:
        try:
            answer = self._answers.get(timeout=wait_s)
        except queue.Empty:
            self._hung = True
            return ()
        self._asked_s, self._hung = None, False
        if isinstance(answer, Exception):
            raise answer
        samples, self.cost_s = answer
        return samples

    def _run(self) -> None:
        try:
            self._sampler = self._open_sampler()
            while True:
                slow_figures = self._questions.get()
                started_s = time.thread_time()
                samples = self._sampler.sample(slow_figures)
                self._answers.put((samples, time.thread_time() - started_s))
        except SAMPLER_ERRORS as error:
            self._answers.put(error)
