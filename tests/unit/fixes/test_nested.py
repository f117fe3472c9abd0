"""Tensors are found and changed wherever modules put them."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import pack_sequence  # noqa: E402

from trainprof.rules.fixes.nested import Nested  # noqa: E402

Pair = namedtuple("Pair", "x name")
NESTED = Nested(torch.Tensor)


@dataclass
class Output:
    x: object
    rest: object = None


ONE = torch.ones(2)


@pytest.mark.parametrize(
    "value",
    [
        ONE,
        [ONE, 1],
        (ONE, "a"),
        {"x": ONE, 3: None},
        OrderedDict(x=[{"y": ONE}]),
        Pair(ONE, "a"),
        Output(ONE),
        Output([Output(ONE)], torch.float32),
        torch.ones(2, 2).max(1),
    ],
)
def test_tensors_are_changed_and_all_else_is_kept(value):
    doubled = NESTED.changed(value, lambda one: 2 * one)
    assert type(doubled) is type(value)
    pairs = list(zip(NESTED.tensors(value), NESTED.tensors(doubled), strict=True))
    assert pairs
    assert all(torch.equal(2 * old, new) for old, new in pairs)
    assert NESTED.changed(value, lambda one: one) is value
    assert NESTED.unknown(value) is None


def test_packed_sequences_stay_packed():
    packed = pack_sequence([torch.ones(3, 2), torch.ones(1, 2)])
    double = NESTED.changed(packed, lambda one: one.double() if one.is_floating_point() else one)
    assert type(double) is type(packed)
    assert double.data.dtype is torch.float64
    assert torch.equal(double.batch_sizes, packed.batch_sizes)


def test_what_cannot_be_looked_into_is_named():
    class Box:
        x = ONE

    assert NESTED.unknown([1, {"a": (Box(),)}]) is Box
    assert NESTED.unknown((1, 2.0, "a", None, [True], torch.device("cpu"))) is None
    assert list(NESTED.tensors(Box())) == []
