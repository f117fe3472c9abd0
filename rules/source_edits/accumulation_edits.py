"""Gradient accumulation under DistributedDataParallel: what is averaged with the last only."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from trainprof.rules.fixes.source_edit import WithoutSync
from trainprof.rules.source_edits.block_edits import backward_in_loop, first_of_forward
from trainprof.rules.source_edits.names import calls_of, module_name, short_name
from trainprof.rules.source_edits.source import CannotEdit, Source, Span
from trainprof.rules.source_edits.statements import in_context, with_import

_PLAIN = (
    ast.Name,
    ast.Constant,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.Attribute,
    ast.expr_context,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
)
"""What a condition may consist of to be asked twice, beside `len(...)`."""


def edit_without_sync(
    source: Source, edit: WithoutSync, target: Any, command: Sequence[str]
) -> list[Span]:
    """Forward and backward in a `with` whose condition is that of the update.

    Raises:
        CannotEdit: the loop is not plain.
    """
    if ".no_sync()" in source.text:
        return []
    block, place, loss = backward_in_loop(source)
    first = first_of_forward(block, place, loss)
    statements = block[first : place + 1]
    condition = _condition_of_update(source, block, first, place)
    model = _model(source, statements)
    name = module_name(source, "contextlib") or "contextlib"
    call = f"{name}.nullcontext() if {condition} else {model}.no_sync()"
    return [*with_import(source, "contextlib"), in_context(source, statements, call)]


def _condition_of_update(source: Source, block: Sequence[ast.stmt], first: int, place: int) -> str:
    """The test of the `if` behind the backward that calls the optimizer."""
    for number in range(place + 1, len(block)):
        statement = block[number]
        if not isinstance(statement, ast.If) or statement.orelse or not _steps(source, statement):
            continue
        if not all(_is_plain(node) for node in _parts(statement.test)):
            raise CannotEdit("the update depends on what is computed", statement.lineno)
        used = {node.id for node in ast.walk(statement.test) if isinstance(node, ast.Name)}
        if used & _assigned(block[first:number]):
            raise CannotEdit("the update depends on the forward", statement.lineno)
        return source.code(statement.test)
    raise CannotEdit("no `if` behind the backward says when an update is made", block[place].lineno)


def _parts(test: ast.expr) -> list[ast.AST]:
    """All nodes, of `len(loader)` only what is measured."""
    lengths = {
        node
        for node in ast.walk(test)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "len"
        and len(node.args) == 1
    }
    return [node for node in ast.walk(test) if node not in lengths]


def _is_plain(node: ast.AST) -> bool:
    return isinstance(node, _PLAIN)


def _steps(source: Source, statement: ast.If) -> bool:
    return any(
        isinstance(node, ast.Call) and short_name(source, node.func) == "step"
        for node in ast.walk(statement)
    )


def _assigned(statements: Sequence[ast.stmt]) -> set[str]:
    return {
        node.id
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def _model(source: Source, statements: Sequence[ast.stmt]) -> str:
    """The name of the only DDP model, which the forward has to call by it."""
    made = calls_of(source, ("DistributedDataParallel",))
    parent = source.parents[made[0]] if len(made) == 1 else None
    targets = parent.targets if isinstance(parent, ast.Assign) else []
    if len(targets) != 1 or not isinstance(targets[0], ast.Name):
        raise CannotEdit("the file does not make one DistributedDataParallel with a name")
    name = targets[0].id
    called = {
        node.func.id
        for statement in statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    if name not in called:
        raise CannotEdit(f"the forward does not call {name} by that name", statements[0].lineno)
    return name
