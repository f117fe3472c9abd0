"""Where the value of an argument is written when it is not in the call itself.

`num_workers=args.workers` is changed at the option's default, `num_workers=WORKERS` at the
constant.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from trainprof.rules.source_edits.arguments import literal_code
from trainprof.rules.source_edits.source import CannotEdit, Source, Span


def change_written(
    source: Source, argument: str, expression: str, value: Any, command: Sequence[str]
) -> list[Span]:
    """Changes the one literal that an expression gets its value from.

    Args:
        source: The file of the call.
        argument: Of the call, for messages.
        expression: Its source.
        value: What is wanted.
        command: The user's; an option that it passes is not changed in the source.

    Raises:
        CannotEdit: the value is computed, or used for something else as well.
    """
    node = ast.parse(expression.strip(), mode="eval").body
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        literal = _default_of_option(source, node.attr, argument, value, command)
    elif isinstance(node, ast.Name):
        literal = _constant(source, node.id, argument, value)
    else:
        literal = None
    if literal is None:
        raise CannotEdit(f"{argument} is {expression.strip()}; let that be {literal_code(value)}")
    if ast.literal_eval(literal) == value:
        return []
    return [Span(source.start_of(literal), source.end_of(literal), literal_code(value))]


def _default_of_option(
    source: Source, name: str, argument: str, value: Any, command: Sequence[str]
) -> ast.expr | None:
    """The default of the only option that sets `args.NAME`."""
    options = [
        node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "add_argument"
        and _destination(node) == name
    ]
    if len(options) != 1:
        return None
    flags = _flags(options[0])
    passed = next((word for word in command if word.partition("=")[0] in flags), None)
    if passed is not None:
        option = passed.partition("=")[0]
        raise CannotEdit(
            f"{argument} comes from {option}, which your command passes; pass {option} "
            f"{literal_code(value)} there",
            options[0].lineno,
        )
    default = next((one.value for one in options[0].keywords if one.arg == "default"), None)
    if default is None or not _is_literal(default):
        raise CannotEdit(
            f"{argument} comes from {flags[-1]}; let its default be {literal_code(value)}",
            options[0].lineno,
        )
    return default


def _flags(option: ast.Call) -> list[str]:
    return [
        one.value
        for one in option.args
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    ]


def _destination(option: ast.Call) -> str | None:
    """The attribute that argparse makes of it."""
    for keyword in option.keywords:
        if keyword.arg == "dest":
            return str(keyword.value.value) if isinstance(keyword.value, ast.Constant) else None
    flags = _flags(option)
    if not flags or not flags[0].startswith("-"):
        return None  # a positional argument has no default that would count
    name = next((flag for flag in flags if flag.startswith("--")), flags[0])
    return name.lstrip("-").replace("-", "_")


def _constant(source: Source, name: str, argument: str, value: Any) -> ast.expr | None:
    """The literal that is given to a name once, at the top of the file."""
    uses = [
        node for node in ast.walk(source.tree) if isinstance(node, ast.Name) and node.id == name
    ]
    written = [node for node in uses if not isinstance(node.ctx, ast.Load)]
    if len(written) != 1:
        return None
    statement = source.parents[written[0]]
    if source.parents.get(statement) is not source.tree:
        return None
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
        return None
    if not _is_literal(statement.value):
        return None
    if len(uses) > 2:
        raise CannotEdit(
            f"{argument} is {name}, which is used elsewhere too; let it be {literal_code(value)} "
            "if that is right there",
            statement.lineno,
        )
    return statement.value


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return False
    return True
