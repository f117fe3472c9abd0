"""What the user's own source writes to servers, which no sandbox takes back."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

LOGGERS = {"comet_ml": "comet_ml"}
"""Modules that log to a server by being used. Others are kept offline by the environment."""
CALLS = {
    "set_tracking_uri": "MLflow's set_tracking_uri",
    "push_to_hub": "push_to_hub",
    "upload_file": "upload_file",
    "upload_folder": "upload_folder",
}
"""Calls that name a server, or send to one."""
MOST_FILES = 200


def network_writes(command: Sequence[str]) -> list[str]:
    """What the scripts of a command and the modules beside them use; empty where nothing shows."""
    scripts = [Path(word) for word in command if word.endswith(".py")]
    found: set[str] = set()
    for tree in _trees([path for path in scripts if path.is_file()]):
        for node in ast.walk(tree):
            found.update(_writes(node))
    return sorted(found)


def _trees(scripts: list[Path]) -> Iterator[ast.Module]:
    """The scripts, and what they import from their own folders."""
    folders = {script.resolve().parent for script in scripts} | {Path.cwd()}
    waiting, seen = [script.resolve() for script in scripts], set[Path]()
    while waiting and len(seen) < MOST_FILES:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            tree = ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue
        yield tree
        for name in _imported(tree):
            for folder in folders:
                module = folder / name.replace(".", "/")
                files = (module.with_suffix(".py"), module / "__init__.py")
                waiting += [file for file in files if file.is_file()]


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _writes(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name.partition(".")[0] for alias in node.names]
        yield from (LOGGERS[name] for name in names if name in LOGGERS)
    elif isinstance(node, ast.ImportFrom):
        name = (node.module or "").partition(".")[0]
        if name in LOGGERS:
            yield LOGGERS[name]
    elif isinstance(node, ast.Call):
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name in CALLS:
            yield CALLS[name]
        for keyword in node.keywords:
            is_on = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            if keyword.arg == "push_to_hub" and is_on:
                yield CALLS["push_to_hub"]
