"""Data sets that can only be iterated: what their items cost, from the beginning."""

import time

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import IterableDataset

from trainprof.profiler.probe.scratch.collating import measure_collate
from trainprof.profiler.probe.scratch.duplicates import Contents
from trainprof.profiler.probe.scratch.lengths import measure_padding
from trainprof.profiler.probe.scratch.meter import Meter
from trainprof.profiler.probe.scratch.parts import measure_parts
from trainprof.profiler.probe.scratch.stream import Stream

METER = Meter()  # its audit hook stays for good


def busy(seconds):
    """CPU time: what others take of the CPU is not counted by the probe either."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def cheap(row):
    return row


def dear(row):
    busy(0.001)
    return row


class Rows(IterableDataset):
    """Opens slowly, then gives rows."""

    def __init__(self, make, count=40, opening_s=0.0):
        self.make = make
        self.count = count
        self.opening_s = opening_s

    def __iter__(self):
        busy(self.opening_s)
        for number in range(self.count):
            yield cheap(dear(self.make(number)))


def soon(seconds=30.0):
    return time.perf_counter() + seconds


def stream_of(make, **settings):
    stream = Stream(Rows(make, **settings), METER)
    return stream, stream.measure(soon())


def test_the_beginning_is_in_no_items_time():
    _, found = stream_of(lambda number: torch.zeros(4), opening_s=0.1, count=8)
    assert found["items"] == 7
    assert 0.0009 < found["item_s"] < 0.006
    assert found["item_bytes"] == 16
    assert "length" not in found


def test_a_stream_is_repeatable_or_not():
    assert stream_of(torch.tensor)[1]["repeatable"] is True
    _, found = stream_of(lambda number: torch.rand(2))
    assert (found["repeatable"], found["draws_random_numbers"]) == (False, True)


def test_what_iterating_calls_are_the_parts():
    stream, found = stream_of(lambda number: torch.zeros(4), opening_s=0.05, count=20)
    parts = measure_parts(stream, METER, soon(), found["item_s"])["parts"]
    assert parts[0]["name"] == "dear"
    assert parts[0]["s"] > 0.5 * found["item_s"]
    assert "busy" not in [part["name"] for part in parts]


def test_batches_and_padding_follow_the_order_of_the_stream():
    stream, _ = stream_of(lambda number: torch.ones(4 if number % 4 else 16), count=48)
    collate = lambda rows: pad_sequence(rows, batch_first=True)  # noqa: E731
    assert measure_collate(torch, stream, collate, 8, soon())["batch_size"] == 8
    found = measure_padding(stream, collate, (), 8, soon())
    assert found["padding_batches"] == 6
    assert abs(found["padding_share"] - (1 - 7 / 16)) < 1e-9
    assert measure_padding(stream, collate, (), None, soon()) is None


def test_copies_are_counted_only_at_the_end():
    stream, _ = stream_of(lambda number: torch.tensor(number % 30), count=60)
    found = Contents(torch, stream).measure(soon())
    assert (found["hashed_items"], found["distinct_items"]) == (60, 30)
    assert (found["hashed_all"], found["hashed_at_random"]) == (True, False)


def test_a_data_set_that_is_its_own_iterator():
    class Own(IterableDataset):
        def __iter__(self):
            self.number = 0
            return self

        def __next__(self):
            self.number += 1
            if self.number > 12:
                raise StopIteration
            return dear(self.number)

    stream = Stream(Own(), METER)
    found = stream.measure(soon())
    assert (found["items"], found["repeatable"]) == (11, True)
    assert measure_parts(stream, METER, soon(), 0.001)["parts"][0]["name"] == "dear"
