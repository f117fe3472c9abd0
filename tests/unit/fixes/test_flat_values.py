"""Samples as bytes, and the memory that processes share: what goes in comes out, bit for bit."""

from __future__ import annotations

import multiprocessing
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")

from trainprof.rules.fixes.flat_values import FlatValues, NoFlatValue  # noqa: E402
from trainprof.rules.fixes.same_values import same_values  # noqa: E402
from trainprof.rules.fixes.shared_store import SharedStore  # noqa: E402

VALUES = FlatValues(torch)
TENSORS = [
    torch.arange(6.0).reshape(2, 3),
    torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1),
    torch.arange(10, dtype=torch.uint8)[2:],
    torch.tensor(float("nan")),
    torch.tensor([1 + 2j]),
    torch.zeros(0, 4),
    torch.ones(3, dtype=torch.bfloat16),
    torch.tensor([True, False]),
]
ARRAYS = [
    numpy.arange(6.0).reshape(2, 3),
    numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
    numpy.zeros((0, 2)),
    numpy.float32(1.5),
    numpy.int64(7),
    numpy.bool_(True),
]
plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5)
)
leaves = st.one_of(plain, st.sampled_from(TENSORS), st.sampled_from(ARRAYS))
samples = st.recursive(
    leaves,
    lambda part: st.one_of(
        st.lists(part, max_size=3),
        st.tuples(part, part),
        st.dictionaries(st.text(max_size=3), part, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(samples, st.integers(0, 3))
def test_a_sample_comes_back_as_it_was(sample, lines):
    record = VALUES.packed(sample)
    assert record == VALUES.packed(sample)
    buffer = memoryview(bytearray(64 * lines) + record)
    found = VALUES.unpacked(buffer, 64 * lines)
    assert same_values(torch, found, sample)
    buffer[64 * lines :] = bytes(len(record))  # nothing of it lies in there
    assert same_values(torch, found, sample)


def test_gaps_are_left_out():
    part = torch.arange(20.0).reshape(4, 5)[:, 1:3]
    found = VALUES.unpacked(VALUES.packed(part), 0)
    assert torch.equal(found, part)
    assert found.is_contiguous()


class Number(int):
    """Prints otherwise, perhaps."""


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({1, 2}, "a builtins.set"),
        ([Number(3)], "Number"),
        (object(), "a builtins.object"),
        (numpy.array(["a"]), "a NumPy array of <U1"),
        (numpy.array([object()]), "a NumPy array of object"),
        (torch.nn.Parameter(torch.ones(1)), "Parameter"),
        (torch.ones(1, requires_grad=True), "ones with gradients"),
        (torch.ones(1, device="meta"), "tensors on a device"),
    ],
)
def test_what_is_not_taken(value, named):
    with pytest.raises(NoFlatValue, match=named):
        VALUES.packed((1, value))


def read(store, key):
    found = store.get(key)
    if found is None:
        return None
    buffer, offset, length = found
    return bytes(buffer[offset : offset + length])


def test_records_by_number():
    store = SharedStore(100, 64 * 50, 64 * 50)
    for key in range(0, 9000, 90):
        assert store.put(key, str(key).encode())
    assert [read(store, key) for key in (0, 90, 8910)] == [b"0", b"90", b"8910"]
    assert read(store, 1) is None
    assert store.put(90, b"another") is True
    assert read(store, 90) == b"90"
    assert store.held == 100
    assert not store.put(1, b"one record too many")


def test_a_record_that_does_not_fit():
    store = SharedStore(10, 128)
    assert store.put(1, bytes(100))
    assert not store.put(2, b"x")
    assert not store.put(3, bytes(1000))
    store = SharedStore(10, 128, 256)
    assert store.put(1, bytes(100))
    assert store.put(2, b"y" * 200)  # on the disk, whole
    assert read(store, 2) == b"y" * 200


def test_processes_write_at_the_same_time():
    store = SharedStore(2000, 2000 * 64)

    def write(first):
        done = sum(store.put(key, b"%d" % key) for key in range(first, 2000, 2))
        os._exit(0 if done == 1000 else 1)

    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write, args=(first,)) for first in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert all(read(store, key) == b"%d" % key for key in range(2000))
