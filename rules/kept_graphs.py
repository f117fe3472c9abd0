"""Which line keeps the graphs of old losses: `total += loss`, `losses.append(loss)`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from trainprof.rules.source_view import STEP, SourceFile

_ENDS_GRAPH = frozenset(
    (
        "item", "detach", "detach_", "tolist", "numpy", "float", "int", "bool", "str", "len",
        "argmax", "argmin", "eq", "ne", "gt", "lt", "ge", "le", "isnan", "isfinite", "size",
        "format", "repr", "range", "isinstance", "print",
    )
)  # fmt: skip
"""Calls whose result has no graph."""

_ADDS = frozenset(("append", "extend", "add", "insert", "appendleft", "put", "update"))


def lines_that_keep_graphs(file: SourceFile, backward_line: int) -> list[int]:
    """Lines in the function around a backward that keep a tensor of its graph beyond the step.

    What is followed: the tensor that backward is called on, and the names assigned in the same
    function from which it was computed; into `x += ...`, `x = x + ...`, `x.append(...)` and
    `x[key] = ...`, unless a call in between ends the graph (`.item()`, `.detach()`, `float()`).
    """
    function = file.function_at(backward_line)
    tensors = _tensors_of_graph(file, function, backward_line)
    lines = {
        statement.lineno
        for statement in ast.walk(function)
        if isinstance(statement, ast.stmt)
        and file.often(statement) == STEP
        and any(_holds(value, tensors) for value in _kept_values(statement))
    }
    return sorted(lines)


def _tensors_of_graph(file: SourceFile, function: ast.AST, backward_line: int) -> set[str]:
    """Names of the tensors that are part of the graph on which backward is called."""
    names: set[str] = set()
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and "backward" in node.func.attr
            and node.lineno <= backward_line <= (node.end_lineno or 0)
        ):
            inside = [node.func.value, *node.args]
            names |= {name for value in inside for name in _names(value)}
    assigned: dict[str, set[str]] = {}
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign) or file.often(node) != STEP:
            continue
        if any(isinstance(part, ast.Call) for part in ast.walk(node)):
            for target in node.targets:
                for name in _names(target):
                    assigned.setdefault(name, set()).update(_names(node.value))
    tensors = {name for name in names if name in assigned}
    for _ in assigned:
        sources = set().union(*(assigned[name] for name in tensors)) if tensors else set()
        tensors |= {name for name in sources if name in assigned}
    return tensors


def _kept_values(statement: ast.stmt) -> Iterator[ast.expr]:
    """What a statement puts into something that outlives it."""
    if isinstance(statement, ast.AugAssign):
        yield statement.value
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Subscript):
                yield statement.value
            elif isinstance(target, (ast.Name, ast.Attribute)):
                # x = x + ..., x = 0.9 * x + ...: the target itself is part of the sum
                same = ast.unparse(target)
                sums = isinstance(statement.value, ast.BinOp)
                parts = (n for n in ast.walk(statement.value) if isinstance(n, ast.expr))
                if sums and any(ast.unparse(part) == same for part in parts):
                    yield statement.value
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        call = statement.value
        if isinstance(call.func, ast.Attribute) and call.func.attr in _ADDS:
            yield from call.args


def _holds(value: ast.expr, tensors: set[str]) -> bool:
    """Whether a graph of one of the tensors is still alive in the value of an expression."""
    if isinstance(value, ast.Name):
        return value.id in tensors
    if isinstance(value, ast.Compare):
        return False
    if isinstance(value, ast.Attribute):
        return value.attr not in ("data", "shape", "dtype", "device", "grad") and _holds(
            value.value, tensors
        )
    if isinstance(value, ast.Call):
        name = value.func.attr if isinstance(value.func, ast.Attribute) else None
        if isinstance(value.func, ast.Name):
            name = value.func.id
        if name in _ENDS_GRAPH:
            return False
    return any(
        _holds(child, tensors)
        for child in ast.iter_child_nodes(value)
        if isinstance(child, (ast.expr, ast.keyword, ast.comprehension))
        for child in ([child] if isinstance(child, ast.expr) else _expressions(child))
    )


def _expressions(node: ast.AST) -> list[ast.expr]:
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
