"""Edits of calls: keyword arguments, and the call that a script has once."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainprof.rules.fixes.source_edit import CallArguments, ScriptCall
from trainprof.rules.source_edits.arguments import Arguments, literal_code
from trainprof.rules.source_edits.names import calls_of, module_name, short_name
from trainprof.rules.source_edits.source import CannotEdit, Source, Span
from trainprof.rules.source_edits.statements import after_imports
from trainprof.rules.source_edits.written_values import change_written

_Loop = ast.For | ast.AsyncFor | ast.While
_TRAINS = ("train", "fit")
"""Methods of libraries that make loaders and optimizers themselves."""


def edit_arguments(
    source: Source, edit: CallArguments, target: Any, command: Sequence[str]
) -> list[Span]:
    """The call that makes the target, with other arguments; none where it is so already.

    Args:
        source: The file of the call.
        edit: What is wanted.
        target: A `Target`, or None for the only such call of the file.
        command: The user's.

    Raises:
        CannotEdit: no call is meant, or more than one; or its arguments are not written there.
    """
    calls = calls_of(source, edit.callees, target.line if target is not None else None)
    if not calls and target is not None:
        return _edit_instead(source, edit, target.line, command)
    _check_choice(edit, target, calls)
    spans: list[Span] = []
    for call in calls:
        spans += edit_call(source, call, edit, command)
    return list(dict.fromkeys(spans))  # two calls may share the constant behind them


def _check_choice(edit: CallArguments, target: Any, calls: Sequence[ast.Call]) -> None:
    what = " or ".join(edit.callees)
    if target is None and not calls:
        raise CannotEdit(f"the file makes no {what}")
    if target is None and len(calls) > 1:
        lines = " and ".join(str(call.lineno) for call in calls)
        raise CannotEdit(f"it makes a {what} at lines {lines}; name one with at=FILE:LINE")
    if target is None:
        return
    if target.ordinal is not None or (target.type is not None and len(calls) > 1):
        raise CannotEdit("only one of the objects that the line makes is meant")
    for one, other in itertools.pairwise(calls):
        if (other.lineno, other.col_offset) < (one.end_lineno or 0, one.end_col_offset or 0):
            raise CannotEdit("one of its calls is inside another")


def _edit_instead(
    source: Source, edit: CallArguments, line: int, command: Sequence[str]
) -> list[Span]:
    """Where a library makes the target inside of `trainer.train()`: the arguments it was given."""
    what = " or ".join(edit.callees)
    trains = any(
        node.lineno <= line <= (node.func.end_lineno or line)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and short_name(source, node.func) in _TRAINS
    )
    for callee, values in edit.instead.items() if trains else ():
        calls = [
            node
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Call) and short_name(source, node.func) == callee
        ]
        if len(calls) == 1:
            wanted = CallArguments((callee,), values, defaults=edit.defaults)
            return edit_call(source, calls[0], wanted, command)
    if _prepares(source, line) and len(given := calls_of(source, edit.callees)) == 1:
        return edit_call(source, given[0], edit, command)
    made = ", it is made inside of what is called there" if trains else ""
    raise CannotEdit(f"no call of {what} stands in this line{made}")


def _prepares(source: Source, line: int) -> bool:
    """Whether the line hands what the script made to Accelerate, which makes it anew."""
    return any(
        node.lineno <= line <= (node.end_lineno or line)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in ("prepare", "prepare_data_loader")
    )


def edit_call(
    source: Source, call: ast.Call, edit: CallArguments, command: Sequence[str]
) -> list[Span]:
    """One call with other arguments, or what has to change behind them.

    Raises:
        CannotEdit: its arguments are not written there.
    """
    text = source.code(call)
    loop = _remade_in(source, call) if edit.values.get("persistent_workers") else None
    if loop is not None:
        edit = _without_persistence(edit, loop)
    try:
        arguments = Arguments(text, source.newline)
        elsewhere = _set(source, arguments, edit, command)
    except CannotEdit as error:
        raise CannotEdit(_with_origin(source, str(error)), error.line or call.lineno) from None
    if arguments.text == text:
        return elsewhere
    new = _within_width(source, call, arguments)
    return [Span(source.start_of(call), source.end_of(call), new), *elsewhere]


def _within_width(source: Source, call: ast.Call, arguments: Arguments) -> str:
    """The call as it is to be, over several lines where one of its lines would grow too long."""
    start, end = source.start_of(call), source.end_of(call)
    before = source.text[source.line_start(call.lineno) : start]
    old, new = source.code(call).splitlines(), (before + arguments.text).splitlines()
    indent = before[: len(before) - len(before.lstrip())]
    ends_its_line = not source.text[end : source.line_start((call.end_lineno or 0) + 1)].strip()
    in_one = len(old) == 1 and ends_its_line
    in_brackets = len(old) == 3 and old[0].endswith("(") and old[2] == f"{indent})"
    if source.width is None or max(map(len, new)) <= source.width or "#" in arguments.text:
        return arguments.text
    if not in_one and not in_brackets:
        return arguments.text
    return arguments.in_lines(indent, source.step, source.width)


def _without_persistence(edit: CallArguments, loop: ast.stmt) -> CallArguments:
    """Workers of a loader that is made anew cannot live on; they would be kept in vain.

    Raises:
        CannotEdit: nothing else is wanted.
    """
    values = {name: value for name, value in edit.values.items() if name != "persistent_workers"}
    if not values:
        raise CannotEdit(
            "a new loader is made in each turn of this loop, so its workers cannot live on; make "
            "it once, before the loop",
            loop.lineno,
        )
    return replace(edit, values=values)


def _remade_in(source: Source, call: ast.Call) -> ast.stmt | None:
    """The loop over epochs in which it is called anew, also through a function of the file.

    A loop that holds loops in loops is one over trainings: workers live on inside of it.
    """
    for above in source.around(call):
        if isinstance(above, _Loop) and not any(one is above for one in _asking(source, call)):
            return None if _depth(above) > 2 else above
        if isinstance(above, ast.FunctionDef):
            uses = [
                node
                for node in ast.walk(source.tree)
                if isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == above.name
                and above not in source.around(node)
            ]
            loops = [loop for use in uses if (loop := _remade_in(source, use)) is not None]
            return loops[0] if loops and len(loops) == len(uses) else None
    return None


def _asking(source: Source, call: ast.Call) -> list[ast.AST]:
    """Loops that go over what is made; they ask for it once."""
    return [
        loop
        for loop in source.around(call)
        if isinstance(loop, ast.For | ast.AsyncFor) and call in ast.walk(loop.iter)
    ]


def _depth(node: ast.AST) -> int:
    """How many loops lie inside one another."""
    inner = max((_depth(child) for child in ast.iter_child_nodes(node)), default=0)
    return inner + isinstance(node, _Loop)


def _set(
    source: Source, arguments: Arguments, edit: CallArguments, command: Sequence[str]
) -> list[Span]:
    """Changes the arguments; gives what has to change outside of the call."""
    elsewhere: list[Span] = []
    for name, unwanted in edit.excluded.items():
        place = arguments.place(name)
        if place is not None and arguments.literal(place) == (True, unwanted):
            arguments.remove(place)
    for name, value in edit.values.items():
        place = arguments.place(name, edit.positions.get(name))
        default = _is_default(edit.defaults, name, value)
        if place is None:
            if not default:
                arguments.add(name, value)
            continue
        plain, present = arguments.literal(place)
        minor = name != next(iter(edit.values))  # a computed one goes with what it is about
        if plain and _same(present, value):
            continue
        if default and arguments.is_named(place) and (plain or minor):
            arguments.remove(place)
        elif plain:
            arguments.change(place, value)
        else:
            elsewhere += change_written(source, name, arguments.code(place), value, command)
    return elsewhere


def _is_default(defaults: Mapping[str, Any], name: str, value: Any) -> bool:
    return name in defaults and _same(defaults[name], value)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _with_origin(source: Source, reason: str) -> str:
    """Names the line at which unpacked arguments are put together."""
    name = reason.rpartition("*")[2] if "*" in reason else ""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assign) and any(
            isinstance(one, ast.Name) and one.id == name for one in node.targets
        ):
            return f"{reason}, which is made at line {node.lineno}"
    return reason


def edit_script_call(
    source: Source, edit: ScriptCall, target: Any, command: Sequence[str]
) -> list[Span]:
    """The statement with the wanted argument: where the script has it, or after its imports.

    Raises:
        CannotEdit: there are several, or its argument is computed.
    """
    calls = calls_of(source, (edit.function,))
    code = f"{edit.module}.{edit.function}({literal_code(edit.value)})"
    if len(calls) > 1:
        lines = " and ".join(str(call.lineno) for call in calls)
        raise CannotEdit(f"it is called at lines {lines}", calls[0].lineno)
    if calls:
        return _edit_only_argument(source, calls[0], edit, command)
    name = module_name(source, edit.module)
    if name is None:
        return [after_imports(source, [f"import {edit.module}", "", code], None)]
    call = f"{name}.{edit.function}({literal_code(edit.value)})"
    return [after_imports(source, [call], edit.module)]


def _edit_only_argument(
    source: Source, call: ast.Call, edit: ScriptCall, command: Sequence[str]
) -> list[Span]:
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    if len(values) != 1 or isinstance(values[0], ast.Starred):
        raise CannotEdit(f"the arguments of {edit.function} are not written there", call.lineno)
    text = source.code(values[0])
    try:
        present = ast.literal_eval(values[0])
    except (ValueError, TypeError, SyntaxError):
        try:
            return change_written(source, edit.function, text, edit.value, command)
        except CannotEdit as error:
            raise CannotEdit(str(error), error.line or call.lineno) from None
    if _same(present, edit.value):
        return []
    start, end = source.start_of(values[0]), source.end_of(values[0])
    return [Span(start, end, literal_code(edit.value))]
