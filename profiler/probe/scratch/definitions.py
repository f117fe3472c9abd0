"""The script's imports, classes, functions and constants that a data set needs; nothing else of it.

Statements that do anything (a loop, a call, the training itself) are never executed.
"""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Collection, Iterable, Iterator
from types import ModuleType

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def define(
    module: ModuleType, script: str | None, names: Iterable[str], given: Collection[str]
) -> None:
    """Executes in `module` the top-level definitions of `script` that bind `names`.

    Args:
        module: Gets them; names in `given` are there already.
        script: Path of the source.
        names: What is wanted; what these definitions refer to is added.
        given: Not to be defined again.

    Raises:
        ValueError: there is no source.
        OSError, SyntaxError: it cannot be read.
        Exception: whatever the definitions raise.
    """
    if not script:
        raise ValueError("the script has no source file")
    with tokenize.open(script) as file:
        source = file.read()
    tree = ast.parse(source, script)
    chosen = _needed(tree.body, set(names), set(given))
    code = compile(ast.Module(chosen, type_ignores=[]), script, "exec", dont_inherit=True)
    exec(code, vars(module))


def _needed(body: list[ast.stmt], names: set[str], given: set[str]) -> list[ast.stmt]:
    """The statements, in order, that bind a wanted name or one that such a statement mentions."""
    harmless = [statement for statement in body if is_definition(statement)]
    wanted = set(names)
    chosen: set[int] = set()
    grown = True
    while grown:
        grown = False
        for place, statement in enumerate(harmless):
            if place in chosen:
                continue
            bound = set(_bound(statement))
            always = "*" in bound or _is_future(statement)
            if always or (bound & wanted and not bound <= given):
                chosen.add(place)
                wanted |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
                grown = True
    return [harmless[place] for place in sorted(chosen)]


def is_definition(statement: ast.stmt) -> bool:
    """Whether a statement only imports, defines, or names a constant."""
    if isinstance(statement, (ast.Import, ast.ImportFrom, *_DEFINITIONS)):
        return True
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return statement.value is not None and _is_constant(statement.value)
    if isinstance(statement, ast.Try):
        parts = [*statement.body, *statement.orelse, *statement.finalbody]
        parts += [inner for handler in statement.handlers for inner in handler.body]
        return all(isinstance(part, ast.Pass) or is_definition(part) for part in parts)
    return False


def _is_constant(node: ast.expr) -> bool:
    """Literals, names, arithmetic and containers of these; no call, no comprehension."""
    allowed = (
        ast.Constant,
        ast.Name,
        ast.Attribute,
        ast.Tuple,
        ast.List,
        ast.Set,
        ast.Dict,
        ast.UnaryOp,
        ast.BinOp,
        ast.operator,
        ast.unaryop,
        ast.expr_context,
    )
    return all(isinstance(part, allowed) for part in ast.walk(node))


def _is_future(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement gives a value."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(statement, _DEFINITIONS):
        yield statement.name
    elif isinstance(statement, ast.Try):
        for part in [*statement.body, *(s for h in statement.handlers for s in h.body)]:
            yield from _bound(part)
    else:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
