"""What a terminal would show of the output, as lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.reports.dashboard.output import MOST_CHARACTERS, MOST_LINES, Output


def _lines(*blocks):
    output = Output()
    for block in blocks:
        output.feed(block)
    return output.lines()


@pytest.mark.parametrize(
    ("printed", "lines"),
    [
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\ntwo", ["one", "two"]),
        (b"  1/3\r  2/3\r  3/3\ndone\n", ["  3/3", "done"]),  # tqdm
        (b"longer\rshort\n", ["shortr"]),  # as a terminal shows it
        (b"longer\r\x1b[Kshort\n", ["short"]),
        (b"outer 1\ninner 1\x1b[A\router 2\ninner 2", ["outer 2", "inner 2"]),  # nested bars
        (b"\x1b[1;31mred\x1b[0m plain\n", ["red plain"]),
        (b"\x1b]0;title\x07text\n", ["text"]),
        (b"ab\bc\n", ["ac"]),
        (b"a\tb\n", ["a       b"]),
        (b"\xff\xfebad\n", ["\ufffd\ufffdbad"]),
        (b"", []),
    ],
)
def test_what_a_terminal_shows(printed, lines):
    assert _lines(printed) == lines


def test_no_move_of_the_cursor_takes_more_than_the_lines_that_are_kept():
    lines = _lines(b"\x1b[999999999Btext\x1b[999999999C\x1b[999999999A\x1b[999999999G")
    assert len(lines) == MOST_LINES
    assert lines[-1] == "text"


def test_a_number_of_thousands_of_digits_moves_as_far_as_there_are_lines():
    lines = _lines(b"above\n\x1b[" + b"9" * 5_000 + b"Afirst")
    assert lines == ["first"]


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_where_the_output_is_cut_makes_no_difference(blocks):
    assert _lines(*blocks) == _lines(b"".join(blocks))


def test_only_the_latest_lines_are_kept():
    output = Output()
    output.feed(b"".join(b"%d\n" % number for number in range(MOST_LINES + 500)))
    assert len(output.lines()) == MOST_LINES - 1
    assert output.lines()[-1] == str(MOST_LINES + 499)
    assert output.lines()[0] == str(output.first)


def test_long_lines_are_cut():
    assert [len(line) for line in _lines(b"x" * 100_000)] == [MOST_CHARACTERS]


def test_a_search_goes_back_and_begins_again_at_the_end():
    output = Output()
    output.feed(b"Loss 1\nother\nloss 2\n")
    assert output.find("loss", 3) == 2
    assert output.find("LOSS", 2) == 0
    assert output.find("loss", 0) == 2
    assert output.find("nothing", 3) is None
