"""Which calls of a file are meant by a name, also through `import ... as`."""

from __future__ import annotations

import ast
from collections.abc import Collection

from trainprof.rules.source_edits.source import Source


def calls_of(source: Source, names: Collection[str], line: int | None = None) -> list[ast.Call]:
    """The calls of functions or classes of torch's by their names, in the order of the source.

    Args:
        source: The file.
        names: Without their module.
        line: That a traceback gives for the call; None for all calls of the file. What the file
            defines itself is left out, and without a line what it imports from elsewhere.
    """
    own = {node.name for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)}
    found = []
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call) or short_name(source, node.func) not in names:
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in own:
            continue
        module, _ = source.imported.get(name, ("torch", name))
        if line is not None:
            if node.lineno <= line <= (node.func.end_lineno or line):
                found.append(node)
        elif module.partition(".")[0] == "torch":
            found.append(node)
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def short_name(source: Source, function: ast.expr) -> str:
    """What is called, without its module: "DataLoader"; "" for what has no name."""
    if isinstance(function, ast.Attribute):
        return function.attr
    if isinstance(function, ast.Name):
        return source.imported.get(function.id, ("", function.id))[1]
    return ""


def module_name(source: Source, module: str) -> str | None:
    """What the top of a file calls a module; None where it does not import it."""
    for statement in source.tree.body:
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                if alias.name == module:
                    return alias.asname or module
                if alias.name.startswith(f"{module}.") and alias.asname is None:
                    return module
    return None
