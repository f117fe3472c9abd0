"""Turns numbers into text: the only place where a report formats a measured value.

Three significant digits, a unit that keeps the figure between 1 and 1,000, shares as whole per cent
(one digit under 10 %). A value that was not measured reads "not measured", never nan or 0.
"""

from __future__ import annotations

import math

NOT_MEASURED = "not measured"

_LONG_S = 120.0
_SHORT_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTE_UNITS = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))
_SECONDS_PER_UNIT = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_SHARE_UNITS = ("share", "fraction")


def significant(value: float | None) -> str:
    """`value` to three significant digits, thousands separated: 0.00123, 41.2, 12,300."""
    if value is None:
        return NOT_MEASURED
    rounded = float(f"{value:.3g}")
    if not math.isfinite(rounded):
        return NOT_MEASURED
    if rounded == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(rounded))))
    text = f"{rounded:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def count(value: float | None) -> str:
    """A whole number, thousands separated; a fractional mean to three significant digits."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    return f"{int(value):,}" if float(value).is_integer() else significant(value)


def seconds(value: float | None) -> str:
    """A duration in s as text: 850 ns, 41.2 ms, 12.3 s, 5 min 20 s, 3 h 12 min, 2 d 4 h."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    if value < 0:
        return f"-{seconds(-value)}"
    if value >= _LONG_S:
        return _long_duration(value)
    rounded = float(f"{value:.3g}")
    if rounded == 0:
        return "0 s"
    for size, unit in _SHORT_UNITS:
        # 0.9999 of the next unit rounds up to it, so the unit is chosen after the rounding.
        if rounded >= size * (1 - 1e-9):
            return f"{significant(rounded / size)} {unit}"
    return "under 1 ns"


def _long_duration(value_s: float) -> str:
    whole = round(value_s)
    minutes, rest_s = divmod(whole, 60)
    hours, rest_min = divmod(minutes, 60)
    days, rest_h = divmod(hours, 24)
    if days:
        return f"{days:,} d {rest_h} h"
    if hours:
        return f"{hours} h {rest_min} min"
    return f"{minutes} min {rest_s} s"


def share(value: float | None) -> str:
    """A share (0..1) in per cent: 48 %, 3.2 %, under 0.1 %."""
    if value is None or not math.isfinite(value * 100):
        return NOT_MEASURED
    percent = value * 100
    if percent == 0:
        return "0 %"
    if abs(percent) < 0.05:
        return "under 0.1 %"
    if round(abs(percent), 1) < 10:
        return f"{percent:.1f} %"
    return f"{percent:,.0f} %"


def size(value: float | None) -> str:
    """A number of bytes: 512 B, 1.50 MiB."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    for scale, unit in _BYTE_UNITS:
        if abs(value) >= scale:
            return f"{significant(value / scale)} {unit}"
    return f"{count(value)} B"


def ratio(low: float, high: float) -> str:
    """An interval of a speed-up: 1.4-2.1x; two digits where one would hide a small gain."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return NOT_MEASURED
    digits = 2 if min(low, high) < 1.1 else 1
    left, right = f"{low:,.{digits}f}", f"{high:,.{digits}f}"
    return f"{left}x" if left == right else f"{left}-{right}x"


def quantity(value: object, unit: str) -> str:
    """A value of any evidence or signal with its unit, in the form that suits the unit.

    Args:
        value: A number, a text or a truth value; None reads "not measured".
        unit: "share", "s", "ns", "bytes", "bytes/s", "count", "ratio", "version", "bool", "text"
            or any other word, which is then written after the number.
    """
    if value is None:
        return NOT_MEASURED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return str(value)
    return _number(float(value), unit)


def _number(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return NOT_MEASURED
    if unit in _SHARE_UNITS:
        return share(value)
    if unit in _SECONDS_PER_UNIT:
        return seconds(value * _SECONDS_PER_UNIT[unit])
    if unit == "bytes":
        return size(value)
    if unit == "bytes/s":
        return f"{size(value)}/s"
    if unit == "bool":
        return "yes" if value else "no"
    if unit == "ratio":
        return f"{significant(value)}x"
    if unit == "version":
        return f"{value:.1f}"
    if unit in ("", "count", "text"):
        return count(value)
    return f"{count(value)} {unit}"
