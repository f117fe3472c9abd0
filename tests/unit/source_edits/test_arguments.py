"""Arguments of one call: whatever its layout, nothing changes but what is asked for."""

import ast
import io
import tokenize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.rules.source_edits.arguments import Arguments, literal_code
from trainprof.rules.source_edits.source import CannotEdit


def added(text, name="k", value=1):
    arguments = Arguments(text, "\n")
    arguments.add(name, value)
    return arguments.text


def without(text, name="k"):
    arguments = Arguments(text, "\n")
    arguments.remove(arguments.place(name))
    return arguments.text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("f()", "f(k=1)"),
        ("f(a)", "f(a, k=1)"),
        ("f(a, b=2)", "f(a, b=2, k=1)"),
        ("f(a,b=2)", "f(a,b=2,k=1)"),
        ("f(a, b = 2)", "f(a, b = 2, k = 1)"),
        ("f(a, )", "f(a, k=1, )"),
        ("f(a, b=2,  # two\n)", "f(a, b=2, k=1,  # two\n)"),
        ("f(\n    a, b=2\n)", "f(\n    a, b=2, k=1\n)"),
        ("f(\n    a,\n    b=2,\n)", "f(\n    a,\n    b=2,\n    k=1,\n)"),
        ("f(\n    a,\n    b=2\n)", "f(\n    a,\n    b=2,\n    k=1\n)"),
        ("f(\n    a,\n    b=2)", "f(\n    a,\n    b=2,\n    k=1)"),
        ("f(\n    a,\n    b=2, )", "f(\n    a,\n    b=2,\n    k=1, )"),
        ("f(a,\n  b=2)", "f(a,\n  b=2,\n  k=1)"),
        ("f(\n\ta\n\t)", "f(\n\ta,\n\tk=1\n\t)"),
        ("f(\n    a,\n    b=2,  # two\n)", "f(\n    a,\n    b=2,  # two\n    k=1,\n)"),
        ("f(\n    a,\n    b=2  # two\n)", "f(\n    a,\n    b=2,  # two\n    k=1\n)"),
        ("f(\n    a,\n    # end\n)", "f(\n    a,\n    # end\n    k=1,\n)"),
        ("f(a, \\\n  b=2)", "f(a, \\\n  b=2, k=1)"),
        ("x\n  .f(a)", "x\n  .f(a, k=1)"),
    ],
)
def test_an_argument_is_added_in_the_style_of_the_call(before, after):
    assert added(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("f(k=1)", "f()"),
        ("f(a, k=1)", "f(a)"),
        ("f(a, k=1, )", "f(a, )"),
        ("f(a, k=1, b=2)", "f(a, b=2)"),
        ("f(k=1, b=2)", "f(b=2)"),
        ("f(\n    a,\n    k=1,\n)", "f(\n    a,\n)"),
        ("f(\n    a,\n    k=1\n)", "f(\n    a\n)"),
        ("f(\n    a,\n    k=1)", "f(\n    a)"),
        ("f(\n    a,  # one\n    k=1,  # gone\n)", "f(\n    a,  # one\n)"),
        ("f(\n    a,  # one\n    k=1)", "f(\n    a  # one\n    )"),
        ("f(\n    a,\n    k=1,\n    b=2,\n)", "f(\n    a,\n    b=2,\n)"),
        ("f(\n    a,  # one\n    k=1,  # gone\n    b=2\n)", "f(\n    a,  # one\n    b=2\n)"),
        ("f(a,\n  k=1,\n  b=2)", "f(a,\n  b=2)"),
        ("f(\n    a, k=1,\n    b=2)", "f(\n    a,\n    b=2)"),
        ("f(\n    k=1,\n    b=2)", "f(\n    b=2)"),
        ("f(\n    a,\n    k=1, b=2)", "f(\n    a,\n    b=2)"),
    ],
)
def test_an_argument_is_removed_with_its_line(before, after):
    assert without(before) == after


def test_a_value_is_changed_in_its_place():
    arguments = Arguments("f(a, k = 1 , # one\n b=2)", "\n")
    arguments.change(arguments.place("k"), 16)
    assert arguments.text == "f(a, k = 16 , # one\n b=2)"


def test_a_positional_argument_is_found_by_its_position():
    arguments = Arguments("f(a, 7, k=1)", "\n")
    assert arguments.place("n", 1) == 1
    assert arguments.literal(1) == (True, 7)
    assert arguments.place("n", 2) is None
    assert arguments.place("n", 5) is None


@pytest.mark.parametrize(("text", "named"), [("f(a, **o)", r"\*\*o"), ("f(*o.all)", r"\*o\.all")])
def test_unpacked_arguments_are_left_to_a_person(text, named):
    with pytest.raises(CannotEdit, match=named):
        Arguments(text, "\n")


@pytest.mark.parametrize("value", [0, 3, -1, 2.5, True, None, 'a "b"', "é"])
def test_a_literal_says_what_it_is(value):
    assert ast.literal_eval(literal_code(value)) == value


def test_windows_line_ends_stay():
    arguments = Arguments("f(\r\n    a,\r\n)", "\r\n")
    arguments.add("k", 1)
    assert arguments.text == "f(\r\n    a,\r\n    k=1,\r\n)"


# Calls in any layout: a name, arguments, and white space of any kind between all tokens.

GAP = st.sampled_from(["", "", " ", "  ", "\n    ", "\n", "  # note, (k=1)\n        ", "\\\n  "])
VALUE = st.sampled_from(["2", "True", "None", "'x, k=3'", "[1, 2]", "g(k=5)", "a if b else c"])
NAMES = st.lists(st.sampled_from(["a", "b", "c", "d"]), unique=True, max_size=4)


@st.composite
def calls(draw, with_k=False):
    names = draw(NAMES)
    place = draw(st.integers(0, len(names))) if with_k else -1
    if with_k:
        names.insert(place, "k")
    parts = [draw(VALUE) for _ in range(draw(st.integers(0, 2)))]
    values = ["1" if name == "k" else draw(VALUE) for name in names]
    parts += [
        f"{name}{draw(GAP)}={draw(GAP)}{value}" for name, value in zip(names, values, strict=True)
    ]
    text = "f" + draw(st.sampled_from(["", " "])) + "(" + draw(GAP)
    for number, part in enumerate(parts):
        text += part + draw(GAP)
        if number + 1 < len(parts) or draw(st.booleans()):
            text += "," + draw(GAP)
    return text + ")"


def shape(text):
    """The call without its argument k, which is given apart."""
    call = ast.parse(text, mode="eval").body
    assert isinstance(call, ast.Call)
    k = [keyword.value.value for keyword in call.keywords if keyword.arg == "k"]
    call.keywords = [keyword for keyword in call.keywords if keyword.arg != "k"]
    return ast.dump(call), k


def comments(text):
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


@given(calls())
def test_of_any_call_nothing_changes_but_the_argument(text):
    new = added(text, value=7)
    assert shape(new) == (shape(text)[0], [7])
    assert comments(new) == comments(text)


@given(calls(with_k=True))
def test_of_any_call_the_argument_goes(text):
    assert shape(without(text)) == (shape(text)[0], [])


@given(calls(with_k=True))
def test_of_any_call_only_the_value_changes(text):
    arguments = Arguments(text, "\n")
    arguments.change(arguments.place("k"), 88)
    head, tail = _around_value(text)
    assert arguments.text == f"{head}88{tail}"


def _around_value(text):
    call = ast.parse(text, mode="eval").body
    (value,) = [keyword.value for keyword in call.keywords if keyword.arg == "k"]
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return (
        text[: starts[value.lineno - 1] + value.col_offset],
        text[starts[value.end_lineno - 1] + value.end_col_offset :],
    )


@given(calls())
def test_what_was_added_is_removed_without_a_trace(text):
    if ast.parse(text, mode="eval").body.args or ast.parse(text, mode="eval").body.keywords:
        assert without(added(text)) == text
