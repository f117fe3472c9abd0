"""The arguments of one call, changed with LibCST; what is not changed keeps its layout."""

from __future__ import annotations

import ast
import json
from typing import Any

import libcst as cst

from trainprof.rules.source_edits.source import CannotEdit

_NONE = cst.SimpleWhitespace("")
_SPACE = cst.SimpleWhitespace(" ")
_DEFAULT = cst.MaybeSentinel.DEFAULT
_PLAIN = ("", " ")
_Space = cst.SimpleWhitespace | cst.ParenthesizedWhitespace


def literal_code(value: Any) -> str:
    """A JSON value as Python source."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


class Arguments:
    """The arguments of a call that can be set and removed.

    Args:
        text: The call.
        newline: Between its lines.

    Raises:
        CannotEdit: its arguments are unpacked from elsewhere, or its layout would not survive.
    """

    def __init__(self, text: str, newline: str) -> None:
        self._newline = newline
        config = cst.PartialParserConfig(default_newline=newline)
        try:
            call = cst.parse_expression(f"({text})", config)  # a chain of methods may span lines
        except cst.ParserSyntaxError:
            raise CannotEdit("LibCST cannot read the call") from None
        if not isinstance(call, cst.Call) or self._code(call)[1:-1] != text:
            raise CannotEdit("the layout of the call would not survive")
        star = next((argument for argument in call.args if argument.star), None)
        if star is not None:
            raise CannotEdit(f"its arguments come from {star.star}{self._code(star.value)}")
        self._call = call
        self._before: _Space = call.whitespace_before_args  # type: ignore[assignment]
        self._arguments = list(call.args)

    @property
    def text(self) -> str:
        """The call as it is now."""
        call = self._call.with_changes(args=self._arguments, whitespace_before_args=self._before)
        return self._code(call)[1:-1]

    def in_lines(self, indent: str, step: str, width: int) -> str:
        """The call over several lines: all arguments in one, else each in its own.

        Args:
            indent: Of the statement.
            step: One level further in.
            width: Of a line at most.
        """
        codes = [
            self._code(one.with_changes(comma=_DEFAULT, whitespace_after_arg=_NONE))
            for one in self._arguments
        ]
        function, inner = self._code(self._call.func), indent + step
        together = f"{inner}{', '.join(codes)}"
        if len(together) > width:
            together = self._newline.join(f"{inner}{code}," for code in codes)
        return f"{function}({self._newline}{together}{self._newline}{indent})"

    def _code(self, node: cst.CSTNode) -> str:
        return cst.Module(body=[], default_newline=self._newline).code_for_node(node)

    def place(self, name: str, position: int | None = None) -> int | None:
        """Which argument it is, by its name or its position; None where it is left out."""
        for index, argument in enumerate(self._arguments):
            if argument.keyword is not None and argument.keyword.value == name:
                return index
        if position is not None and position < len(self._arguments):
            return position if self._arguments[position].keyword is None else None
        return None

    def is_named(self, place: int) -> bool:
        """Whether an argument is passed by its name."""
        return self._arguments[place].keyword is not None

    def code(self, place: int) -> str:
        """The source of an argument's value."""
        return self._code(self._arguments[place].value)

    def literal(self, place: int) -> tuple[bool, Any]:
        """Whether an argument is a plain value, and which."""
        try:
            return True, ast.literal_eval(self.code(place))
        except (ValueError, SyntaxError, TypeError):
            return False, None

    def change(self, place: int, value: Any) -> None:
        """Gives an argument another value."""
        code = cst.parse_expression(literal_code(value))
        self._arguments[place] = self._arguments[place].with_changes(value=code)

    def add(self, name: str, value: Any) -> None:
        """Adds a keyword argument at the end, on a line of its own where the last one has that."""
        new = cst.Arg(
            keyword=cst.Name(name),
            value=cst.parse_expression(literal_code(value)),
            equal=self._equal_sign(),
        )
        if not self._arguments:
            self._arguments = [new]
            return
        lead = self._space_before(len(self._arguments) - 1)
        among = len(self._arguments) > 1 and self._code(lead) in _PLAIN
        last = self._arguments.pop()
        if isinstance(lead, cst.ParenthesizedWhitespace):
            self._arguments += _on_own_line(last, new, lead)
        else:
            self._arguments += _on_same_line(last, new, lead if among else _SPACE)

    def _equal_sign(self) -> cst.AssignEqual:
        """As the last keyword argument has it."""
        for argument in reversed(self._arguments):
            sign = argument.equal
            if isinstance(sign, cst.AssignEqual):
                spaces = (sign.whitespace_before, sign.whitespace_after)
                if all(space in _PLAIN for space in map(self._code, spaces)):
                    return sign
                break
        return cst.AssignEqual(whitespace_before=_NONE, whitespace_after=_NONE)

    def _space_before(self, place: int) -> _Space:
        return self._before if place == 0 else _space_after(self._arguments[place - 1])

    def remove(self, place: int) -> None:
        """Takes an argument out, with the comment at the end of its own line."""
        gap = self._space_before(place)
        gone = self._arguments.pop(place)
        rest = _space_after(gone)
        if not self._arguments:
            self._before = _NONE
        elif place and place == len(self._arguments):
            self._arguments[-1] = _now_last(self._arguments[-1], gone, gap, rest)
        elif place:
            self._arguments[place - 1] = _now_next(self._arguments[place - 1], gap, rest)
        elif not isinstance(gap, cst.ParenthesizedWhitespace):
            return  # the next one follows the bracket
        elif isinstance(rest, cst.ParenthesizedWhitespace):
            self._before = _joined(gap, rest)


def _space_after(argument: cst.Arg) -> _Space:
    if isinstance(argument.comma, cst.Comma):
        space = argument.comma.whitespace_after
    else:
        space = argument.whitespace_after_arg
    return space  # type: ignore[return-value]


def _new_line(model: cst.ParenthesizedWhitespace) -> cst.ParenthesizedWhitespace:
    """A line's end and the same indentation, without comments."""
    return cst.ParenthesizedWhitespace(
        first_line=cst.TrailingWhitespace(newline=model.first_line.newline),
        indent=model.indent,
        last_line=model.last_line,
    )


def _joined(
    first: cst.ParenthesizedWhitespace, second: cst.ParenthesizedWhitespace
) -> cst.ParenthesizedWhitespace:
    """The white space that is left when what stood between two of them is gone."""
    return second.with_changes(
        first_line=first.first_line, empty_lines=[*first.empty_lines, *second.empty_lines]
    )


def _on_same_line(last: cst.Arg, new: cst.Arg, lead: _Space) -> list[cst.Arg]:
    """The last argument and the new one, which takes over what follows."""
    if isinstance(last.comma, cst.Comma):
        ending = _space_after(last)
        comma = last.comma.with_changes(whitespace_after=lead)
        return [last.with_changes(comma=comma), new.with_changes(comma=_comma(ending))]
    return [
        last.with_changes(comma=_comma(lead), whitespace_after_arg=_NONE),
        new.with_changes(whitespace_after_arg=last.whitespace_after_arg),
    ]


def _on_own_line(last: cst.Arg, new: cst.Arg, lead: cst.ParenthesizedWhitespace) -> list[cst.Arg]:
    """The last argument and the new one, which starts a line; the closing bracket stays its own."""
    ending = _space_after(last)
    start = _new_line(lead)
    if isinstance(ending, cst.ParenthesizedWhitespace):
        # The comments after the last argument stay with it.
        start = start.with_changes(first_line=ending.first_line, empty_lines=ending.empty_lines)
        ending = _new_line(ending)
    if isinstance(last.comma, cst.Comma):
        comma = last.comma.with_changes(whitespace_after=start)
        return [last.with_changes(comma=comma), new.with_changes(comma=_comma(ending))]
    return [
        last.with_changes(comma=_comma(start), whitespace_after_arg=_NONE),
        new.with_changes(whitespace_after_arg=ending),
    ]


def _comma(space: _Space) -> cst.Comma:
    return cst.Comma(whitespace_after=space)


def _now_last(before: cst.Arg, gone: cst.Arg, gap: _Space, rest: _Space) -> cst.Arg:
    """The argument before the one that was last."""
    if isinstance(gap, cst.ParenthesizedWhitespace):
        if isinstance(rest, cst.ParenthesizedWhitespace):
            rest = _joined(gap, rest)
        elif gap.first_line.comment is not None or gap.empty_lines:
            rest = gap  # else the bracket would be part of the comment
    comma = before.comma
    if isinstance(gone.comma, cst.Comma) and isinstance(comma, cst.Comma):
        return before.with_changes(comma=comma.with_changes(whitespace_after=rest))
    return before.with_changes(comma=_DEFAULT, whitespace_after_arg=rest)


def _now_next(before: cst.Arg, gap: _Space, rest: _Space) -> cst.Arg:
    """The argument before one in the middle."""
    if isinstance(rest, cst.ParenthesizedWhitespace):
        if isinstance(gap, cst.ParenthesizedWhitespace):
            rest = _joined(gap, rest)
        comma = before.comma
        assert isinstance(comma, cst.Comma)
        return before.with_changes(comma=comma.with_changes(whitespace_after=rest))
    return before
