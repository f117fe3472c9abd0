"""Edits about graphs and activations: what keeps them, and what computes them needlessly."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from trainprof.rules.fixes.source_edit import Detached, WithoutCheckpointing, WithoutGradients
from trainprof.rules.source_edits.arguments import Arguments
from trainprof.rules.source_edits.names import module_name, short_name
from trainprof.rules.source_edits.source import CannotEdit, Source, Span
from trainprof.rules.source_edits.statements import removed, without_imports

_ENDS_GRAPH = ("detach", "item", "tolist", "numpy")
_KEEPS = ("append", "appendleft")
_NO_GRADIENTS = ("no_grad", "inference_mode")
_OWN_OPTIONS = ("use_reentrant", "preserve_rng_state", "determinism_check", "debug", "early_stop")
"""Arguments of torch.utils.checkpoint.checkpoint that its function does not get."""
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def edit_detached(
    source: Source, edit: Detached, target: Any, command: Sequence[str]
) -> list[Span]:
    """`.detach()` behind what a line adds up or collects; none where its graph ends already.

    Raises:
        CannotEdit: no line is known, or it does not plainly keep one tensor.
    """
    if target is None:
        raise CannotEdit("the line that keeps the graphs is not known; name it with at=FILE:LINE")
    value = next(
        (
            kept
            for node in ast.walk(source.tree)
            if isinstance(node, ast.stmt) and node.lineno <= target.line <= (node.end_lineno or 0)
            if (kept := _kept(node)) is not None
        ),
        None,
    )
    if value is None:
        raise CannotEdit("the line does not plainly keep one tensor")
    if isinstance(value, ast.Call) and short_name(source, value.func) in _ENDS_GRAPH:
        return []
    end = source.end_of(value)
    if isinstance(value, ast.Name | ast.Attribute | ast.Subscript):
        return [Span(end, end, ".detach()")]
    if isinstance(value, ast.BinOp):
        start = source.start_of(value)
        return [Span(start, start, "("), Span(end, end, ").detach()")]
    raise CannotEdit(f"whether {source.code(value)} is a tensor is not known")


def _kept(statement: ast.stmt) -> ast.expr | None:
    """What a statement puts into something that outlives it."""
    if isinstance(statement, ast.AugAssign):
        return statement.value
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        collects = isinstance(call.func, ast.Attribute) and call.func.attr in _KEEPS
        return call.args[0] if collects and len(call.args) == 1 else None
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
        if isinstance(value, ast.BinOp) and ast.dump(value.left) == _as_read(target):
            return value.right
        return value if isinstance(target, ast.Subscript) else None
    return None


def _as_read(target: ast.expr) -> str:
    return ast.dump(ast.parse(ast.unparse(target), mode="eval").body)


def edit_without_gradients(
    source: Source, edit: WithoutGradients, target: Any, command: Sequence[str]
) -> list[Span]:
    """`@torch.no_grad()` above the function that validates.

    Raises:
        CannotEdit: no function plainly validates and does nothing else, or several do.
    """
    found = [
        node
        for node in ast.walk(source.tree)
        if isinstance(node, _Function) and _validates(source, node)
    ]
    if len(found) != 1:
        many = " and ".join(f"{one.name} (line {one.lineno})" for one in found)
        raise CannotEdit(
            f"{many} validate" if found else "no function plainly validates and nothing else"
        )
    if _is_without_gradients(source, found[0]):
        return []
    name = module_name(source, "torch")
    if name is None:
        raise CannotEdit("the file does not import torch by that name", found[0].lineno)
    indent = source.indent_before(found[0])
    if indent is None:
        raise CannotEdit("the function does not start its line", found[0].lineno)
    start = source.line_start(found[0].lineno)
    return [Span(start, start, f"{indent}@{name}.no_grad(){source.newline}")]


def _validates(source: Source, function: ast.AST) -> bool:
    """It switches to evaluation, goes over batches, and calls no backward."""
    called = {
        short_name(source, node.func) for node in ast.walk(function) if isinstance(node, ast.Call)
    }
    loops = any(isinstance(node, ast.For) for node in ast.walk(function))
    yields = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function))
    return loops and "eval" in called and not yields and not called & {"backward", "step"}


def _is_without_gradients(source: Source, function: _Function) -> bool:
    """Also where only a part of it is: that was somebody's decision."""
    return any(
        name in source.code(part)
        for part in [*function.decorator_list, *_contexts(function)]
        for name in _NO_GRADIENTS
    )


def _contexts(function: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(function):
        if isinstance(node, ast.With):
            yield from (item.context_expr for item in node.items)


def edit_without_checkpointing(
    source: Source, edit: WithoutCheckpointing, target: Any, command: Sequence[str]
) -> list[Span]:
    """`checkpoint(f, x)` becomes `f(x)`; switches of transformers go.

    Raises:
        CannotEdit: nothing asks for it in this file, or a condition does.
    """
    spans: list[Span] = []
    direct: list[ast.Call] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if short_name(source, node.value.func) == "gradient_checkpointing_enable":
                _check_unconditional(source, node)
                spans.append(removed(source, node))
        elif isinstance(node, ast.Call) and _is_checkpoint(source, node.func):
            _check_unconditional(source, node)
            spans.append(Span(source.start_of(node), source.end_of(node), _direct(source, node)))
            direct.append(node)
        elif isinstance(node, ast.Call):
            spans += _without_switch(source, node)
    if not spans:
        raise CannotEdit("nothing in the file asks for checkpointing plainly")
    return [*spans, *without_imports(source, [call.func for call in direct])]


def _is_checkpoint(source: Source, function: ast.expr) -> bool:
    """`torch.utils.checkpoint.checkpoint`, by its path or by its name."""
    if isinstance(function, ast.Attribute) and function.attr == "checkpoint":
        module = ast.unparse(function.value)
        return module in ("torch.utils.checkpoint", module_name(source, "torch.utils.checkpoint"))
    name = function.id if isinstance(function, ast.Name) else ""
    return source.imported.get(name) == ("torch.utils.checkpoint", "checkpoint")


def _check_unconditional(source: Source, node: ast.AST) -> None:
    """In its function no condition asks for it."""
    for above in source.around(node):
        if isinstance(above, _Function | ast.Lambda):
            return
        if isinstance(above, ast.If | ast.IfExp) and "__name__" not in ast.dump(above.test):
            raise CannotEdit(f"it is asked for by {source.code(above.test)}", above.lineno)


def _direct(source: Source, call: ast.Call) -> str:
    """The call without checkpointing around its function."""
    for keyword in call.keywords:
        if keyword.arg == "context_fn" or (
            keyword.arg == "preserve_rng_state" and source.code(keyword.value) != "True"
        ):
            raise CannotEdit(f"{keyword.arg} says how it is done", call.lineno)
    arguments = Arguments(source.code(call), source.newline)
    for name in _OWN_OPTIONS:
        place = arguments.place(name)
        if place is not None:
            arguments.remove(place)
    if arguments.place("function", 0) is None:
        raise CannotEdit("its function is not written there", call.lineno)
    function = arguments.code(0)
    arguments.remove(0)
    rest = arguments.text[source.end_of(call.func) - source.start_of(call) :]
    plain = isinstance(call.args[0], ast.Name | ast.Attribute | ast.Subscript)
    return f"{function}{rest}" if plain else f"({function}){rest}"


def _without_switch(source: Source, call: ast.Call) -> Iterator[Span]:
    given = next((one for one in call.keywords if one.arg == "gradient_checkpointing"), None)
    if given is None or not isinstance(given.value, ast.Constant) or not given.value.value:
        return
    arguments = Arguments(source.code(call), source.newline)
    place = arguments.place("gradient_checkpointing")
    assert place is not None
    arguments.remove(place)
    yield Span(source.start_of(call), source.end_of(call), arguments.text)
