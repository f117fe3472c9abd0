"""Edits of blocks: a call that goes with its import, and a forward that is put into a `with`."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from trainprof.rules.fixes.source_edit import Autocast, RemovedCall
from trainprof.rules.source_edits.names import module_name, short_name
from trainprof.rules.source_edits.source import CannotEdit, Source, Span
from trainprof.rules.source_edits.statements import in_context, removed, without_imports

_MOVES = ("to", "cuda", "cpu", "float", "long", "items", "pop", "next")
"""Calls that prepare a batch; they are no forward."""
_Loop = ast.For | ast.AsyncFor | ast.While


def edit_removed_call(
    source: Source, edit: RemovedCall, target: Any, command: Sequence[str]
) -> list[Span]:
    """Takes the statement out, with the condition, function and import that are there for it alone.

    Raises:
        CannotEdit: the line has no such statement, or more hangs on it.
    """
    name = module_name(source, edit.module)
    found = list(_statements_of(source, f"{name}.{edit.function}")) if name else []
    chosen: list[ast.stmt] = [one for one in found if _is_in_loop(source, one)]
    if target is not None:
        in_loops, chosen = chosen, [one for one in found if one.lineno == target.line]
        if not chosen and in_loops:
            raise CannotEdit(f"{edit.module}.{edit.function}() is no statement of this line")
    elif not chosen:
        chosen = [one for call in found for one in _through_function(source, call)]
    spans, gone = [], list[ast.expr]()
    for one in chosen:
        whole, used = _with_its_condition(source, one)
        spans.append(removed(source, whole))
        gone += used
    return [*spans, *without_imports(source, gone)]


def _is_in_loop(source: Source, node: ast.AST) -> bool:
    return any(isinstance(above, _Loop) for above in source.around(node))


def _with_its_condition(source: Source, statement: ast.stmt) -> tuple[ast.stmt, list[ast.expr]]:
    """The statement, or the `if` that is there for it alone; and the expressions that go."""
    gone = [one for one in ast.walk(statement) if isinstance(one, ast.Call)]
    expressions: list[ast.expr] = [*gone]
    parent = source.parents[statement]
    while isinstance(parent, ast.If) and parent.body == [statement] and not parent.orelse:
        decides = any(isinstance(one, ast.Call | ast.NamedExpr) for one in ast.walk(parent.test))
        if decides or source.code(parent).startswith("elif"):
            break
        expressions.append(parent.test)
        statement, parent = parent, source.parents[parent]
    return statement, expressions


def _through_function(source: Source, call: ast.Expr) -> list[ast.stmt]:
    """Calls in loops of a function that does nothing else, and that function if it has no other."""
    function = source.parents[call]
    if not isinstance(function, ast.FunctionDef):
        return []
    rest = [one for one in function.body if one is not call]
    only = not rest or (len(rest) == 1 and ast.get_docstring(function) is not None)
    uses = [
        node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Name) and node.id == function.name
    ]
    plain = [one for use in uses if (one := _plain_call(source, use)) is not None]
    in_loops = [one for one in plain if _is_in_loop(source, one)]
    at_top = source.parents[function] is source.tree and not function.decorator_list
    if not (only and at_top and in_loops and len(plain) == len(uses)):
        raise CannotEdit(f"it is called in {function.name}", call.lineno)
    return [*in_loops, *([function] if len(in_loops) == len(uses) else [])]


def _plain_call(source: Source, name: ast.Name) -> ast.stmt | None:
    """The statement that does nothing but call it, without arguments."""
    call = source.parents[name]
    if not isinstance(call, ast.Call) or call.func is not name or call.args or call.keywords:
        return None
    statement = source.parents[call]
    return statement if isinstance(statement, ast.Expr) else None


def _statements_of(source: Source, function: str) -> Iterator[ast.Expr]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = ast.unparse(node.value.func)
            if called == function:
                yield node


def edit_autocast(
    source: Source, edit: Autocast, target: Any, command: Sequence[str]
) -> list[Span]:
    """The statements that compute the loss of the only backward, in autocast.

    Raises:
        CannotEdit: the loop is not plain, or the script uses autocast already.
    """
    if "autocast" in source.text:
        raise CannotEdit("the script uses autocast itself")
    name = module_name(source, "torch")
    if name is None:
        raise CannotEdit("the file does not import torch by that name")
    block, place, loss = backward_in_loop(source)
    while place and _is_call_of(source, block[place - 1], "zero_grad"):
        place -= 1
    first = first_of_forward(block, place, loss)
    call = f'{name}.autocast("{edit.device}", dtype={name}.{edit.dtype})'
    return [in_context(source, block[first:place], call)]


def backward_in_loop(source: Source) -> tuple[list[ast.stmt], int, str]:
    """The block that holds the only `loss.backward()`, its place in it, and the loss's name."""
    found = [
        node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and short_name(source, node.func) == "backward"
    ]
    if len(found) != 1:
        raise CannotEdit(f"the file has {len(found) or 'no'} calls of backward, not one")
    (call,) = found
    statement = source.parents[call]
    tensor = call.func.value if isinstance(call.func, ast.Attribute) else None
    if not isinstance(statement, ast.Expr) or not isinstance(tensor, ast.Name) or call.args:
        raise CannotEdit("its backward is not of a loss with a name", call.lineno)
    parent = source.parents[statement]
    block = getattr(parent, "body", [])
    if not isinstance(parent, _Loop) or statement not in block:
        raise CannotEdit("its backward stands in no loop", call.lineno)
    return block, block.index(statement), tensor.id


def _is_call_of(source: Source, statement: ast.stmt, name: str) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Call) and short_name(source, value.func) == name


def first_of_forward(block: Sequence[ast.stmt], place: int, loss: str) -> int:
    """The first of the assignments right before the backward from which the loss is computed."""
    needed, first = {loss}, place
    while first:
        statement = block[first - 1]
        if not isinstance(statement, ast.Assign) or not _computes(statement.value):
            break
        given = {name for one in statement.targets for name in _names(one)}
        if not given & needed:
            break
        needed |= _names(statement.value)
        first -= 1
    if first == place:
        raise CannotEdit("what computes the loss is not right before it", block[place].lineno)
    return first


def _computes(value: ast.expr) -> bool:
    calls = [node.func for node in ast.walk(value) if isinstance(node, ast.Call)]
    names = [
        one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "") for one in calls
    ]
    return any(name not in _MOVES for name in names)


def _names(expression: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}
