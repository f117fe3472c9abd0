"""Marks in, steps out: where one training step ends and the next begins.

A boundary is the first ask on a training loader (one whose batches are followed by a backward)
after the last update (optimizer step, or in-place change of a parameter); without a loader it is
the update itself, at the end of a cycle of optimizers; with neither it is each backward group.
`Segmenter` works on the agent's thread as marks arrive; `segment` is the same for a whole list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..model import records
from ..model.records import StepRecord
from . import marks as m
from .measure import StepMeasure
from .repetitions import Repetitions
from .splitting import after_first_backward, first_update_end

Mark = tuple[Any, ...]

MAX_UPDATES_PER_BATCH = 8
"""More updates by one optimizer without an ask: the loop keeps its batch, it has no loader."""
MAX_BACKWARDS_WITHOUT_UPDATE = 64
"""More backwards without any update ever seen: each backward group becomes a step."""
MOST_OPTIMIZERS = 64
"""Whose updates are counted, each by itself."""
MAX_MARKS_WITHOUT_TRAINING = 20_000
"""Inference for hours must not grow our memory: older marks are forgotten."""


def segment(marks: Iterable[Mark]) -> list[StepRecord]:
    """All steps of a finished sequence of marks."""
    segmenter = Segmenter()
    segmenter.feed(marks)
    segmenter.finish()
    return segmenter.take()


class Segmenter:
    """Cuts a stream of marks into steps.

    Attributes:
        count: Steps completed so far.
        loader_starts: (loader, start_ns, duration_ns) from the making of an iterator to its first
            batch; the agent empties it.
        training_loaders: Loaders whose batches are followed by a backward.
        trained_modules: Root modules whose forwards are followed by a backward; the agent adds
            their submodules, so that a validation through `model.module` is recognised.
    """

    def __init__(self) -> None:
        self.count = 0
        self.training_loaders: set[int] = set()
        self.trained_modules: set[int] = set()
        self._seen = {"asks": 0, "forwards": 0, "backwards": 0, "updates": 0}
        self.measure = StepMeasure(self.training_loaders, self.trained_modules)
        self._repetitions = Repetitions(self.measure, self._seen)
        self.loader_starts: list[tuple[int, int, int]] = []  # loader, start_ns, duration_ns
        self._iterators: dict[int, int] = {}  # loader -> when its iterator began to be made
        self._steps: list[StepRecord] = []
        self._marks: list[Mark] = []
        self._open: list[int] = []  # open structural kinds, to know what is nested
        self._waiting: list[Mark] = []  # the beginning of a step that looks like the last ones
        self._fresh = False  # nothing was fed since the last cut
        self._backward_in_optimizer = False  # since the last optimizer step began
        self._explicit = False  # the script calls trainprof.step()
        self._ever_updated = False
        self._reset_step()

    def _reset_step(self) -> None:
        self._updated = False
        self._updated_by: set[int] = set()
        self._updates = 0
        self._last_update = -1  # position of the mark that ended the last update
        self._asks_after_update: dict[int, int] = {}
        self._asked_training = False
        self._backwards = 0
        self._backward_ends: list[int] = []
        self._first_training = -1  # where a first step may begin
        self._last_ask = -1
        self._partial_end = -1
        self._batch_loader: int | None = None
        self._pending_loaders: set[int] = set()
        self._pending_modules: set[int] = set()

    def feed(self, marks: Iterable[Mark]) -> None:
        """Takes marks in order; completed steps wait in `take`."""
        arrived = [*self._waiting, *marks]
        self._waiting = []
        position = 0
        while position < len(arrived):
            if self._fresh and (shape := self._repetitions.shape) is not None:
                if len(self._marks) + len(arrived) - position >= shape.length:
                    steps, self._marks, taken = self._repetitions.take(
                        self._marks, arrived, position, self.count
                    )
                    if steps:
                        self._steps += steps
                        self.count += len(steps)
                        position += taken
                        continue
                elif shape.begins_with(self._marks + arrived[position:]):
                    self._waiting = arrived[position:]
                    return
            self._fresh = False
            mark = arrived[position]
            self._marks.append(mark)
            handler = _HANDLERS.get(mark[0])
            if handler is not None:
                handler(self, mark)
            position += 1
        if not self._backwards and len(self._marks) > MAX_MARKS_WITHOUT_TRAINING:
            self._forget_half()

    @property
    def seen(self) -> dict[str, int]:
        """Counters of structural marks, for a run that ends without steps."""
        self._repetitions.count_seen()
        return self._seen

    def take(self) -> list[StepRecord]:
        """The steps completed since the last call."""
        steps, self._steps = self._steps, []
        return steps

    def step_at(self, at_ns: int) -> int:
        """The step that was under way at a recent instant (the last one or the current one)."""
        return (
            self.count if not self._marks or at_ns >= self._marks[0][1] else max(self.count - 1, 0)
        )

    def finish(self) -> None:
        """Closes the last step: at its last update, or as a partial step at its last backward."""
        self._repetitions.forget()
        self.feed(())
        if self._partial_end >= 0:
            self._cut(self._partial_end, records.PARTIAL)
        if not self._ever_updated and self._backwards > 1:
            self._split_backwards()
        if self._updated and self._last_update >= 0:
            # An update by hand shows in the next forward: after the last backward there is none.
            unseen = self._ended_by_hand()
            self._cut(self._last_update, 0 if unseen else records.LAST)
            if unseen:
                self._cut(self._backward_ends[-1], records.LAST)
        elif self._backwards and self._backward_ends:
            flags = records.LAST | (records.PARTIAL if self._ever_updated else 0)
            self._cut(self._backward_ends[-1], flags)

    def _ended_by_hand(self) -> bool:
        """Whether a backward came after an update by hand that was the last one to be seen."""
        by_hand = self._marks[self._last_update][0] == m.UPDATE
        return by_hand and any(end > self._last_update for end in self._backward_ends)

    # Handlers run when their mark has been appended: its position is len(self._marks) - 1.

    def _ask(self, mark: Mark) -> None:
        if m.ASK in self._open:
            self._open.append(m.ASK)
            return
        self._open = [m.ASK]  # whatever else seems open was left by an exception
        loader = mark[2]
        self._seen["asks"] += 1
        if self._partial_end >= 0:
            self._cut(self._partial_end, records.PARTIAL)
        if self._updated and not self._explicit:
            self._asks_after_update.setdefault(loader, len(self._marks) - 1)
            if loader in self.training_loaders:
                self._cut(self._asks_after_update[loader])
        elif not self._ever_updated and self._backwards >= MAX_BACKWARDS_WITHOUT_UPDATE:
            self._split_backwards()
        if loader in self.training_loaders:
            self._asked_training = True
        self._last_ask = len(self._marks) - 1

    def _got(self, mark: Mark) -> None:
        self._close(m.ASK)
        if m.ASK in self._open:
            return
        self._batch_loader = mark[2]
        self._pending_loaders.add(mark[2])
        began_ns = self._iterators.pop(mark[2], None)
        if began_ns is not None:
            self.loader_starts.append((mark[2], began_ns, mark[1] - began_ns))

    def _iterator(self, mark: Mark) -> None:
        if m.ASK not in self._open:
            self._iterators[mark[2]] = mark[1]

    def _end(self, mark: Mark) -> None:
        self._close(m.ASK)
        if m.ASK in self._open:
            return
        loader = mark[2]
        self._pending_loaders.discard(loader)
        if self._batch_loader == loader:
            self._batch_loader = None
        unfinished = self._backwards and not self._updated and self._ever_updated
        if unfinished and loader in self.training_loaders and not self._explicit:
            self._partial_end = self._last_ask

    def _forward(self, mark: Mark) -> None:
        self._open.append(m.FORWARD)
        if len(self._open) > 1 and self._open[-2] != m.OPTIMIZER:
            return
        self._seen["forwards"] += 1
        loader = self._batch_loader
        if (mark[3] or 0) & m.FORWARD_GRAD:
            self._pending_modules.add(mark[2])
            if loader is not None:
                self._pending_loaders.add(loader)
            if self._first_training < 0:
                self._first_training = len(self._marks) - 1
        elif loader is not None:
            self._pending_loaders.discard(loader)

    def _backward(self, mark: Mark) -> None:
        self._open.append(m.BACKWARD)
        if m.FORWARD in self._open[:-1] or m.BACKWARD in self._open[:-1]:
            return
        self._seen["backwards"] += 1
        self._partial_end = -1
        if self._updated and self._pending_loaders and not self._explicit:
            self._cut_at_recognised_ask()
        self.training_loaders |= self._pending_loaders
        self.trained_modules |= self._pending_modules
        if self._pending_loaders:
            self._asked_training = True
        self._backward_in_optimizer = True
        self._backwards += 1
        if self._first_training < 0:
            self._first_training = len(self._marks) - 1

    def _cut_at_recognised_ask(self) -> None:
        """A loader turns out to train: the step ended where it was first asked."""
        asks = [
            position
            for loader, position in self._asks_after_update.items()
            if loader in self._pending_loaders
        ]
        if asks:
            self._cut(min(asks))

    def _backward_end(self, mark: Mark) -> None:
        self._close(m.BACKWARD)
        if m.BACKWARD not in self._open and m.FORWARD not in self._open:
            self._backward_ends.append(len(self._marks) - 1)
            self._pending_modules.clear()

    def _optimizer(self, mark: Mark) -> None:
        if m.OPTIMIZER in self._open and not self._backward_in_optimizer:
            self._open.append(m.OPTIMIZER)  # GradScaler.step around Optimizer.step
            return
        self._close(m.OPTIMIZER)  # it raised: its end was lost
        self._open.append(m.OPTIMIZER)
        self._backward_in_optimizer = False
        if self._first_training < 0:
            self._first_training = len(self._marks) - 1  # a closure: its forwards come inside
        if self._explicit:
            return
        self._partial_end = -1
        optimizer = mark[2]
        if self._updated and optimizer in self._updated_by:
            if not self._asked_training:
                self._cut(self._last_update)
            elif self._updates >= MAX_UPDATES_PER_BATCH and not self._asks_after_update:
                self._split_updates(optimizer)

    def _optimizer_end(self, mark: Mark) -> None:
        self._close(m.OPTIMIZER)
        if 0 <= mark[2] < MOST_OPTIMIZERS:
            name = f"updates_o{mark[2]}"
            self._seen[name] = self._seen.get(name, 0) + 1
        if m.OPTIMIZER not in self._open:
            self._update(mark)

    def _update(self, mark: Mark) -> None:
        self._seen["updates"] += 1
        self._ever_updated = True
        self._note_update(mark, len(self._marks) - 1)
        self._pending_loaders.clear()

    def _note_update(self, mark: Mark, position: int) -> None:
        self._updated = True
        self._updated_by.add(mark[2])
        self._updates += 1
        self._last_update = position
        self._asks_after_update.clear()

    def _inferred_update(self, mark: Mark) -> None:
        if self._updated and not self._asked_training and not self._explicit:
            self._cut(self._last_update)
        self._update(mark)

    def _step(self, mark: Mark) -> None:
        self._explicit = True
        if len(self._marks) > 1:
            self._cut(len(self._marks) - 1)

    def _finish(self, mark: Mark) -> None:
        self.finish()

    def _close(self, kind: int) -> None:
        if kind in self._open:
            while self._open.pop() != kind:
                pass

    def _close_forward(self, mark: Mark) -> None:
        self._close(m.FORWARD)

    # Cutting.

    def _cut(self, position: int, flags: int = 0) -> None:
        """Ends the step at the mark at `position`; that mark and the rest begin the next one."""
        marks, rest = self._marks[:position], self._marks[position:]
        if self.count == 0:
            marks = marks[self._start_of_first(marks) :]
        if marks:
            record = self.measure.step(self.count, marks, rest[0], flags)
            self._steps.append(record)
            self.count += 1
            self._repetitions.note(record, self._marks, position)
        self._restart(rest)
        self._fresh = True

    def _restart(self, rest: list[Mark]) -> None:
        """Begins a new step with `rest`, without letting it cut again."""
        pending = (self._batch_loader, self._pending_loaders, self._pending_modules)
        self._reset_step()
        self._batch_loader, self._pending_loaders, self._pending_modules = pending
        self._marks = []
        for mark in rest:
            self._marks.append(mark)
            self._replay(mark)

    def _replay(self, mark: Mark) -> None:
        """Rebuilds the state of a step from marks that were already judged."""
        kind = mark[0]
        position = len(self._marks) - 1
        if not position and kind in _ENDINGS:
            return  # the boundary itself: it belongs to the step before
        if kind == m.ASK:
            self._last_ask = position
            self._asked_training |= mark[2] in self.training_loaders
            if self._updated:
                self._asks_after_update.setdefault(mark[2], position)
        elif kind in (m.OPTIMIZER_END, m.UPDATE):
            self._note_update(mark, position)
        elif kind == m.BACKWARD:
            self._backwards += 1
        elif kind == m.BACKWARD_END:
            self._backward_ends.append(position)

    def _start_of_first(self, marks: Sequence[Mark]) -> int:
        """The first step begins at its first ask on a training loader, else where it computes."""
        for position, mark in enumerate(marks):
            if mark[0] == m.ASK and mark[2] in self.training_loaders:
                return position
        return max(self._first_training, 0)

    def _split_updates(self, optimizer: int) -> None:
        """The loop kept its batch for many updates: each update was a step of its own."""
        while (position := first_update_end(self._marks, optimizer)) is not None:
            self._cut(position)
        self._asked_training = False
        self._batch_loader = None
        self._pending_loaders.clear()

    def _split_backwards(self) -> None:
        """No update was ever seen (parameters changed behind autograd): one step per backward."""
        while (position := after_first_backward(self._marks)) is not None:
            self._cut(position)

    def _forget_half(self) -> None:
        self._restart(self._marks[len(self._marks) // 2 :])


_ENDINGS = frozenset({m.OPTIMIZER_END, m.UPDATE, m.BACKWARD_END})

_HANDLERS = {
    m.ASK: Segmenter._ask,
    m.GOT: Segmenter._got,
    m.END: Segmenter._end,
    m.ITERATOR: Segmenter._iterator,
    m.FORWARD: Segmenter._forward,
    m.FORWARD_END: Segmenter._close_forward,
    m.BACKWARD: Segmenter._backward,
    m.BACKWARD_END: Segmenter._backward_end,
    m.OPTIMIZER: Segmenter._optimizer,
    m.OPTIMIZER_END: Segmenter._optimizer_end,
    m.UPDATE: Segmenter._inferred_update,
    m.STEP: Segmenter._step,
    m.FINISH: Segmenter._finish,
}
