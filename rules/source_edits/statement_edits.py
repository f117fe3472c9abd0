"""Edits of statements: a switch that goes, and lines around a training loop."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from trainprof.rules.fixes.source_edit import AroundLoop, SwitchedOff
from trainprof.rules.source_edits.arguments import Arguments
from trainprof.rules.source_edits.names import calls_of, short_name
from trainprof.rules.source_edits.source import CannotEdit, Source, Span
from trainprof.rules.source_edits.statements import (
    lines_above,
    own_indent,
    removed,
    with_import,
    without_context,
    without_imports,
)

_STEP = "step"
"""Name for the counter of a loop that has none."""
_Loop = ast.For | ast.AsyncFor | ast.While
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def edit_switch(
    source: Source, edit: SwitchedOff, target: Any, command: Sequence[str]
) -> list[Span]:
    """Takes every place out that switches it on; none where there is no such place.

    Raises:
        CannotEdit: whether it is on is computed, or asked for by a condition.
    """
    switches = set(calls_of(source, edit.functions))
    contexts = {one for one in calls_of(source, edit.contexts) if _is_of(source, one, edit.module)}
    spans: list[Span] = []
    gone: list[ast.expr] = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Expr) and node.value in switches:
            if _is_on(source, node.value):
                _check_unconditional(source, node)
                spans.append(removed(source, node))
                gone.append(node.value)
        elif isinstance(node, ast.With):
            for place, item in enumerate(node.items):
                call = item.context_expr
                if call in contexts or (call in switches and _is_on(source, call)):
                    _check_unconditional(source, node)
                    spans.append(without_context(source, node, place))
                    gone.append(call)
        elif (
            edit.callee
            and isinstance(node, ast.Call)
            and short_name(source, node.func).endswith(edit.callee)
        ):
            spans += _without_keyword(source, node, edit.keyword)
    own = [one for one in gone if isinstance(one, ast.Call) and _is_imported(source, one.func)]
    return [*spans, *without_imports(source, own)]


def _is_imported(source: Source, function: ast.expr) -> bool:
    """Whether its first name is from a `from ... import`; torch itself is needed anyway."""
    while isinstance(function, ast.Attribute):
        function = function.value
    return isinstance(function, ast.Name) and function.id in source.imported


def _is_of(source: Source, call: ast.Call, module: str) -> bool:
    """Whether what is called comes from a module, by its import or by its path."""
    if isinstance(call.func, ast.Name):
        return source.imported.get(call.func.id, ("", ""))[0].startswith(module)
    assert isinstance(call.func, ast.Attribute)
    path = ast.unparse(call.func.value)
    known = ".".join(source.imported.get(path, (path, ""))).rstrip(".")
    return known.startswith(module)


def _is_on(source: Source, call: ast.expr) -> bool:
    """What the first argument says."""
    assert isinstance(call, ast.Call)
    value = next(iter([*call.args, *(keyword.value for keyword in call.keywords)]), None)
    if not isinstance(value, ast.Constant):
        text = source.code(value) if value is not None else "not written there"
        raise CannotEdit(f"whether it is on is {text}", call.lineno)
    return bool(value.value)


def _check_unconditional(source: Source, node: ast.stmt) -> None:
    for above in source.around(node):
        if isinstance(above, ast.If) and "__name__" not in ast.dump(above.test):
            condition = source.code(above.test)
            raise CannotEdit(f"it is on if {condition}", above.lineno)


def _without_keyword(source: Source, call: ast.Call, keyword: str) -> Iterator[Span]:
    given = next((one for one in call.keywords if one.arg == keyword), None)
    if given is None:
        return
    value = given.value
    if not isinstance(value, ast.Constant):
        raise CannotEdit(f"{keyword} is {source.code(value)}", value.lineno)
    if value.value:
        arguments = Arguments(source.code(call), source.newline)
        place = arguments.place(keyword)
        assert place is not None
        arguments.remove(place)
        yield Span(source.start_of(call), source.end_of(call), arguments.text)


def edit_loop(source: Source, edit: AroundLoop, target: Any, command: Sequence[str]) -> list[Span]:
    """Puts lines before the training loop, and at the start of its steps.

    Raises:
        CannotEdit: no loop, or more than one, holds a backward; or it counts no steps.
    """
    outer, inner = training_loop(source)
    step, counting = counted(source, inner) if edit.each_step else ("", [])
    each_step = [line.format(step=step) for line in edit.each_step]
    present = {line.strip() for line in source.text.splitlines()}
    if all(line.strip() in present for line in (*edit.before, *each_step)):
        return []
    spans = [*counting, *with_import(source, edit.module), lines_above(source, outer, edit.before)]
    if each_step:
        unit = own_indent(source, inner.body[0])[len(own_indent(source, inner)) :]
        lines = [line.replace("    ", unit, 1) for line in each_step]
        spans.append(lines_above(source, inner.body[0], lines))
    return spans


def training_loop(source: Source) -> tuple[_Loop, _Loop]:
    """The outermost and the innermost loop around the only backward, in its function."""
    found: dict[_Loop, _Loop] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and short_name(source, node.func) == "backward":
            loops = list(_loops_around(source, node))
            if loops:
                found.setdefault(loops[-1], loops[0])
    if not found:
        raise CannotEdit("no loop with a backward in it stands in the file")
    if len(found) > 1:
        lines = " and ".join(str(line) for line in sorted(loop.lineno for loop in found))
        raise CannotEdit(f"the loops at lines {lines} train")
    return next(iter(found.items()))


def _loops_around(source: Source, node: ast.AST) -> Iterator[_Loop]:
    for above in source.around(node):
        if isinstance(above, _Function):
            return
        if isinstance(above, _Loop):
            yield above


def counted(source: Source, loop: _Loop) -> tuple[str, list[Span]]:
    """The name that counts the steps of a loop, and what makes a loop count that does not.

    Raises:
        CannotEdit: it is no plain `for`, or the name is taken.
    """
    name = _counter(loop)
    if name is not None:
        return name, []
    taken = {node.id for node in ast.walk(source.tree) if isinstance(node, ast.Name)}
    taken |= {node.arg for node in ast.walk(source.tree) if isinstance(node, ast.arg)}
    if not isinstance(loop, ast.For) or _STEP in taken:
        raise CannotEdit("the loop does not count its steps", loop.lineno)
    target, over = source.code(loop.target), source.code(loop.iter)
    if isinstance(loop.target, ast.Tuple) and not target.startswith(("(", "[")):
        target = f"({target})"
    return _STEP, [
        Span(source.start_of(loop.target), source.end_of(loop.target), f"{_STEP}, {target}"),
        Span(source.start_of(loop.iter), source.end_of(loop.iter), f"enumerate({over})"),
    ]


def _counter(loop: _Loop) -> str | None:
    """The first name of `enumerate`, or the one over a range."""
    if isinstance(loop, ast.For | ast.AsyncFor) and isinstance(loop.iter, ast.Call):
        called, target = loop.iter.func, loop.target
        function = called.id if isinstance(called, ast.Name) else ""
        if function == "enumerate" and isinstance(target, ast.Tuple):
            target = target.elts[0]
        elif function != "range":
            function = ""
        if function and isinstance(target, ast.Name):
            return target.id
    return None
