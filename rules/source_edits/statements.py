"""Statements put in, taken out, and moved out of a `with`."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence

import libcst as cst

from trainprof.rules.source_edits.names import module_name
from trainprof.rules.source_edits.source import CannotEdit, Source, Span

_DEFAULT = cst.MaybeSentinel.DEFAULT
_Import = ast.Import | ast.ImportFrom


def after_imports(source: Source, lines: Sequence[str], module: str | None) -> Span:
    """Puts lines after the imports at the top of a script, a blank line before them.

    Args:
        source: The script.
        lines: Without their ends.
        module: Must have been imported by then.
    """
    body = source.tree.body
    last = _last_import(body, module)
    ending = source.newline
    if last < 0:
        text = "".join(line + ending for line in [*lines, ""])
        start = source.line_start(body[0].lineno) if body else len(source.text)
        return Span(start, start, text)
    while last + 1 < len(body) and body[last + 1].lineno == body[last].end_lineno:
        last += 1  # on the same line, after a semicolon
    start = source.line_start((body[last].end_lineno or 0) + 1)
    if _ends_line(source, start):
        return Span(start, start, "".join(line + ending for line in ["", *lines]))
    return Span(start, start, "".join(ending + line for line in ["", *lines]))


def _ends_line(source: Source, offset: int) -> bool:
    return source.text[:offset].endswith(("\n", "\r"))


def _last_import(body: Sequence[ast.stmt], module: str | None) -> int:
    """The last import of the run that holds the wanted one, or of the first run; -1 for none."""
    start = 0
    if module is not None:
        start = next(number for number, one in enumerate(body) if _imports(one, module))
    elif body and _is_docstring(body[0]):
        start = 1
    last = start
    while last < len(body) and _only_imports(body[last]):
        last += 1
    return last - 1


def _imports(statement: ast.stmt, module: str) -> bool:
    return isinstance(statement, ast.Import) and any(
        alias.name == module or (alias.name.startswith(f"{module}.") and not alias.asname)
        for alias in statement.names
    )


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _only_imports(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Try):
        return all(isinstance(one, _Import) for one in statement.body)
    return isinstance(statement, _Import)


def with_import(source: Source, module: str) -> list[Span]:
    """`import MODULE` of the standard library, among the imports; none if it is there."""
    if module_name(source, module) is not None:
        return []
    body = source.tree.body
    first = 1 if body and _is_docstring(body[0]) else 0
    while first < len(body) and getattr(body[first], "module", None) == "__future__":
        first += 1
    ending = source.newline
    if first >= len(body):
        raise CannotEdit("the file holds nothing")
    before = body[first]
    group = _group(body, first)
    if not group or not _is_standard(group[0]):
        start = source.line_start(before.lineno)
        return [Span(start, start, f"import {module}{ending}{ending}")]
    for statement in group:
        if isinstance(statement, ast.ImportFrom) or statement.names[0].name > module:
            start = source.line_start(statement.lineno)
            return [Span(start, start, f"import {module}{ending}")]
    start = source.line_start((group[-1].end_lineno or 0) + 1)
    if not _ends_line(source, start):
        raise CannotEdit("the file holds nothing but imports")
    return [Span(start, start, f"import {module}{ending}")]


def _group(body: Sequence[ast.stmt], first: int) -> list[ast.Import | ast.ImportFrom]:
    """Imports in consecutive lines."""
    group: list[ast.Import | ast.ImportFrom] = []
    for statement in body[first:]:
        if not isinstance(statement, _Import):
            break
        if group and statement.lineno > (group[-1].end_lineno or 0) + 1:
            break
        group.append(statement)
    return group


def _is_standard(statement: ast.Import | ast.ImportFrom) -> bool:
    name = statement.module if isinstance(statement, ast.ImportFrom) else statement.names[0].name
    return (name or "").partition(".")[0] in sys.stdlib_module_names


def removed(source: Source, statement: ast.stmt) -> Span:
    """Takes a statement out: its lines, or its part of a line with semicolons.

    Raises:
        CannotEdit: its block would be empty, or stands in the line of its header.
    """
    block = _block_of(source, statement)
    if len(block) == 1:
        raise CannotEdit("it is all that its block does", statement.lineno)
    first = last = block.index(statement)
    while first and block[first - 1].end_lineno == block[first].lineno:
        first -= 1
    while last + 1 < len(block) and block[last + 1].lineno == block[last].end_lineno:
        last += 1
    if source.indent_before(block[first]) is None:
        raise CannotEdit("its block stands in one line", statement.lineno)
    end = source.line_start((block[last].end_lineno or 0) + 1)
    if first == last:
        start, after = _above(source, statement), (block[last].end_lineno or 0) + 1
        while start == 0 and _is_blank(source, after):
            after += 1  # no file begins with blank lines
        return Span(start, source.line_start(after), "")
    start = source.start_of(block[first])
    place = block.index(statement) - first
    return Span(start, end, _without(source, source.text[start:end], place))


def without_imports(source: Source, gone: Sequence[ast.expr]) -> list[Span]:
    """Takes out the imported names that nothing but these expressions uses."""
    names = [one.id for part in gone for one in ast.walk(part) if isinstance(one, ast.Name)]
    used = [node.id for node in ast.walk(source.tree) if isinstance(node, ast.Name)]
    spans = []
    for statement in source.tree.body:
        if not isinstance(statement, _Import):
            continue
        kept = [
            alias
            for alias in statement.names
            if (name := _local_name(alias)) not in names or names.count(name) != used.count(name)
        ]
        if not kept:
            spans.append(removed(source, statement))
        elif len(kept) < len(statement.names) and statement.lineno == statement.end_lineno:
            first, last = statement.names[0], statement.names[-1]
            text = ", ".join(ast.unparse(alias) for alias in kept)
            spans.append(Span(source.start_of(first), source.end_of(last), text))
    return spans


def _local_name(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _block_of(source: Source, statement: ast.stmt) -> list[ast.stmt]:
    parent = source.parents[statement]
    for name in ("body", "orelse", "finalbody"):
        block: list[ast.stmt] = getattr(parent, name, [])
        if isinstance(block, list) and statement in block:
            return block
    raise CannotEdit("it stands in an unusual place", statement.lineno)


def _above(source: Source, statement: ast.stmt) -> int:
    """The start of its line, or as many blank lines earlier as are left after it."""
    first, after = statement.lineno, (statement.end_lineno or 0) + 1
    while first > 1 and not source.line(first - 1).strip() and _is_blank(source, after):
        first, after = first - 1, after + 1
    return source.line_start(first)


def _is_blank(source: Source, line: int) -> bool:
    text = source.line(line)
    return bool(text) and not text.strip()


def _without(source: Source, text: str, place: int) -> str:
    """A line of several statements without one of them."""
    module = _module(text, source.newline)
    line = module.body[0]
    if len(module.body) != 1 or not isinstance(line, cst.SimpleStatementLine):
        raise CannotEdit("its line could not be taken apart")
    parts = [part for number, part in enumerate(line.body) if number != place]
    parts[-1] = parts[-1].with_changes(semicolon=_DEFAULT)
    return module.with_changes(body=[line.with_changes(body=parts)]).code


def _module(text: str, newline: str) -> cst.Module:
    config = cst.PartialParserConfig(default_newline=newline)
    try:
        module = cst.parse_module(text, config)
    except cst.ParserSyntaxError:
        raise CannotEdit("LibCST cannot read the statement") from None
    if module.code != text:
        raise CannotEdit("the layout of the statement would not survive")
    return module


def without_context(source: Source, statement: ast.With, place: int) -> Span:
    """Takes one manager out of a `with`; without any left, its body stays, one level further out.

    Raises:
        CannotEdit: what the manager gives has a name, or the statement shares its line.
    """
    if statement.items[place].optional_vars is not None:
        raise CannotEdit("what its `with` gives has a name", statement.lineno)
    indent = source.indent_before(statement)
    if indent is None:
        raise CannotEdit("its block stands in one line", statement.lineno)
    start = source.line_start(statement.lineno)
    end = source.line_start(_last_line(source, statement, indent) + 1)
    frame = f"if True:{source.newline}" if indent else ""
    module = _module(frame + source.text[start:end], source.newline)
    outer = module.body[0].body if indent else module
    assert isinstance(outer, cst.IndentedBlock | cst.Module)
    inner = outer.body[0]
    assert isinstance(inner, cst.With)
    if len(inner.items) > 1:
        kept = _fewer_items(inner, place)
        changed: cst.CSTNode = outer.with_changes(body=[kept, *outer.body[1:]])
    else:
        changed = _unwrapped(outer, inner)
    if indent:
        around = module.body[0].with_changes(body=changed)
        changed = module.with_changes(body=[around])
    assert isinstance(changed, cst.Module)
    return Span(start, end, changed.code[len(frame) :])


def _last_line(source: Source, statement: ast.With, indent: str) -> int:
    """Of its body, with the comments at its end that belong to it."""
    last = line = statement.end_lineno or 0
    while text := source.line(line + 1):
        line += 1
        if not text.strip():
            continue
        deeper = text.startswith(indent) and text[len(indent) :][:1] in (" ", "\t")
        if not (deeper and text.lstrip().startswith("#")):
            break
        last = line
    return last


def _fewer_items(statement: cst.With, place: int) -> cst.With:
    items = [item for number, item in enumerate(statement.items) if number != place]
    if place == len(items):
        items[-1] = items[-1].with_changes(comma=statement.items[-1].comma)
    return statement.with_changes(items=items)


def _unwrapped(outer: cst.IndentedBlock | cst.Module, inner: cst.With) -> cst.CSTNode:
    """The body of a `with` in its place."""
    body = inner.body
    footer = [*outer.footer]
    lines: list[cst.BaseStatement]
    if isinstance(body, cst.IndentedBlock):
        lines = [*body.body]
        footer = [*body.footer, *footer]
    else:
        assert isinstance(body, cst.SimpleStatementSuite)
        ending = body.trailing_whitespace
        lines = [cst.SimpleStatementLine(body=body.body, trailing_whitespace=ending)]
    return outer.with_changes(body=[*lines, *outer.body[1:]], footer=footer)


def in_context(source: Source, statements: Sequence[ast.stmt], call: str) -> Span:
    """Puts statements that follow each other into a `with`, one level further in.

    Raises:
        CannotEdit: they share lines with others.
    """
    items = [cst.WithItem(cst.parse_expression(call))]
    return _further_in(source, statements, lambda body: cst.With(items=items, body=body))


def under_condition(source: Source, statements: Sequence[ast.stmt], test: str) -> Span:
    """Puts statements that follow each other under an `if`, one level further in.

    Raises:
        CannotEdit: they share lines with others.
    """
    condition = cst.parse_expression(test)
    return _further_in(source, statements, lambda body: cst.If(test=condition, body=body))


def _further_in(
    source: Source,
    statements: Sequence[ast.stmt],
    block_of: Callable[[cst.IndentedBlock], cst.BaseCompoundStatement],
) -> Span:
    first, last = statements[0], statements[-1]
    indent = source.indent_before(first)
    if not indent:
        raise CannotEdit("its block stands in one line", first.lineno)
    end = source.line_start((last.end_lineno or 0) + 1)
    if source.text[source.end_of(last) : end].strip().startswith(";"):
        raise CannotEdit("several statements share a line", last.lineno)
    start = source.line_start(first.lineno)
    frame = f"if True:{source.newline}"
    module = _module(frame + source.text[start:end], source.newline)
    outer = module.body[0]
    assert isinstance(outer, cst.If)
    inner = outer.body
    assert isinstance(inner, cst.IndentedBlock)
    body = cst.IndentedBlock(body=inner.body, indent=_step(source, first))
    around = outer.with_changes(body=inner.with_changes(body=[block_of(body)]))
    return Span(start, end, module.with_changes(body=[around]).code[len(frame) :])


def _step(source: Source, statement: ast.stmt) -> str | None:
    """How much further in a block stands than what it belongs to."""
    parent = source.parents[statement]
    outer = source.indent_before(parent) if isinstance(parent, ast.stmt) else None
    inner = source.indent_before(statement) or ""
    return inner[len(outer) :] or None if outer is not None else None


def own_indent(source: Source, statement: ast.stmt) -> str:
    """The indentation of a statement that starts its line.

    Raises:
        CannotEdit: it does not.
    """
    indent = source.indent_before(statement)
    if indent is None:
        raise CannotEdit("its block stands in one line", statement.lineno)
    return indent


def lines_above(source: Source, statement: ast.stmt, lines: Sequence[str]) -> Span:
    """Puts lines before a statement and the comments right above it.

    Raises:
        CannotEdit: the statement does not start its line.
    """
    indent = own_indent(source, statement)
    first = statement.lineno
    while first > 1 and source.line(first - 1).startswith(f"{indent}#"):
        first -= 1
    start = source.line_start(first)
    return Span(start, start, "".join(f"{indent}{line}{source.newline}" for line in lines))
