"""A training in doubles that becomes one in single precision: the model, and the batches."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from trainprof.rules.fixes.source_edit import CallArguments, SinglePrecision
from trainprof.rules.source_edits.call_edits import edit_call
from trainprof.rules.source_edits.names import calls_of, short_name
from trainprof.rules.source_edits.source import CannotEdit, Source, Span
from trainprof.rules.source_edits.statements import removed

_DOUBLES = ("float64", "double")
_MAKES_TENSOR = ("from_numpy", "tensor", "as_tensor")
_LIGHTNING = CallArguments(("Trainer",), {"precision": "32-true"})


def edit_single_precision(
    source: Source, edit: SinglePrecision, target: Any, command: Sequence[str]
) -> list[Span]:
    """Without `.double()` behind the model, with `.float()` behind the doubles of the batches.

    Raises:
        CannotEdit: doubles are asked for in another way, or by more than the model; or where the
            batches are made is not plain.
    """
    trainers = [one for one in _calls(source) if _asks_for_doubles(source, one)]
    asked = [
        node for node in ast.walk(source.tree) if isinstance(node, ast.expr) and _names_double(node)
    ]
    if not trainers and not asked:
        raise CannotEdit("nothing in the file asks for float64 plainly")
    if len(trainers) + len(asked) > 1:
        lines = sorted({one.lineno for one in (*trainers, *asked)})
        raise CannotEdit(f"float64 is asked for at lines {' and '.join(map(str, lines))}")
    batches = list(_single_batches(source, edit.batch))
    if trainers:
        return [*edit_call(source, trainers[0], _LIGHTNING, command), *batches]
    return [_without_double(source, asked[0]), *batches]


def _calls(source: Source) -> Iterator[ast.Call]:
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.Call))


def _asks_for_doubles(source: Source, call: ast.Call) -> bool:
    """`Trainer(precision="64-true")`, also by the name of a constant."""
    if not short_name(source, call.func).endswith("Trainer"):
        return False
    given = next((one.value for one in call.keywords if one.arg == "precision"), None)
    if isinstance(given, ast.Name):
        written = [
            node.value
            for node in source.tree.body
            if isinstance(node, ast.Assign)
            and any(isinstance(one, ast.Name) and one.id == given.id for one in node.targets)
        ]
        given = written[0] if len(written) == 1 else None
    return isinstance(given, ast.Constant) and str(given.value) in ("64", "64-true")


def _names_double(node: ast.expr) -> bool:
    """Whatever mentions the type: a method, an attribute of torch or NumPy, or a text."""
    if isinstance(node, ast.Attribute):
        return node.attr in _DOUBLES
    return isinstance(node, ast.Constant) and node.value in _DOUBLES


def _without_double(source: Source, asked: ast.expr) -> Span:
    """Takes `.double()` from the end of what makes the model, or its own statement out."""
    call = source.parents[asked]
    if not isinstance(asked, ast.Attribute) or not isinstance(call, ast.Call):
        raise CannotEdit("float64 is not asked for by .double()", asked.lineno)
    if asked.attr != "double" or call.func is not asked or call.args or call.keywords:
        raise CannotEdit("float64 is not asked for by .double()", asked.lineno)
    statement = source.parents[call]
    if isinstance(statement, ast.Expr):
        return removed(source, statement)
    if not isinstance(statement, ast.Assign):
        raise CannotEdit("what becomes double is not plainly a model", call.lineno)
    return Span(source.end_of(asked.value), source.end_of(call), "")


def _single_batches(source: Source, batch: Sequence[str] | None) -> Iterator[Span]:
    """`.float()` behind each double that a sample holds."""
    if batch is None:
        raise CannotEdit("what type the batches have is not known")
    if "float64" not in batch:
        return
    parts = _parts_of_a_sample(source)
    if len(parts) != len(batch):
        raise CannotEdit("where the batches are made is not plain")
    for part, dtype in zip(parts, batch, strict=True):
        if dtype != "float64":
            continue
        if isinstance(part, ast.Call) and short_name(source, part.func) not in _MAKES_TENSOR:
            raise CannotEdit(f"whether {source.code(part)} is a tensor is not known", part.lineno)
        end = source.end_of(part)
        yield Span(end, end, ".float()")


def _parts_of_a_sample(source: Source) -> list[ast.expr]:
    """The tensors of the only TensorDataset, or what the only `__getitem__` makes and returns."""
    tables = calls_of(source, ("TensorDataset",))
    readers = [
        node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef) and node.name == "__getitem__"
    ]
    if len(tables) + len(readers) != 1:
        return []
    if tables:
        return [] if any(isinstance(one, ast.Starred) for one in tables[0].args) else tables[0].args
    returned = [node.value for node in ast.walk(readers[0]) if isinstance(node, ast.Return)]
    if len(returned) != 1 or not isinstance(returned[0], ast.Tuple):
        return []
    parts = returned[0].elts
    return parts if all(isinstance(one, ast.Call) for one in parts) else []
