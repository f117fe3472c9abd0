"""How rules read signals and word figures."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules import reading


def one(value: object, **bounds: float) -> Signals:
    return Signals({"x.y": Signal(value, "s", **bounds)})


@pytest.mark.parametrize("value", [None, True, "3", math.nan, math.inf, [1]])
def test_what_is_no_number_reads_as_not_measured(value: object) -> None:
    assert reading.number(one(value), "x.y") is None
    with pytest.raises(LookupError, match=r"x\.y"):
        reading.needed(one(value), "x.y")


def test_bounds_fall_back_to_the_value() -> None:
    assert (reading.low(one(3), "x.y"), reading.high(one(3), "x.y")) == (3.0, 3.0)
    bounded = one(3, low=2.0, high=5.0)
    assert (reading.low(bounded, "x.y"), reading.high(bounded, "x.y")) == (2.0, 5.0)


def test_a_switch_that_was_not_read_is_not_on() -> None:
    assert reading.is_on(one(True), "x.y")
    assert not reading.is_on(one(1), "x.y")
    assert not reading.is_on(one(None), "x.y")


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Location("a.py", 3), Location("a.py", 3)),
        ({"file": "a.py", "line": 3, "function": "f"}, Location("a.py", 3, "f")),
        ({"file": "a.py"}, None),
        ("a.py:3", None),
    ],
)
def test_places(value: object, place: Location | None) -> None:
    assert reading.place(one(value), "x.y") == place


def test_evidence_of_a_missing_signal_is_none_at_all() -> None:
    assert reading.observed(one(None), "x.y") == ()
    (evidence,) = reading.observed(one(0.5), "x.y", 0.1, "XProf")
    assert (evidence.value, evidence.unit, evidence.threshold) == (0.5, "s", 0.1)


def test_summed_share_leaves_out_what_was_not_measured() -> None:
    signals = Signals({"step.forward_share": Signal(0.3, low=0.2), "step.loss_share": Signal(0.1)})
    share, low = reading.summed_share(signals, ("forward", "loss", "backward")) or (0, 0)
    assert (share, low) == (pytest.approx(0.4), pytest.approx(0.3))
    assert reading.summed_share(Signals(), ("forward",)) is None


@pytest.mark.parametrize(
    ("devices", "on_cpu"),
    [({"cpu": 10}, True), ({"cuda:0": 10}, False), ({"cpu": 1, "cuda:0": 9}, False), (None, True)],
)
def test_trains_on_cpu(devices: object, on_cpu: bool) -> None:
    assert reading.trains_on_cpu(Signals({"model.devices": Signal(devices)})) is on_cpu


@given(st.floats(-1, 2), st.floats(1, 1e6))
def test_amdahl_stays_between_nothing_and_the_bound(share: float, ratio: float) -> None:
    assert 1.0 <= reading.amdahl(share, ratio) <= 100.001


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1, 100), st.floats(1, 100))
def test_gain_is_an_interval(a: float, b: float, c: float, d: float) -> None:
    interval = reading.gain(a, b, c, d)
    assert interval.low <= interval.high


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (3e-8, "30 ns"),
        (5.6e-5, "56 µs"),
        (0.0123, "12.3 ms"),
        (12, "12 s"),
        (1500, "25 min"),
        (12_600, "3.5 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert reading.duration(seconds) == text


@pytest.mark.parametrize(
    ("per_step", "text"),
    [
        (12.0, "12 calls a step"),
        (1.0, "one call a step"),
        (0.02, "one call in 50 steps"),
        (0.0, "no call"),
    ],
)
def test_rates(per_step: float, text: str) -> None:
    assert reading.rate(per_step) == text


def test_percentages_sizes_and_plurals() -> None:
    assert [reading.percent(x) for x in (0.416, 0.042, 0.0994, 1.0)] == [
        *("42 %", "4.2 %", "9.9 %", "100 %")
    ]
    assert [reading.size(x) for x in (500, 5300, 3 << 30)] == ["500 B", "5.18 KiB", "3 GiB"]
    assert [reading.plural(x, "worker") for x in (1, 2)] == ["1 worker", "2 workers"]
