"""What logs in each step of the training loop does so in each so many."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from trainprof.rules.fixes.source_edit import Thinned
from trainprof.rules.source_edits.source import CannotEdit, Source, Span
from trainprof.rules.source_edits.statement_edits import counted, training_loop
from trainprof.rules.source_edits.statements import under_condition
from trainprof.rules.source_edits.written_values import change_written


def edit_thinned(source: Source, edit: Thinned, target: Any, command: Sequence[str]) -> list[Span]:
    """The statement of the line, or the loop that does nothing else, under a condition.

    Raises:
        CannotEdit: it does not stand in the training loop, or depends on another condition.
    """
    if target is None:
        raise CannotEdit("the line that logs is not known; name it with at=FILE:LINE")
    _, loop = training_loop(source)
    statement = _statement_at(source, loop, target.line)
    above = source.parents[statement]
    while isinstance(above, ast.For) and above is not loop and len(above.body) == 1:
        statement, above = above, source.parents[above]
    if isinstance(above, ast.If) and source.parents[above] is loop:
        return _rarer(source, above, edit, command)
    if above is not loop:
        raise CannotEdit("it does not stand in the training loop itself", statement.lineno)
    step, counting = counted(source, loop)
    return [*counting, under_condition(source, [statement], f"{step} % {edit.every} == 0")]


def _statement_at(source: Source, loop: ast.stmt, line: int) -> ast.stmt:
    for node in ast.walk(loop):
        if isinstance(node, ast.Expr) and node.lineno <= line <= (node.end_lineno or line):
            return node
    raise CannotEdit("the line that logs is no statement of the training loop", line)


def _rarer(source: Source, condition: ast.If, edit: Thinned, command: Sequence[str]) -> list[Span]:
    """`step % N == 0` with another number."""
    test = condition.test
    left = test.left if isinstance(test, ast.Compare) and len(test.ops) == 1 else None
    plain = isinstance(left, ast.BinOp) and isinstance(left.op, ast.Mod)
    if not plain or not isinstance(left, ast.BinOp) or condition.orelse:
        raise CannotEdit(f"it depends on {source.code(test)}", condition.lineno)
    number = left.right
    if not isinstance(number, ast.Constant):
        return change_written(source, "interval", source.code(number), edit.every, command)
    if isinstance(number.value, int) and number.value >= edit.every:
        return []
    return [Span(source.start_of(number), source.end_of(number), str(edit.every))]
