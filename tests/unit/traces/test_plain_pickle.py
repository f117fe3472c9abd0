"""Pickles of plain data are read as Python reads them; nothing else is, whatever it asks for."""

from __future__ import annotations

import os
import pickle
import random
import struct
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.traces import plain_pickle
from trainprof.profiler.traces.plain_pickle import PickleError, load_plain

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300)
)
plain = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=20,
)


@given(plain, st.sampled_from([3, 4, 5]))
def test_plain_data_is_read_as_python_reads_it(data, protocol):
    text = pickle.dumps(data, protocol)
    assert load_plain(text) == data == pickle.loads(text)


def test_what_is_shared_stays_shared():
    shared = [{"name": "forward"}]
    for protocol in (2, 3, 4):
        one, other = load_plain(pickle.dumps([shared, shared], protocol))
        assert one is other


class Evil:
    def __reduce__(self):
        return (os.system, ("touch /tmp/never",))


class Stated:
    def __init__(self):
        self.a = 1


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("data", [Evil(), Stated(), OrderedDict(a=1), len, {1, 2}, frozenset("a")])
def test_anything_else_is_refused(data, protocol):
    with pytest.raises(PickleError, match=r"names code|belongs to no plain data"):
        load_plain(pickle.dumps([data], protocol))


@pytest.mark.parametrize("text", [b"", b"\x80", b"\x80\x04", b"\x80\x04.", b"garbage", b"."])
def test_what_ends_or_is_no_pickle_is_a_sentence(text):
    with pytest.raises(PickleError, match=r"damaged|plain data"):
        load_plain(text)


BOMBS = {
    "a memo of four billion places": b"\x80\x02]r\xff\xff\xff\xff.",
    "text of 2**62 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"a.",
    "bytes of 2**62 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a.",
    "a frame of 2**62 bytes": b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"].",
    "a key that is deep": b"\x80\x02}" + b")" + b"\x85" * 300_000 + b"Ns.",
    "a list of a list": b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a float as a key": b"\x80\x02}G" + struct.pack(">d", 1.5) + b"Ns.",
    "marks without an end": b"\x80\x02" + b"(" * 300_000 + b".",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=list(BOMBS))
def test_what_wants_to_break_it_does_not(text):
    try:
        found = load_plain(text)
    except PickleError:
        return
    assert isinstance(found, list)


def test_containers_are_bounded(monkeypatch):
    monkeypatch.setattr(plain_pickle, "MOST_CONTAINERS", 1000)
    with pytest.raises(PickleError, match="more than 1,000 lists"):
        load_plain(b"\x80\x02](" + b"}" * 2000 + b"e.")


def test_references_and_depth_are_bounded(monkeypatch):
    monkeypatch.setattr(plain_pickle, "MOST_CONTAINERS", 1000)
    monkeypatch.setattr(plain_pickle, "MOST_DEPTH", 100)
    with pytest.raises(PickleError, match="refers to more than 1,000"):
        load_plain(b"\x80\x04]" + b"\x94" * 2000 + b".")
    with pytest.raises(PickleError, match="nested more than 100 deep"):
        load_plain(b"\x80\x04" + b"(" * 200 + b".")


def test_damaged_pickles_never_crash():
    random_numbers = random.Random(4)
    sound = pickle.dumps([{"a": (1, 2.5, "text", b"bytes", None, True, 2**70)}] * 3, 4)
    for _ in range(3000):
        text = bytearray(sound)
        for _ in range(random_numbers.randint(1, 4)):
            text[random_numbers.randrange(len(text))] = random_numbers.randrange(256)
        try:
            load_plain(bytes(text))
        except PickleError:
            continue
