"""Which phase owns each interval between the marks of one step.

The innermost open phase owns the time. What no open phase claims is inferred from the structural
marks around it (loader, forward, backward, optimizer): from the last root module's exit to the
backward is loss; from a batch to the backward is forward where no root module ran; from the
backward to the optimizer is clipping and unscaling, which counts as optimizer. The rest is
residual. Validation takes over what lies between its own forwards and loader asks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ..model.phases import PHASE_INDEX, PHASES
from . import marks as m

Mark = tuple[Any, ...]

DATA_WAIT = PHASE_INDEX["data_wait"]
FORWARD = PHASE_INDEX["forward"]
LOSS = PHASE_INDEX["loss"]
BACKWARD = PHASE_INDEX["backward"]
OPTIMIZER = PHASE_INDEX["optimizer"]
VALIDATION = PHASE_INDEX["validation"]
RESIDUAL = PHASE_INDEX["residual"]

OPENS = {
    m.ASK: DATA_WAIT,
    m.ITERATOR: DATA_WAIT,
    m.TO_DEVICE: PHASE_INDEX["h2d"],
    m.FORWARD: FORWARD,
    m.BACKWARD: BACKWARD,
    m.OPTIMIZER: OPTIMIZER,
    m.ZERO_GRAD: OPTIMIZER,
    m.SCALER: OPTIMIZER,
    m.COMM: PHASE_INDEX["comm_exposed"],
    m.SYNC: PHASE_INDEX["sync"],
    m.SAVE: PHASE_INDEX["checkpoint"],
    m.LOG: PHASE_INDEX["logging"],
    m.GC: PHASE_INDEX["gc"],
    m.COMPILE: PHASE_INDEX["compile"],
    m.PHASE: RESIDUAL,
}
CLOSES = {kind + 1: phase for kind, phase in OPENS.items()} | {m.END: DATA_WAIT}
STRUCTURAL = frozenset(
    {m.ASK, m.ITERATOR, m.FORWARD, m.BACKWARD, m.OPTIMIZER, m.SCALER, m.UPDATE, m.STEP}
)
"""Kinds that delimit inferred phases; zero_grad, logging, saving, GC … are transparent to them."""

_TAKEN_BY_VALIDATION = frozenset({DATA_WAIT, FORWARD, LOSS, RESIDUAL})
_VALIDATION_ENDS = frozenset({m.BACKWARD, m.OPTIMIZER, m.SCALER, m.ZERO_GRAD, m.UPDATE, m.STEP})
_OF_LOADERS = frozenset({m.ASK, m.ITERATOR, m.ITERATOR_END, m.GOT, m.END})
_OPEN_GAP = -1


def label_intervals(
    marks: Sequence[Mark],
    training_loaders: Collection[int] = (),
    trained_modules: Collection[int] = (),
) -> tuple[list[int], int]:
    """The phase of each interval from a mark to the next (the last one ends with the step).

    Args:
        marks: The marks of one step, in order.
        training_loaders: Loaders whose batches are followed by a backward.
        trained_modules: Root modules whose forwards are followed by a backward.

    Returns:
        One index into `PHASES` per mark, and a bit set of the phases that were partly inferred.
    """
    labels, depths = _open_phases(marks)
    inferred = _fill_gaps(marks, labels, depths)
    spans = validation_spans(marks, training_loaders, trained_modules)
    for first, last in spans:
        for index in range(first, last):
            if labels[index] in _TAKEN_BY_VALIDATION:
                labels[index] = VALIDATION
    return labels, inferred


def _open_phases(marks: Sequence[Mark]) -> tuple[list[int], list[int]]:
    """Labels by the innermost open phase (gaps are -1), and the nesting depth before each mark."""
    stack: list[int] = []
    kinds: list[int] = []
    labels: list[int] = []
    depths: list[int] = []
    for mark in marks:
        kind = mark[0]
        depths.append(len(stack))
        phase = OPENS.get(kind)
        if phase is not None:
            if kind == m.PHASE:
                phase = mark[2] if 0 <= mark[2] < len(PHASES) else RESIDUAL
            elif kinds and _belongs_to_outer(kind, kinds):
                phase = stack[-1]
            stack.append(phase)
            kinds.append(kind)
        elif kind in CLOSES:
            opening = m.ASK if kind == m.END else kind - 1
            if opening in kinds:  # a lost opening mark leaves its closing mark without effect
                while kinds.pop() != opening:
                    stack.pop()
                stack.pop()
        labels.append(stack[-1] if stack else _OPEN_GAP)
    return labels, depths


def _belongs_to_outer(kind: int, open_kinds: list[int]) -> bool:
    """Recomputation in a backward, tracing in a forward, a model in a data set: no new phase."""
    if kind == m.FORWARD:
        return m.ASK in open_kinds or m.BACKWARD in open_kinds or m.FORWARD in open_kinds
    if kind == m.BACKWARD:
        return m.FORWARD in open_kinds or m.BACKWARD in open_kinds
    if kind in (m.ASK, m.ITERATOR):
        return m.ASK in open_kinds
    return False


def _fill_gaps(marks: Sequence[Mark], labels: list[int], depths: list[int]) -> int:
    """Gives every gap its inferred phase; returns the bit set of inferred phases."""
    inferred = 0
    following = _next_structural(marks, depths)
    previous = (-1, 0)  # kind and extra of the structural mark at depth 0 that came last
    for index, mark in enumerate(marks):
        if depths[index] == 0 and mark[0] in STRUCTURAL:
            previous = (mark[0], _forward_bits(mark))
        if labels[index] != _OPEN_GAP:
            continue
        phase = _infer(previous, following[index])
        labels[index] = phase
        if phase != RESIDUAL:
            inferred |= 1 << phase
    return inferred


def _forward_bits(mark: Mark) -> int:
    return (mark[3] or 0) if mark[0] == m.FORWARD else 0


def _next_structural(marks: Sequence[Mark], depths: list[int]) -> list[tuple[int, int]]:
    """For each mark, the (kind, extra) of the next structural mark at depth 0 after it."""
    result: list[tuple[int, int]] = [(-1, 0)] * len(marks)
    upcoming = (-1, 0)
    for index in range(len(marks) - 1, -1, -1):
        result[index] = upcoming
        mark = marks[index]
        if depths[index] == 0 and mark[0] in STRUCTURAL:
            upcoming = (mark[0], _forward_bits(mark))
    return result


def _infer(previous: tuple[int, int], upcoming: tuple[int, int]) -> int:
    """The phase of a gap between two structural marks (kind, FORWARD_* bits)."""
    before, before_bits = previous
    after, after_bits = upcoming
    if after == m.BACKWARD:
        return LOSS if before in (m.FORWARD, m.BACKWARD) else FORWARD
    if before == m.BACKWARD and after in (m.OPTIMIZER, m.SCALER):
        return OPTIMIZER
    if before == m.FORWARD and after == m.FORWARD and before_bits & after_bits & m.FORWARD_GRAD:
        return FORWARD
    return RESIDUAL


def validation_spans(
    marks: Sequence[Mark],
    training_loaders: Collection[int],
    trained_modules: Collection[int],
) -> list[tuple[int, int]]:
    """Intervals [first, last) of mark indices that are validation.

    A span opens with an ask on a loader that does not train, or a forward that is validation; it
    reaches to the last such mark before the training goes on. Where no loader trains, an ask tells
    nothing: it belongs to the forwards around it.
    """
    spans: list[tuple[int, int]] = []
    first = last = -1
    switching = set() if training_loaders else _before_the_model_trains(marks)
    for index, mark in enumerate(marks):
        kind = mark[0]
        if kind in (m.ASK, m.ITERATOR, m.GOT, m.END):
            validates = bool(training_loaders) and mark[2] not in training_loaders
            ends = bool(training_loaders) and not validates and kind in (m.ASK, m.ITERATOR)
        elif kind == m.FORWARD or kind == m.FORWARD_END:
            validates = index in switching or _validating_forward(
                marks, index, training_loaders, trained_modules, inside=first >= 0
            )
            ends = not validates and kind == m.FORWARD
        else:
            validates = False
            ends = kind in _VALIDATION_ENDS
        if validates:
            if first < 0:
                first = index if training_loaders else _where_asked(marks, index)
            last = index
        elif ends and first >= 0:
            spans.append((first, last))
            first = last = -1
    if first >= 0:
        spans.append((first, last))
    return [span for span in spans if span[1] > span[0]]


def _before_the_model_trains(marks: Sequence[Mark]) -> set[int]:
    """Forwards (both marks) in evaluation mode whose module is called in training mode next.

    Next is before any backward: no backward was for them, whether or not they built a graph. A
    training that stays in evaluation mode (frozen BatchNorm) never switches.
    """
    found: set[int] = set()
    trains: set[int] = set()
    for index in range(len(marks) - 1, -1, -1):
        kind = marks[index][0]
        if kind in (m.BACKWARD, m.BACKWARD_END, m.OPTIMIZER, m.OPTIMIZER_END):
            trains.clear()
        elif kind in (m.FORWARD, m.FORWARD_END):
            if (marks[index][3] or 0) & m.FORWARD_TRAINING:
                trains.add(marks[index][2])
            elif marks[index][2] in trains:
                found.add(index)
    return found


def _where_asked(marks: Sequence[Mark], index: int) -> int:
    """The first of the loader's marks right before the forward at `index`, else itself."""
    while index and marks[index - 1][0] in _OF_LOADERS:
        index -= 1
    return index


def _validating_forward(
    marks: Sequence[Mark],
    index: int,
    training_loaders: Collection[int],
    trained_modules: Collection[int],
    *,
    inside: bool,
) -> bool:
    """Whether the forward at `index` (its opening or closing mark) belongs to a validation."""
    module, extra = marks[index][2], marks[index][3] or 0
    evaluating = not extra & m.FORWARD_TRAINING
    without_grad = not extra & m.FORWARD_GRAD
    if without_grad and evaluating and module in trained_modules:
        return True
    if inside and (without_grad or evaluating):
        return True
    if not (without_grad or evaluating) or not training_loaders:
        return False
    return _outside_batch(marks, index, training_loaders)


def _outside_batch(marks: Sequence[Mark], index: int, training_loaders: Collection[int]) -> bool:
    """Whether no training batch is in work: after the update, before the next batch arrives."""
    for position in range(index - 1, -1, -1):
        kind = marks[position][0]
        if kind == m.GOT and marks[position][2] in training_loaders:
            return False
        if kind in (m.OPTIMIZER_END, m.UPDATE) or (
            kind == m.END and marks[position][2] in training_loaders
        ):
            return True
    return False
