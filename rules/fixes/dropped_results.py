"""Whether a caller drops the second of two results. Standard library only."""

from __future__ import annotations

import ast
import itertools
import linecache
from functools import cache
from types import CodeType, FrameType

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class SecondResults:
    """Looks at the source of calls: `out, _ = f(x)` with `_` never read, or `f(x)[0]`."""

    def __init__(self) -> None:
        self._known: dict[tuple[CodeType, int], bool] = {}

    def dropped(self, frame: FrameType) -> bool:
        """Whether the call that this frame is in uses the first result only; False if unsure."""
        key = frame.f_code, frame.f_lasti
        if key not in self._known:
            self._known[key] = _dropped(frame.f_code, frame.f_lasti)
        return self._known[key]


def _dropped(code: CodeType, instruction: int) -> bool:
    tree = _tree(code.co_filename)
    positions = getattr(code, "co_positions", None)  # Python 3.11
    if tree is None or positions is None:
        return False
    place = next(itertools.islice(positions(), instruction // 2, None), None)
    for function in ast.walk(tree):
        if not isinstance(function, _Function):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and _place(node.value) == place:
                return _unpacked_to_nothing(node, function)
            if isinstance(node, ast.Subscript) and _place(node.value) == place:
                return isinstance(node.slice, ast.Constant) and node.slice.value == 0
    return False


def _place(node: ast.AST) -> tuple[int | None, ...]:
    names = ("lineno", "end_lineno", "col_offset", "end_col_offset")
    return tuple(getattr(node, name, None) for name in names) if isinstance(node, ast.Call) else ()


def _unpacked_to_nothing(assignment: ast.Assign, function: ast.AST) -> bool:
    target = assignment.targets[0]
    if len(assignment.targets) != 1 or not isinstance(target, ast.Tuple | ast.List):
        return False
    if len(target.elts) != 2 or not isinstance(target.elts[1], ast.Name):
        return False
    name = target.elts[1].id
    return not any(
        (isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load))
        or (isinstance(node, ast.Global | ast.Nonlocal) and name in node.names)
        or (isinstance(node, ast.Name) and node.id == "locals")
        for node in ast.walk(function)
    )


@cache
def _tree(filename: str) -> ast.Module | None:
    try:
        return ast.parse("".join(linecache.getlines(filename)))
    except (SyntaxError, ValueError):
        return None
