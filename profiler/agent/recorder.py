"""The recorder: where the hooks of the training thread leave their marks."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns, thread_time_ns
from typing import Any

Mark = tuple[Any, ...]


READ_EVERY_NS = 10_000_000
"""CPU and run-queue time of the training thread are read at most this often (3 us a reading); later
on the loss, too."""
DETAIL_EVERY_NS = 100_000_000
"""Steps that carry them on every mark are at least this far apart, and about one in 16: such a
step costs 60 us more, which a loop of 1 ms steps must not pay every 16 ms."""
MOST_DETAILED_ASKS = 64
"""A validation inside a sampled step is not followed mark by mark to its end."""
MOST_MARKS_BEFORE_TRAINING = 20_000
UPDATES_WITHOUT_ASK = 4
"""So many updates without an ask: the loop has no loader, and its updates are its boundaries."""
BACKWARDS_WITHOUT_UPDATE = 8
"""More backwards without an optimizer step: parameters may be updated by hand, although there is an
optimizer."""
_NO_THREAD = 0  # no thread has this ident


def _is_sampled(step: int) -> bool:
    """One step in 16, at changing positions: workers deliver in bursts of a fixed length."""
    return step % 16 == (step // 16 * 5) % 16


def _never_compiling() -> bool:
    return False


class Recorder:
    """Marks of one training thread.

    The thread that trains appends; the agent's thread takes them away. Nothing here blocks, and
    `deque.append` and `deque.popleft` are atomic.

    Hooks that run at each step have two ways. The quick one is a comparison and an append; it is
    open while `quick` is the ident of the thread, which is most of the time. Whatever else there is
    to do (thread states, flags, the first batch of a loader, updates without an optimizer) closes
    it, and the thorough way of the next boundary opens it again.

    Attributes:
        marks: Appended by the training thread, drained by the agent.
        append: Of `marks`, bound once.
        thread: Ident of the thread whose marks count; all others pass straight through.
        quick: The same while there is nothing to do but append, else 0.
        due_ns: From then on a boundary takes the thorough way.
        started: True once the process trains and the agent takes the marks away.
        inferring: Updates are looked for in the parameters: there is no optimizer, or it rests.
        update_pending: A backward has ended since the last update: a parameter may change.
        flags_due: The agent asks for the flags; they are read in the next forward.
        batch_due: An iterator was made whose first batch is to be described.
        loss_due: The loss is read in the backwards until the next ask.
        detailed: Whether marks carry CPU and run-queue time just now (one step in 16).
        updates: Updates so far (optimizer steps).
        backwards: Backwards since the last update.
        inside: A root module runs on the training thread.
        called: A root module was called since the last backward; a backward without one has a root
            that is not known yet.
        last_gradient_ns: When DDP's last gradient was produced, 0 between two backwards.
        asked: Updates left until the loop counts as one without loader.
        step_over: An update happened since the last boundary.
        watched: Somebody waits for the next step to begin: every hook takes the thorough way.
        compiling: `torch.compiler.is_dynamo_compiling`; hooks stay invisible while it is true.
    """

    __slots__ = (
        "_boundaries",
        "_next_detail",
        "_next_reading",
        "_schedstat",
        "append",
        "asked",
        "backwards",
        "batch_due",
        "called",
        "compiling",
        "detailed",
        "due_ns",
        "flags_due",
        "inferring",
        "inside",
        "last_gradient_ns",
        "loss_due",
        "marks",
        "quick",
        "started",
        "step_over",
        "thread",
        "update_pending",
        "updates",
        "watched",
    )

    def __init__(self) -> None:
        self.marks: deque[Mark] = deque()
        self.append = self.marks.append
        self.thread = threading.main_thread().ident or threading.get_ident()
        self.compiling: Callable[[], bool] = _never_compiling
        self._schedstat: int | None = None
        self.begin()

    def begin(self) -> None:
        """Starts afresh: nothing has trained yet in this process."""
        self.marks.clear()
        self.quick = _NO_THREAD
        self.due_ns = 0
        self.started = False
        self.inferring = True
        self.update_pending = False
        self.flags_due = False
        self.batch_due = False
        self.loss_due = True
        self.detailed = False
        self.updates = 0
        self.backwards = 0
        self.inside = False
        self.called = False
        self.last_gradient_ns = 0
        self.asked = 0
        self.step_over = True
        self.watched = False
        self._boundaries = 0  # since the last update
        self._next_detail = 0
        self._next_reading = 0

    @property
    def closed(self) -> bool:
        """True once the agent has ended: hooks that outlive it do nothing."""
        return self.thread == _NO_THREAD

    def close(self) -> None:
        """Makes every hook pass straight through from now on."""
        self.thread = _NO_THREAD
        self.quick = _NO_THREAD

    def active(self) -> bool:
        """Whether a hook that was just entered should leave marks."""
        return threading.get_ident() == self.thread and not self.compiling()

    def mark(self, kind: int, object_id: int = 0, extra: Any = 0) -> None:
        """Appends one mark (see marks.py)."""
        if not self.started and len(self.marks) > MOST_MARKS_BEFORE_TRAINING:
            self.forget_old()
        if self.detailed:
            self.append(
                (kind, perf_counter_ns(), object_id, extra, thread_time_ns(), self.run_queue_ns())
            )
        else:
            self.append((kind, perf_counter_ns(), object_id, extra))

    def forget_old(self) -> None:
        """Before anybody takes the marks away (nothing trains yet), only the latest are kept."""
        while len(self.marks) > MOST_MARKS_BEFORE_TRAINING:
            self.marks.popleft()

    def boundary(self, kind: int, object_id: int = 0, extra: Any = None) -> None:
        """Appends a mark at which a step may end: with a thread state if the last one is old.

        Also decides, once per update, whether the coming step carries states on all its marks, and
        whether the hooks may take the quick way until the next look.
        """
        now = perf_counter_ns()
        if not self.started:
            self.forget_old()
        self.asked = UPDATES_WITHOUT_ASK
        was_detailed = self.detailed
        self._boundaries += 1
        if self.step_over or self._boundaries > MOST_DETAILED_ASKS:
            self._boundaries = 0
            self.step_over = False
            self.detailed = now >= self._next_detail and _is_sampled(self.updates)
            if self.detailed:
                self._next_detail = now + DETAIL_EVERY_NS
        self.loss_due = was_detailed or self.detailed or now >= self._next_reading
        if self.loss_due:
            self._next_reading = now + READ_EVERY_NS
            self.append((kind, now, object_id, extra, thread_time_ns(), self.run_queue_ns()))
        else:
            self.append((kind, now, object_id, extra))
        self._open_quick_way()

    def _open_quick_way(self) -> None:
        self.inferring = self.inferring or self.backwards > BACKWARDS_WITHOUT_UPDATE
        plain = self.started and not (
            self.detailed or self.flags_due or self.batch_due or self.inferring or self.watched
        )
        self.quick = self.thread if plain else _NO_THREAD
        # A step with states comes at a boundary of its own choosing, hence a look at each of them
        # from that time on.
        self.due_ns = min(self._next_reading, self._next_detail)

    def close_quick_way(self) -> None:
        """Has the next boundary look at everything there is to do."""
        self.quick = _NO_THREAD

    def updated(self, kind: int, object_id: int = 0) -> None:
        """Appends the end of an update; in a loop without loader it is a boundary as well."""
        self.step_over = True
        self.updates += 1
        self.backwards = 0
        if self.asked:
            self.asked -= 1
            self.mark(kind, object_id)
        else:
            self.boundary(kind, object_id)
            self.asked = 0

    def run_queue_ns(self) -> int:
        """Time the training thread has waited for a CPU so far; -1 where /proc has no schedstat."""
        descriptor = self._schedstat
        if descriptor is None:
            descriptor = self._schedstat = _open_schedstat()
        if descriptor < 0:
            return -1
        try:
            return int(os.pread(descriptor, 64, 0).split()[1])
        except (OSError, IndexError, ValueError):
            self._schedstat = -1
            return -1

    def follow_thread(self) -> None:
        """Makes the calling thread the training thread."""
        self.thread = threading.get_ident()
        self.quick = _NO_THREAD
        self.close_files()

    def close_files(self) -> None:
        """Closes what was opened for the training thread (it is opened again when needed)."""
        if self._schedstat is not None and self._schedstat >= 0:
            os.close(self._schedstat)
        self._schedstat = None


def _open_schedstat() -> int:
    if not sys.platform.startswith("linux"):
        return -1
    try:
        path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
