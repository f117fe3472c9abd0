"""The figures: time, bytes, files, equal items, batches."""

import json
import random
import time
import warnings

import numpy as np
import pytest
import torch

from trainprof.profiler.agent import guard
from trainprof.profiler.probe.scratch.collating import measure_collate
from trainprof.profiler.probe.scratch.contents import digest, is_numbers, leaves, size_bytes
from trainprof.profiler.probe.scratch.items import Items
from trainprof.profiler.probe.scratch.journal import Journal
from trainprof.profiler.probe.scratch.meter import Cost, Meter

METER = Meter()  # its audit hook stays for good


class Made:
    """A data set whose items a function makes."""

    def __init__(self, make, length=6):
        self.make = make
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.make(index)


def measured(make, **settings):
    return Items(Made(make, **settings), METER).measure(time.perf_counter() + 5)


def test_a_wait_is_not_computing():
    found = measured(lambda index: time.sleep(0.02))
    assert found["item_s"] > 0.01
    assert found["item_cpu_s"] < 0.01
    assert found["item_blocked_s"] > 0.005


def test_queueing_beyond_the_wall_time_leaves_the_cpu_time():
    """The queue is read around the clock: on a crowded machine it may show more than the clock."""
    cost = Cost(0.004, 0.001, 0.009, 0.0, 0.0, 0.0)
    assert (cost.quiet_s, cost.blocked_s) == (0.001, 0.0)


def test_bytes_and_files_of_an_item_are_counted(tmp_path):
    for index in range(6):
        (tmp_path / f"{index}.bin").write_bytes(bytes(50_000))

    def make(index):
        return (tmp_path / f"{index}.bin").read_bytes() + (tmp_path / "0.bin").read_bytes()

    found = measured(make)
    assert found["item_files"] == 2
    assert 100_000 <= found["item_read_bytes"] <= 101_000
    assert found["item_bytes"] == 100_000


@pytest.mark.parametrize(
    ("make", "repeatable", "draws"),
    [
        (lambda index: torch.full((3,), index), True, False),
        (lambda index: torch.rand(3), False, True),
        (lambda index: (random.random() > 2, index), True, True),
        (lambda index: np.random.rand(3), False, True),
        (lambda index: np.random.default_rng().random(3), False, False),
        (lambda index: object(), None, False),
    ],
    ids=["same", "torch", "drawn, unused", "numpy", "unseeded", "opaque"],
)
def test_equal_items_and_random_draws(make, repeatable, draws):
    found = measured(make)
    assert (found["repeatable"], found["draws_random_numbers"]) == (repeatable, draws)


def test_it_stops_when_its_time_is_up_but_not_before_two_items():
    found = Items(Made(lambda index: index), METER).measure(time.perf_counter() - 1)
    assert found["items"] == 2


def test_an_empty_data_set_tells_nothing():
    assert measured(lambda index: index, length=0) is None


def test_items_are_fetched_in_the_way_of_torchs_fetcher():
    dataset = Made(None)
    dataset.__getitems__ = lambda indices: [index * 10 for index in indices]
    assert Items(dataset, METER).fetch(3) == 30


def test_leaves_and_sizes():
    item = {"x": torch.zeros(4), "y": (np.zeros(2), [1, 2, 3]), "z": "abc"}
    assert [path for path, _ in leaves(item)] == [".x", ".y[0]", ".y[1]", ".z"]
    assert size_bytes(item) == 16 + 16 + 24 + 3
    assert is_numbers([[1.0, 2.0]])
    assert not is_numbers([torch.zeros(1)])
    assert not is_numbers([])


def test_digests_tell_contents_types_and_shapes_apart():
    things = [
        torch.zeros(4),
        torch.zeros(2, 2),
        torch.zeros(4, dtype=torch.int32),
        np.zeros(4),
        np.int64(0),
        np.float64(0),
        [0, 0],
        [0, 0.5],
        "a",
        b"a",
        {"a": 1},
        {"b": 1},
    ]
    assert len({digest(thing) for thing in things}) == len(things)
    assert digest(torch.ones(3)) == digest(torch.ones(3))
    assert digest({"a": object()}) is None
    assert digest(np.array([object()])) is None


def items_of(make, kept=8):
    items = Items(Made(make, length=kept), METER)
    items.measure(time.perf_counter() + 1)
    return items


def collated(make, collate, batch_size=8):
    return measure_collate(torch, items_of(make), collate, batch_size, time.perf_counter() + 1)


def test_lists_of_numbers_are_dearer_than_stacking():
    found = collated(lambda index: [0.5] * 2000, lambda rows: torch.tensor(rows))
    assert found["collate_number_lists"] == 1
    assert found["collate_s"] > 3 * found["stack_s"]
    assert found["collate_hottest"] in ("<built-in method torch.tensor>", "<lambda>")
    assert found["collate_where"]["file"] == __file__


def test_torchs_warning_about_lists_of_arrays_is_noted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.tensor([np.zeros(5)] * 2)  # as in the making of an item: torch warns once
    found = collated(lambda index: np.zeros(50), lambda rows: torch.tensor(rows))
    assert found["collate_array_lists"] is True


def test_a_batch_larger_than_the_data_set_uses_items_again():
    found = collated(lambda index: torch.zeros(2), torch.stack, batch_size=20)
    assert found["batch_size"] == 20


@pytest.fixture
def journal(tmp_path):
    guard.reset()
    journal = Journal(str(tmp_path / "journal"), 3.0)
    yield journal, tmp_path / "journal"
    journal.close()
    guard.reset()


def test_what_a_stage_raises_becomes_one_sentence(journal):
    journal, path = journal
    journal.ready()
    assert journal.stage("good", lambda: {"a": 1})
    assert not journal.stage("bad", lambda: [][1])
    journal.done()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [
        {"stage": "ready"},
        {"stage": "good"},
        {"data": {"a": 1}},
        {"stage": "bad"},
        {"problem": "bad raised IndexError: list index out of range"},
        {"done": True},
    ]


def test_no_stage_lasts_beyond_the_budget(journal):
    journal, _ = journal
    journal.ready()
    now = time.perf_counter()
    assert journal.until(0.5) <= now + 1.6
    assert journal.until(99.0) <= now + 3.1
