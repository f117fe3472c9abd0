"""What the agent copies of a data set, what it refuses, and what comes out at the other end."""

import functools
import os
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    TensorDataset,
)

from trainprof.profiler.agent import dataset_copy
from trainprof.profiler.agent.dataset_copy import DatasetCopy
from trainprof.profiler.agent.registry import LoaderRegistry


class Holder(Dataset):
    """A data set with one attribute."""

    def __init__(self, held):
        self.held = held

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.held


class WithState(Holder):
    calls = 0

    def __getstate__(self):
        type(self).calls += 1
        return self.__dict__


class Endless(IterableDataset):
    def __init__(self, start=3):
        self.start = start

    def __iter__(self):
        while True:
            yield self.start


class HalfWay(Endless):
    """Holds on to what it iterates."""

    def __iter__(self):
        self.rows = (row for row in range(9))
        return self.rows


@pytest.mark.parametrize(
    "held",
    [
        torch.arange(6.0).reshape(2, 3),
        torch.tensor(3, dtype=torch.bfloat16),
        torch.empty(0, 3),
        torch.arange(12).reshape(3, 4).t(),
        np.arange(10).reshape(2, 5),
        [1.5] * 5000,
        tuple(range(20)),
        ["a", None, b"b", 1, True] * 7,
        [("path", 1)] * 30,
        {"key": [1, 2]},
    ],
    ids=str,
)
def test_values_come_back_equal(reread, held):
    back = reread(Holder(held)).part("dataset").held
    assert type(back) is type(held)
    if isinstance(held, torch.Tensor):
        assert back.dtype == held.dtype
        assert torch.equal(back, held)
    elif isinstance(held, np.ndarray):
        assert np.array_equal(back, held)
    else:
        assert back == held


def test_a_data_set_that_can_only_be_iterated_comes_back(reread):
    assert next(iter(reread(Endless(7)).part("dataset"))) == 7


def test_one_that_is_half_way_through_is_refused(copy):
    dataset = HalfWay()
    iter(dataset)
    fact, _ = copy(DataLoader(dataset))
    assert "cannot pickle 'generator' object" in fact["reason"]


def test_lambdas_and_closures_come_back(reread):
    scale = 3
    back = reread(Holder([lambda x: x * scale, functools.partial(lambda x, y: x - y, y=1)]))
    first, second = back.part("dataset").held
    assert (first(2), second(5)) == (6, 4)


def test_a_memory_mapped_file_is_noted_by_name(reread, tmp_path):
    array = np.memmap(tmp_path / "data.bin", dtype="int32", mode="w+", shape=(3, 4))
    array[:] = np.arange(12).reshape(3, 4)
    array.flush()
    copied = reread(Holder(array))
    assert os.path.getsize(tmp_path / "dataset-l0.buffers") == 0
    assert np.array_equal(copied.part("dataset").held, array)


def test_the_order_of_batches_comes_along(reread):
    generator = torch.Generator().manual_seed(5)
    dataset = TensorDataset(torch.arange(10))
    loader = {"batch_size": 4, "shuffle": True, "generator": generator}
    copied = reread(Subset(dataset, range(10)), **loader)
    batches = list(copied.part("batch_sampler"))
    assert sorted(index for batch in batches for index in batch) == list(range(10))
    assert copied.part("batch_sampler").sampler.data_source is copied.part("dataset")


def test_the_size_of_batches_may_be_the_batch_samplers(reread):
    sampler = BatchSampler(SequentialSampler(range(4)), 3, drop_last=False)
    assert reread(Holder(1), batch_sampler=sampler).header["batch_size"] == 3


def test_an_unreadable_part_does_not_lose_the_others(reread):
    with open(os.devnull) as file:
        copied = reread(Holder(1), collate_fn=functools.partial(print, file=file))
    assert copied.part("dataset").held == 1
    with pytest.raises(ValueError, match="cannot be pickled"):
        copied.part("collate_fn")


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (WithState(1), "WithState has a __getstate__ of its own"),
        (Holder(iter([1])), None),
        (Holder(threading.Lock()), "cannot pickle '_thread.lock' object"),
        (Holder(sys.stderr), "cannot be pickled"),
        (Holder(i for i in range(3)), "cannot be pickled"),
        (Holder(torch.empty(2, device="meta")), "tensors on meta"),
        (Holder(torch.eye(2).to_sparse()), "sparse"),
        (Holder(bytearray(dataset_copy.MOST_BUFFER_BYTES + 1)), "more than 256 MiB"),
    ],
    ids=["getstate", "iterator", "lock", "open file", "generator", "device", "sparse", "large"],
)
def test_what_is_refused_is_said_in_one_sentence(copy, tmp_path, dataset, reason):
    fact, _ = copy(DataLoader(dataset))
    if reason is None:
        assert "reason" not in fact
        return
    assert reason in fact["reason"]
    assert "\n" not in fact["reason"]
    assert list(tmp_path.glob("dataset-*")) == []


def test_the_users_getstate_is_not_called(copy):
    copy(DataLoader(WithState(1)))
    assert WithState.calls == 0


def test_it_gives_up_after_its_time(copy, monkeypatch):
    monkeypatch.setattr(dataset_copy, "MOST_CPU_S", 0.0)
    fact, _ = copy(DataLoader(Holder([("a", 1)] * 5000)))
    assert "would disturb the training" in fact["reason"]


def test_a_class_defined_inside_a_function_is_refused(copy, script):
    module = script(
        "from torch.utils.data import Dataset\n"
        "def make():\n"
        "    class Inner(Dataset):\n"
        "        def __len__(self): return 1\n"
        "        def __getitem__(self, i): return i\n"
        "    return Inner()\n"
    )
    fact, _ = copy(DataLoader(module.make()))
    assert "Inner is defined inside a function" in fact["reason"]


def test_it_is_done_once_when_the_first_steps_are(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINPROF_PROBE", "1")
    loader = DataLoader(TensorDataset(torch.arange(3)))

    class Entry:
        pass

    entry = Entry()
    entry.loader = lambda: loader
    entry.dataset = lambda: loader.dataset
    registry = Entry()
    registry.entries = [entry]
    copier = DatasetCopy(torch, lambda: str(tmp_path))
    assert copier.attempt(registry, {0}, 19) is None
    assert copier.attempt(registry, {0}, 20)[0] == "l0"
    assert copier.attempt(registry, {0}, 21) is None


def test_nothing_is_copied_unless_the_probe_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("TRAINPROF_PROBE", "0")
    assert DatasetCopy(torch, lambda: str(tmp_path)).attempt(None, {0}, 100) is None


def copying(loaders, training, tmp_path, monkeypatch):
    """What is copied of several loaders, one after the other."""
    monkeypatch.setenv("TRAINPROF_PROBE", "1")
    entries = [
        SimpleNamespace(
            loader=lambda loader=loader: loader, dataset=lambda loader=loader: loader.dataset
        )
        for loader in loaders
    ]
    copier = DatasetCopy(torch, lambda: str(tmp_path))
    made = [copier.attempt(SimpleNamespace(entries=entries), training, 20 + n) for n in range(3)]
    return {key: fact.get("role") for key, fact in filter(None, made)}


def test_the_validations_data_set_is_copied_too(tmp_path, monkeypatch):
    one, two, three = (DataLoader(TensorDataset(torch.arange(n))) for n in (3, 4, 5))
    copied = copying([one, two, three], {1}, tmp_path, monkeypatch)
    assert copied == {"l1": None, "l0": "validation"}
    assert (tmp_path / "dataset-l0.pickle").exists()


def test_validating_on_the_data_set_of_the_training_is_no_other_data_set(tmp_path, monkeypatch):
    dataset = TensorDataset(torch.arange(3))
    loaders = [DataLoader(dataset), DataLoader(dataset, batch_size=2)]
    assert copying(loaders, {0}, tmp_path, monkeypatch) == {"l0": None}


def test_a_loader_that_is_made_for_each_validation_may_be_gone(tmp_path, monkeypatch):
    registry = LoaderRegistry()
    training, held_out = TensorDataset(torch.arange(3)), TensorDataset(torch.arange(4))
    loader = DataLoader(training)
    registry.number(loader, None)
    registry.number(DataLoader(held_out), None)
    assert registry.entries[1].loader() is None
    monkeypatch.setenv("TRAINPROF_PROBE", "1")
    copier = DatasetCopy(torch, lambda: str(tmp_path))
    made = [copier.attempt(registry, {0}, 20) for _ in range(3)]
    assert [one and (one[0], one[1].get("role")) for one in made] == [
        ("l0", None),
        ("l1", "validation"),
        None,
    ]


def test_a_large_validation_is_not_copied(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_copy, "MOST_VALIDATION_BYTES", 100)
    loaders = [DataLoader(TensorDataset(torch.arange(n))) for n in (3, 50)]
    assert copying(loaders, {0}, tmp_path, monkeypatch) == {"l0": None, "l1": "validation"}
    assert not (tmp_path / "dataset-l1.pickle").exists()
