"""The agent: arms the hooks when torch is imported, and takes the marks away while it trains.

Arming patches only. The thread and the files open at the first training event, so that a process
that imports torch and never trains (a launcher, a spawn worker) costs nothing more.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from typing import Any

from ..model.records import Event, Fact, MemoryPoint
from ..store.writer import ProcessWriter
from . import guard, tracebacks
from .dataset_copy import DatasetCopy
from .describe.memory import resident_bytes
from .facts import FactCollector
from .hooks_training import TrainingHooks
from .hooks_worker import WorkerHooks
from .kineto import import_annotations
from .mark_drain import MarkDrain
from .observers import Observers
from .operator_window import OperatorWindow
from .patching import Patches
from .plan_fixes import PlanFixes
from .process_identity import ProcessIdentity
from .recorder import Recorder
from .segment import Segmenter
from .stacks import InsideSampler
from .trace_requests import TraceRequests
from .trace_size import Load
from .trace_window import TraceWindow
from .trial_records import TrialRecords

live: Agent | None = None
"""The agent of this process, for `trainprof.step()` and `trainprof.phase()`."""

TICK_S = 0.1
"""Between two looks at the marks until the training is described."""
CALM_TICK_S = 0.25
"""The same later: waking up, and writing each file, costs as much as a dozen steps."""
MEMORY_EACH_TICK_SECONDS = 30
"""So long after the training began memory is read at each tick, then once a second: growth shows in
a run of a few seconds too."""


class StopTraining(SystemExit):
    """Raised into the training loop once `--steps` have been done; exit status 0."""


class Agent:
    """Everything of trainprof inside one Python process.

    Args:
        torch: The user's torch, just imported.
        run: The run folder. folder: This process's folder in it.
        started_ns: When the process booted.
    """

    def __init__(self, torch: Any, run: str, folder: str, started_ns: int) -> None:
        self._torch = torch
        self._run = run
        self._identity = ProcessIdentity(torch, run, folder, started_ns)
        self._limit = int(os.environ.get("TRAINPROF_STEPS") or 0)
        self._patches = Patches()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.recorder = Recorder()
        self._nvtx = _nvtx_ranges(torch, self.recorder)
        limit = self._check_limit if self._limit else None
        self.hooks = TrainingHooks(torch, self.recorder, self._activate, limit)
        self._begin_recording()
        self._workers = WorkerHooks(torch, self._open_as_worker)
        self._observers = Observers(torch, self.recorder)
        self._fixes = PlanFixes(torch, os.environ.get("TRAINPROF_PLAN"))
        self._trial = TrialRecords(torch, os.environ.get("TRAINPROF_TRIAL"))
        self._facts = FactCollector(torch, self.hooks, self.recorder)
        self._dataset = DatasetCopy(torch, lambda: self._identity.folder)
        asked = os.environ.get("TRAINPROF_TRACE") or "auto"
        self._operators = OperatorWindow(torch, self.hooks, self.recorder, enabled=asked != "off")
        window = TraceWindow(torch, self.recorder, self._count_steps, lambda: self._operators.idle)
        self.hooks.on_boundary = window.look
        self._traces = TraceRequests(torch, self.hooks, run, window, asked)

    def _begin_recording(self) -> None:
        self._segmenter = Segmenter()
        self._mark_drain = MarkDrain(self.recorder, self._segmenter, self.hooks.loaders)
        self._stacks = InsideSampler(self._run)
        self._writer: ProcessWriter | None = None
        self._seconds = 0  # rounds of what is done once a second
        self._next_second_ns = 0
        self._thread_cpu_ns = 0

    # Beginning.

    def arm(self) -> None:
        """Installs every hook; from here on the training is seen."""
        global live
        guard.attempt("plan", self._fixes.install, self._patches)
        guard.attempt("trial", self._trial.install, self._patches)
        if self._nvtx is not None:
            guard.attempt("nvtx", self._nvtx.install)
        self.hooks.install(self._patches)
        guard.attempt("workers", self._workers.install, self._patches)
        guard.attempt("observers", self._observers.install, self._patches)
        guard.attempt("tracebacks", tracebacks.install, self._patches)
        guard.attempt("operators", import_annotations)
        self._patches.replace(os, "_exit", self._os_exit)
        atexit.register(self.close, "exit")
        os.register_at_fork(
            before=self._before_fork,
            after_in_parent=self._after_fork_in_parent,
            after_in_child=self._after_fork_in_child,
        )
        self._write_info()
        live = self

    def disarm(self) -> None:
        """Leaves torch as it was."""
        global live
        self.close("exit")
        self.hooks.uninstall()
        if self._nvtx is not None:
            self._nvtx.uninstall()
        self._facts.uninstall()
        self._observers.uninstall()
        self._fixes.uninstall()
        self._trial.uninstall()
        self._patches.undo()
        live = None

    def _activate(self) -> None:
        """The first backward or update: this process trains."""
        guard.attempt("start weights", self._facts.before_training)
        guard.attempt("agent", self._become_trainer)

    def _become_trainer(self) -> None:
        self._identity.role = "trainer"
        self.recorder.started = True
        self.recorder.flags_due = True
        self.hooks.modules.hold()
        self.hooks.optimizers.hold()
        self._open_folder()
        guard.attempt("traces", self._traces.begin, self._identity.trainer())
        self._start_thread()

    def _open_as_worker(self) -> ProcessWriter:
        self._identity.role = "worker"
        return self._open_folder()

    def _open_folder(self) -> ProcessWriter:
        self._identity.make_folder()
        if self._writer is None:
            self._writer = ProcessWriter(self._identity.folder, self._identity.started_ns)
        guard.attempt("stacks", self._stacks.open, self._identity.folder, self.recorder.thread)
        self._write_info()
        from multiprocessing import util

        # Children of multiprocessing skip atexit.
        util.Finalize(None, self.close, args=("exit",), exitpriority=10)
        return self._writer

    def _write_info(self) -> None:
        self._identity.write(self._segmenter.seen, self._stacks.thread)

    def _start_thread(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._work, name="trainprof", daemon=True)
        self._thread.start()

    # Working.

    def _work(self) -> None:
        while not self._stop.wait(CALM_TICK_S if self._facts.complete else TICK_S):
            guard.attempt("agent thread", self._tick)
        self._thread_cpu_ns += time.thread_time_ns()

    def _tick(self) -> None:
        guard.attempt("stacks", self._stacks.tick, self.recorder.thread)
        self._drain()
        writer = self._writer
        if writer is None:
            return
        now_ns = time.perf_counter_ns()
        second = now_ns >= self._next_second_ns
        if second or not self._facts.complete:
            guard.attempt("facts", self._facts.write, writer, self._segmenter, self._seconds)
        if second:
            self._next_second_ns = now_ns + 1_000_000_000
            self._seconds += 1
            self._once_a_second(writer)
        if second or self._seconds < MEMORY_EACH_TICK_SECONDS:
            self._read_memory(writer)
        guard.attempt("traces", self._look_for_requests, writer)
        guard.attempt(
            "operators",
            self._operators.tick,
            writer,
            self._segmenter.count,
            may_open=not self._traces.busy,
        )
        self._facts.tick()
        writer.flush()

    def _drain(self) -> None:
        """Moves the marks into steps, and the steps into the writer's buffers."""
        self._mark_drain.drain(self._writer)

    def _once_a_second(self, writer: ProcessWriter) -> None:
        for event in [*self._observers.take_events(), *self.hooks.graphs.take_events()]:
            writer.event(event)
        for at_ns, value in self.hooks.device_losses.take():
            writer.loss(self._segmenter.step_at(at_ns), value)
        guard.attempt("data set", self._copy_dataset, writer)
        for fact in guard.attempt("plan", self._fixes.facts) or ():
            writer.fact(fact)
        self._write_failures(writer)

    def _read_memory(self, writer: ProcessWriter) -> None:
        rss_bytes = resident_bytes()
        if rss_bytes is not None:
            writer.memory(MemoryPoint(self._segmenter.count, time.perf_counter_ns(), rss_bytes))

    def _copy_dataset(self, writer: ProcessWriter) -> None:
        """For the probe; never on the training thread, which calls us too (fork, end)."""
        if threading.current_thread() is self._thread and self._identity.is_first_rank:
            copied = self._dataset.attempt(
                self.hooks.loaders, self._segmenter.training_loaders, self._segmenter.count
            )
            if copied is not None:
                writer.fact(Fact("copy", copied[0], time.perf_counter_ns(), dict(copied[1])))

    def _count_steps(self) -> int:
        self._drain()
        return self._segmenter.count

    def _look_for_requests(self, writer: ProcessWriter) -> None:
        steps, seen = self._mark_drain.progress()
        load = Load(self._operators.events_per_step, seen["backwards"] // max(steps, 1) or 1)
        self._traces.tick(writer, self._identity.trainer(), steps, load)

    def _write_failures(self, writer: ProcessWriter) -> None:
        for collector, at_ns, error in guard.failures[:]:
            writer.event(
                Event("collector_failed", at_ns, 0, {"collector": collector, "error": error})
            )
            guard.failures.remove((collector, at_ns, error))

    # Stopping after --steps.

    def _check_limit(self) -> None:
        self._drain()
        if self._segmenter.count >= self._limit and not self.recorder.closed:
            self.close("stopped")
            guard.attempt("agent end", self._leave_stop_mark)
            raise StopTraining(0)

    def _leave_stop_mark(self) -> None:
        """Tells the supervisor, which ends what does not end by itself."""
        with open(os.path.join(self._identity.folder, "stopped"), "w"):
            pass

    # The public API.

    def public_step(self) -> None:
        """A step ends here, says the script."""
        from . import marks as m

        if self.recorder.active():
            if not self.recorder.started:  # a training without a backward that we could see
                self.hooks.start()
            self.recorder.mark(m.STEP)
            if self.recorder.watched:
                self.hooks.note_boundary(m.STEP)
            if self._limit:
                self._check_limit()

    def public_phase(self, name: str, *, opening: bool) -> None:
        """A phase named by the script begins or ends."""
        from ..model.phases import PHASE_INDEX
        from . import marks as m

        if self.recorder.active():
            kind = m.PHASE if opening else m.PHASE_END
            self.recorder.mark(kind, PHASE_INDEX.get(name, -1))

    # Ending.

    def close(self, how: str) -> None:
        """Writes all that is left; hooks that outlive this do nothing. Never raises."""
        if self.recorder.closed or os.getpid() != self._identity.pid:
            return
        if self._nvtx is not None:
            guard.attempt("nvtx", self._nvtx.close)
        self.recorder.close()
        self._identity.ended = how
        guard.attempt("plan", self._fixes.end)
        guard.attempt("operators", self._operators.uninstall)
        guard.attempt("traces end", self._traces.end)
        guard.attempt("agent end", self._finish)

    def _finish(self) -> None:
        self._join_thread()
        guard.attempt("stacks", self._stacks.close)
        for action in (self._drain, self._close_last_step, self._write_last_facts):
            guard.attempt(f"agent end: {action.__name__}", action)
        writer = self._writer
        if writer is not None:
            self._write_failures(writer)
            writer.flush()
            writer.close()
        self._write_info()

    def _close_last_step(self) -> None:
        self._mark_drain.finish(self._writer)

    def _write_last_facts(self) -> None:
        if self._writer is not None and self._identity.role == "trainer":
            guard.attempt("facts", self._facts.write, self._writer, self._segmenter, self._seconds)
            guard.attempt("operators", self._operators.finish, self._writer)
            guard.attempt("traces", self._traces.finish, self._writer)
            self._once_a_second(self._writer)
            for fact in guard.attempt("trial", self._trial.facts) or ():
                self._writer.fact(fact)
            self._read_memory(self._writer)
            marks = self._mark_drain.marks_seen
            self._facts.write_cost(self._writer, self._segmenter.count, marks, self._thread_cpu_ns)

    def _os_exit(self, original: Any) -> Any:
        def _exit(status: int) -> None:
            self.close("os._exit")
            original(status)

        return _exit

    def _join_thread(self) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            self._stop.set()
            thread.join()
            self._thread = None

    # Forking: Python 3.12 warns about a fork while threads run, so ours is away meanwhile.

    def _before_fork(self) -> None:
        self._forking = self._thread is not None and os.getpid() == self._identity.pid
        if self._forking:
            guard.attempt("operators", self._operators.abandon)
            guard.attempt("traces", self._traces.abandon)
            self._join_thread()
            guard.attempt("agent thread", self._tick)

    def _after_fork_in_parent(self) -> None:
        if self._forking:
            self._start_thread()

    def _after_fork_in_child(self) -> None:
        self._thread = None
        self._stop = threading.Event()
        self._identity.after_fork()
        guard.reset()
        self.recorder.begin()
        self._begin_recording()
        self.recorder.follow_thread()
        self.hooks.after_fork()
        self._workers.reset()
        self._facts.after_fork()
        self._dataset.after_fork()
        self._fixes.after_fork()
        self._trial.after_fork()
        self._operators.after_fork()
        if self._nvtx is not None:
            self._nvtx.after_fork()
        self._traces.after_fork()
        self._observers.after_fork()


def _nvtx_ranges(torch: Any, recorder: Recorder) -> Any:
    """None without `run --nvtx`: nothing of it is loaded then."""
    if os.environ.get("TRAINPROF_NVTX") != "1":
        return None
    from .nvtx_ranges import NvtxRanges

    return NvtxRanges(recorder, torch)
