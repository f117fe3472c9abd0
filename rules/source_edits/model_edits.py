"""Edits about the model of a training loop."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from trainprof.rules.fixes.source_edit import Compiled
from trainprof.rules.source_edits.names import short_name
from trainprof.rules.source_edits.source import CannotEdit, Source, Span
from trainprof.rules.source_edits.statement_edits import training_loop
from trainprof.rules.source_edits.statements import lines_above


def edit_compiled(
    source: Source, edit: Compiled, target: Any, command: Sequence[str]
) -> list[Span]:
    """`model.compile()` before the training loop; none where the model is compiled already.

    Where the file names dropout, random numbers are asked to be those of the plain model.

    Raises:
        CannotEdit: no loop, or more than one, trains; or which name is the model is not plain.
    """
    outer, _ = training_loop(source)
    model = _model_of(source, outer)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and short_name(source, node.func) == "compile":
            if ast.unparse(node.func) == f"{model}.compile":
                return []
            if ast.unparse(node.func) != "re.compile":
                raise CannotEdit("the file compiles something itself", node.lineno)
    random = "dropout" in source.text.lower()
    options = 'options={"fallback_random": True}' if random else ""
    return [lines_above(source, outer, [f"{model}.compile({options})"])]


def _model_of(source: Source, loop: ast.stmt) -> str:
    """The only name that the loop calls and whose parameters the file asks for."""
    called = {
        node.func.id
        for node in ast.walk(loop)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    trained = {
        node.func.value.id
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("parameters", "named_parameters")
        and isinstance(node.func.value, ast.Name)
    }
    found = sorted(called & trained)
    if len(found) != 1:
        many = f"{' and '.join(found)} are models" if found else "no model is called by its name"
        raise CannotEdit(f"{many} in the training loop", loop.lineno)
    return found[0]
