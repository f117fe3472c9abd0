import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.reports.markdown import code, escaped
from trainprof.reports.text import inert, printable


@given(st.text(), st.integers(min_value=4, max_value=50))
def test_printable_is_one_visible_line_of_bounded_length(text, limit):
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    shown.encode("utf-8")


@given(st.text(alphabet=st.characters(whitelist_categories=("L", "N")), max_size=80))
def test_printable_leaves_ordinary_text_alone(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc", "a b c"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("\u202egnol", "\\u202egnol"),
        ("\udcff", "\\udcff"),
        ("  indented", "  indented"),
        ("größe", "größe"),
        (None, "None"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown


def test_a_workflow_command_is_made_inert():
    assert inert("  ::error::x") == "  :error::x"
    assert inert("aten::add") == "aten::add"


@given(st.text())
def test_markdown_escapes_everything_that_could_begin_markup(text):
    rest = escaped(text)
    for special in "\\`*_[]<>#|~!@":
        rest = rest.replace("\\" + special, "")
    assert not set(rest) & set("`*_[]<>#|~!@")


@given(st.text(alphabet="`ab "))
def test_code_span_cannot_be_closed_from_inside(text):
    span = code(text)
    fence = len(span) - len(span.lstrip("`"))
    if text.strip("` "):
        assert "`" * fence not in span[fence:-fence].strip("`") or "`" not in text
