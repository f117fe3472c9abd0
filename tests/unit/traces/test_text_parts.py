"""Text that a thread reads ahead: the same in every order of events, and what spoils it is told."""

from __future__ import annotations

import gzip
import io
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.traces import text_parts
from trainprof.profiler.traces.text_parts import TextParts


@pytest.fixture
def threads():
    """How many there are before the test: the runner may have some of its own."""
    return threading.active_count()


def whole(parts):
    return b"".join(parts)


@given(
    texts=st.lists(st.binary(min_size=1, max_size=5000), max_size=4),
    packed=st.booleans(),
    ahead=st.integers(0, 3),
    cut=st.integers(0, 20),
)
def test_what_is_read_ahead_is_what_the_file_holds(texts, packed, ahead, cut):
    text = b"".join(texts)
    if not packed and text[:2] == b"\x1f\x8b":
        return
    file = b"".join(map(gzip.compress, texts)) if packed else text
    file = file[: len(file) - cut] if packed else file
    with TextParts(io.BytesIO(file)) as parts:
        if ahead:
            parts.start(ahead)
            parts.stop()
        found = whole(parts)
    assert text.startswith(found)
    if not (packed and cut):
        assert found == text
        assert not parts.torn
    elif len(file) > 2:
        assert parts.torn or found == text


def test_a_part_has_no_more_than_is_asked_for(monkeypatch):
    monkeypatch.setattr(text_parts, "PART_BYTES", 1000)
    with TextParts(io.BytesIO(gzip.compress(bytes(10_500)))) as parts:
        assert [len(one) for one in parts] == [1000] * 10 + [500]


def test_no_more_is_kept_than_it_may(monkeypatch):
    monkeypatch.setattr(text_parts, "PART_BYTES", 10)
    file = io.BytesIO(bytes(1000))
    with TextParts(file) as parts:
        parts.start(3)
        parts.stop()
        assert file.tell() <= 30
        assert len(whole(parts)) == 1000


def test_a_process_may_fork_after_a_stop(threads):
    with TextParts(io.BytesIO(gzip.compress(os.urandom(100_000) * 20))) as parts:
        parts.start(2)
        parts.stop()
        assert threading.active_count() == threads
        child = os.fork()
        if child == 0:
            os._exit(len(whole(parts)) == 2_000_000)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


class Broken(io.BytesIO):
    def read(self, size=-1):
        text = super().read(10)
        if not text:
            raise OSError(5, "Input/output error")
        return text


def test_an_error_of_the_file_comes_after_what_was_read(threads):
    found = []
    with pytest.raises(OSError, match="Input/output"), TextParts(Broken(bytes(25))) as parts:
        found.extend(parts)
    assert whole(found) == bytes(25)
    assert threading.active_count() == threads


def test_a_reader_that_has_enough_leaves_no_thread(threads):
    with TextParts(io.BytesIO(bytes(1 << 22))) as parts:
        assert next(iter(parts))
    assert threading.active_count() == threads


def test_a_system_without_room_for_a_thread_costs_only_time(monkeypatch):
    def full(thread):
        raise RuntimeError("can't start new thread")

    with TextParts(io.BytesIO(gzip.compress(bytes(1 << 21)))) as parts:
        parts.start(1)
        parts.stop()
        monkeypatch.setattr(threading.Thread, "start", full)
        assert whole(parts) == bytes(1 << 21)
    with TextParts(io.BytesIO(bytes(10))) as parts, pytest.raises(OSError, match="new thread"):
        parts.start(1)
