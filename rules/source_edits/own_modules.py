"""The modules of the user's own project that a script imports, without importing anything."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator

MOST_MODULES = 200
"""Of a project; what lies further from the script is not looked at."""


def own_modules(script: str) -> list[str]:
    """Absolute paths of the files that a script imports, directly or through each other.

    Only files below the script's folder count: an installed package is none of the user's.

    Args:
        script: Absolute path.
    """
    root = os.path.dirname(script)
    found = {script: None}
    waiting = [script]
    while waiting and len(found) <= MOST_MODULES:
        for path in _imports_of(waiting.pop(0), root):
            if path not in found:
                found[path] = None
                waiting.append(path)
    return [path for path in found if path != script]


def _imports_of(path: str, root: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(root, alias.name)
        elif isinstance(node, ast.ImportFrom):
            folder = root
            if node.level:
                folder = os.path.dirname(path)
                for _ in range(node.level - 1):
                    folder = os.path.dirname(folder)
            yield from _files(folder, node.module or "")
            for alias in node.names:
                yield from _files(folder, ".".join(filter(None, (node.module, alias.name))))


def _files(folder: str, module: str) -> Iterator[str]:
    """The file of a module or the `__init__` of a package, where there is one."""
    place = os.path.join(folder, *module.split(".")) if module else folder
    for path in (f"{place}.py", os.path.join(place, "__init__.py")):
        if os.path.isfile(path):
            yield path
