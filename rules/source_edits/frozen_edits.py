"""Parts of a model that get no gradients."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from trainprof.rules.fixes.source_edit import Frozen
from trainprof.rules.source_edits.source import CannotEdit, Source, Span
from trainprof.rules.source_edits.statements import lines_above

_CALL = "requires_grad_(False)"


def edit_frozen(source: Source, edit: Frozen, target: Any, command: Sequence[str]) -> list[Span]:
    """`model.encoder.requires_grad_(False)` above the only optimizer; none where it stands there.

    Raises:
        CannotEdit: the optimizer is not plainly given other parts of a model made in this file.
    """
    made = [
        node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and _is_optimizer(source, node.func)
    ]
    if len(made) != 1:
        raise CannotEdit(f"the file makes {len(made) or 'no'} optimizers, not one")
    model = _model_of(source, made[0])
    parts = [_part(model, path) for path in edit.modules]
    made_here = _attributes(source, model)
    for path in edit.modules:
        first = path.partition(".")[0]
        if made_here is None or (first not in made_here and not first.isdigit()):
            raise CannotEdit(f"whether {_part(model, first)} is meant is not known", made[0].lineno)
    present = {line.strip() for line in source.text.splitlines()}
    lines = [line for part in parts if (line := f"{part}.{_CALL}") not in present]
    statement = next(one for one in source.around(made[0]) if isinstance(one, ast.stmt))
    return [lines_above(source, statement, lines)] if lines else []


def _is_optimizer(source: Source, function: ast.expr) -> bool:
    """A class of `torch.optim`, by its path or by its name."""
    if isinstance(function, ast.Name):
        return source.imported.get(function.id, ("", ""))[0].startswith("torch.optim")
    if not isinstance(function, ast.Attribute) or not function.attr[:1].isupper():
        return False
    module = ast.unparse(function.value)
    return module == "torch.optim" or source.imported.get(module) == ("torch", "optim")


def _model_of(source: Source, optimizer: ast.Call) -> str:
    """The name before the parts whose parameters the optimizer gets."""
    given = optimizer.args[:1] or [one.value for one in optimizer.keywords if one.arg == "params"]
    models = set()
    for node in itertools.chain.from_iterable(ast.walk(one) for one in given):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr != "parameters" or isinstance(node.func.value, ast.Name):
                models.add("")
            else:
                models.add(_first_name(node.func.value))
    if len(models) != 1 or "" in models or "self" in models:
        raise CannotEdit(
            "which parameters the optimizer gets is not plainly said", optimizer.lineno
        )
    return models.pop()


def _first_name(part: ast.expr) -> str:
    while isinstance(part, ast.Attribute | ast.Subscript):
        part = part.value
    return part.id if isinstance(part, ast.Name) else ""


def _part(model: str, path: str) -> str:
    """The path below a model as it is written: numbers are places in a Sequential."""
    steps = (f"[{step}]" if step.isdigit() else f".{step}" for step in path.split("."))
    return model + "".join(steps)


def _attributes(source: Source, model: str) -> set[str] | None:
    """What the class of this file sets of which the model is made; None where that is not known."""
    values = [
        node.value
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assign)
        and any(isinstance(one, ast.Name) and one.id == model for one in node.targets)
    ]
    if len(values) != 1 or not isinstance(values[0], ast.Call):
        return None
    name = ast.unparse(values[0].func)
    if name in ("nn.Sequential", "torch.nn.Sequential"):
        return set()
    classes = [
        node for node in source.tree.body if isinstance(node, ast.ClassDef) and node.name == name
    ]
    return set(_set_in(classes[0])) if len(classes) == 1 else None


def _set_in(made_by: ast.ClassDef) -> Iterator[str]:
    for node in ast.walk(made_by):
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store):
            continue
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr
