import re

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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("data_wait at 3: ok", "data_wait at 3: ok"),
        ("_a_ __b__", "\\_a\\_ \\_\\_b\\_\\_"),
        ("<b> & [x](y) :tada:", "\\<b\\> \\& \\[x\\](y) \\:tada:"),
        ("*a* `b` | #1 @me ~c~ $d$ \\", "\\*a\\* \\`b\\` \\| \\#1 \\@me \\~c\\~ \\$d\\$ \\\\"),
    ],
)
def test_markdown_escapes_what_could_begin_markup(text, shown):
    assert escaped(text) == shown


@given(st.text())
def test_markdown_text_unescapes_to_itself(text):
    assert re.sub(r"\\([^\w\s]|_)", r"\1", escaped(text)) == printable(text)


@given(st.text(alphabet="`ab ", min_size=1))
def test_code_span_cannot_be_closed_from_inside(text):
    span = code(text)
    fence = span[: len(span) - len(span.lstrip("`"))] if "`" in text else "`"
    assert span.startswith(fence)
    assert span.endswith(fence)
    assert fence not in re.findall(r"`+", text)
