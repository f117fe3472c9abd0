import collections
import dataclasses
from types import SimpleNamespace

import pytest
import torch

from trainprof.profiler.agent.describe import batch_samples, describe_batch

Pair = collections.namedtuple("Pair", "x y")


@dataclasses.dataclass
class Record:
    name: str
    x: torch.Tensor


X = torch.zeros(6, 2)
Y = torch.zeros(6, dtype=torch.int64)


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        (X, 6),
        ([X, Y], 6),
        ((X, Y), 6),
        ({"x": X, "y": Y}, 6),
        (collections.OrderedDict(x=X), 6),
        (collections.UserDict(x=X), 6),
        (Pair(X, Y), 6),
        (Record("a", X), 6),
        ((["names"], {"deep": [X]}), 6),
        (torch.nn.Parameter(X), 6),
        ([torch.tensor(1.0), X], 6),
        ((["text"] * 500, X), 6),
        (torch.tensor(1.0), -1),
        ([], -1),
        ({}, -1),
        ((), -1),
        ("text", -1),
        (3, -1),
        (None, -1),
        (["a", "b"], -1),
        (SimpleNamespace(x=X), -1),
    ],
)
def test_samples(batch, samples):
    assert batch_samples(batch) == samples


def test_self_containing_batch_ends():
    batch = []
    batch.append(batch)
    assert batch_samples(batch) == -1
    assert describe_batch(torch, batch)["tensors"] == []


def test_describe_nested_batch():
    fact = describe_batch(torch, {"x": X, "more": (Y, [Record("a", X.double())])})
    assert fact["samples"] == 6
    assert fact["bytes"] == 6 * 2 * 4 + 6 * 8 + 6 * 2 * 8
    assert fact["tensors"] == [
        {"dtype": "float32", "shape": [6, 2], "device": "cpu", "bytes": 48},
        {"dtype": "int64", "shape": [6], "device": "cpu", "bytes": 48},
        {"dtype": "float64", "shape": [6, 2], "device": "cpu", "bytes": 96},
    ]


def test_batches_without_tensors_cost_little(nanoseconds_per_call):
    batch = [{"text": "a", "words": ["b"] * 500}] * 500
    assert nanoseconds_per_call(lambda: batch_samples(batch), calls=20) < 100_000


def test_at_most_64_tensors():
    assert len(describe_batch(torch, [X] * 100)["tensors"]) == 64


@pytest.mark.parametrize("batch", [X, (X, Y), [X, Y], {"x": X, "y": Y}])
def test_cost_per_batch(batch, nanoseconds_per_call):
    # 200 to 300 ns on the machine it was written on; the limit leaves room for slower ones
    assert nanoseconds_per_call(lambda: batch_samples(batch)) < 1_000
