import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.reports import numbers

POSITIVE = st.floats(min_value=1e-12, max_value=1e12, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (3e-10, "under 1 ns"),
        (850e-9, "850 ns"),
        (41.23e-6, "41.2 µs"),
        (999.96e-6, "1 ms"),
        (0.0412, "41.2 ms"),
        (0.9999, "1 s"),
        (12.34, "12.3 s"),
        (119.6, "120 s"),
        (320.2, "5 min 20 s"),
        (3 * 3600 + 12 * 60, "3 h 12 min"),
        (2 * 86400 + 4 * 3600, "2 d 4 h"),
        (-0.01, "-10 ms"),
        (None, "not measured"),
        (math.nan, "not measured"),
        (math.inf, "not measured"),
    ],
)
def test_seconds(value, text):
    assert numbers.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 %"),
        (0.0001, "under 0.1 %"),
        (0.0312, "3.1 %"),
        (0.0996, "10 %"),
        (0.482, "48 %"),
        (1.0, "100 %"),
        (None, "not measured"),
        (math.nan, "not measured"),
    ],
)
def test_share(value, text):
    assert numbers.share(value) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (1.41, 2.08, "1.4-2.1x"),
        (1.04, 1.12, "1.04-1.12x"),
        (1.96, 1.98, "2.0x"),
        (math.nan, 2.0, "not measured"),
        (1.0, math.inf, "not measured"),
    ],
)
def test_ratio(low, high, text):
    assert numbers.ratio(low, high) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.482, "share", "48 %"),
        (0, "count", "0"),
        (1234567, "count", "1,234,567"),
        (3.5, "count", "3.5"),
        (41_200_000, "ns", "41.2 ms"),
        (1536, "bytes", "1.5 KiB"),
        (3 << 30, "bytes/s", "3 GiB/s"),
        (7.958, "ratio", "7.96x"),
        (8, "version", "8.0"),
        (True, "bool", "yes"),
        (1, "bool", "yes"),
        ("foreach", "text", "foreach"),
        (3.2, "cores", "3.2 cores"),
        (math.nan, "cores", "not measured"),
        (None, "s", "not measured"),
    ],
)
def test_quantity(value, unit, text):
    assert numbers.quantity(value, unit) == text


@given(POSITIVE)
def test_seconds_keep_three_digits_and_a_figure_below_a_thousand(value):
    text = numbers.seconds(value)
    figure = re.fullmatch(r"([\d.]+) (ns|µs|ms|s)", text)
    if figure is None:
        assert value >= 119 or value < 1e-9
        return
    scale = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}[figure[2]]
    assert float(figure[1]) < 1000
    assert float(figure[1]) * scale == pytest.approx(value, rel=0.006)


@given(st.floats())
def test_no_float_prints_as_nan_or_an_exponent(value):
    for text in (numbers.seconds(value), numbers.share(value), numbers.size(value)):
        assert not re.search(r"nan|inf|e[+-]", text)
    assert not re.search(r"nan|inf|\de", numbers.significant(value))


@given(st.floats(min_value=0.1, max_value=1e15))
def test_significant_is_within_half_a_digit(value):
    text = numbers.significant(value)
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.0051)
