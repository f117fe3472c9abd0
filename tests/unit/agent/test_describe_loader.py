import json

import pytest
import torch
from torch.utils import data

from trainprof.profiler.agent.describe import describe_loader


class Squares(data.Dataset):
    """A data set whose place in the source is this class."""

    def __getitem__(self, index):
        return index * index

    def __len__(self):
        return 10

    def __repr__(self):
        raise AssertionError("the agent must not ask for a repr")


class Stream(data.IterableDataset):
    def __iter__(self):
        return iter(range(10))

    def __len__(self):
        raise AssertionError("an iterable data set is never asked for its length")


class Unsized(data.Dataset):
    def __getitem__(self, index):
        return index

    def __len__(self):
        raise NotImplementedError


def _own_collate(batch):
    return batch


def _line_of(text):
    with open(__file__, encoding="utf-8") as source:
        return next(n for n, line in enumerate(source, 1) if line.startswith(text))


def test_all_keys_of_a_plain_loader():
    loader = data.DataLoader(Squares(), batch_size=4, shuffle=True, drop_last=True, timeout=0)
    fact = describe_loader(torch, loader)
    assert fact == {
        "num_workers": 0,
        "batch_size": 4,
        "shuffle": True,
        "pin_memory": False,
        "drop_last": True,
        "prefetch_factor": None,
        "persistent_workers": False,
        "in_order": True,
        "timeout_s": 0.0,
        "multiprocessing_context": None,
        "sampler": "torch.utils.data.sampler.RandomSampler",
        "sharded": False,
        "collate": "torch.utils.data._utils.collate.default_collate",
        "dataset_type": f"{__name__}.Squares",
        "dataset_where": {
            "file": __file__,
            "line": _line_of("class Squares"),
            "function": "Squares",
        },
        "dataset_length": 10,
        "dataset_paths": {},
        "dataset_objects": 0,
        "dataset_objects_bytes": 0,
        "iterable": False,
        "batches": 2,
    }
    assert json.loads(json.dumps(fact)) == fact


def test_workers_and_own_functions():
    loader = data.DataLoader(
        Squares(),
        num_workers=2,
        prefetch_factor=3,
        persistent_workers=True,
        multiprocessing_context="spawn",
        collate_fn=_own_collate,
        timeout=5,
    )
    fact = describe_loader(torch, loader)
    assert fact["num_workers"] == 2
    assert fact["prefetch_factor"] == 3
    assert fact["persistent_workers"] is True
    assert fact["multiprocessing_context"] == "spawn"
    assert fact["timeout_s"] == 5.0
    assert fact["collate"] == f"{__name__}._own_collate"
    assert fact["shuffle"] is False


def test_iterable_data_set_is_not_asked_for_a_length():
    fact = describe_loader(torch, data.DataLoader(Stream(), batch_size=2))
    assert fact["iterable"] is True
    assert fact["dataset_length"] is None
    assert fact["batches"] is None
    assert fact["shuffle"] is None
    assert fact["dataset_where"]["line"] == _line_of("class Stream")


def test_length_that_raises_is_missing():
    fact = describe_loader(torch, data.DataLoader(Unsized(), sampler=range(3)))
    assert fact["dataset_length"] is None
    assert fact["shuffle"] is None
    assert fact["batches"] == 3


def test_where_looks_inside_subsets():
    subset = data.ConcatDataset([data.Subset(Squares(), [1, 2])])
    fact = describe_loader(torch, data.DataLoader(subset))
    assert fact["dataset_type"] == "torch.utils.data.dataset.ConcatDataset"
    assert fact["dataset_where"]["line"] == _line_of("class Squares")
    assert fact["dataset_length"] == 2


def test_data_sets_of_torch_and_lists_have_no_place_in_the_source():
    tensors = data.TensorDataset(torch.zeros(4, 1))
    assert "dataset_where" not in describe_loader(torch, data.DataLoader(tensors))
    assert describe_loader(torch, data.DataLoader([1, 2, 3]))["dataset_type"] == "list"


class OwnSampler(data.Sampler):
    def __iter__(self):
        return iter(range(3))


@pytest.mark.parametrize(
    ("sampler", "shuffle"),
    [
        (data.SequentialSampler(range(4)), False),
        (data.SubsetRandomSampler([1, 2]), True),
        (data.WeightedRandomSampler([1.0, 2.0], 2), True),
        (data.DistributedSampler(Squares(), num_replicas=2, rank=0, shuffle=True), True),
        (data.DistributedSampler(Squares(), num_replicas=2, rank=0, shuffle=False), False),
        (OwnSampler(), None),
    ],
)
def test_shuffle_by_sampler(sampler, shuffle):
    fact = describe_loader(torch, data.DataLoader(Squares(), sampler=sampler))
    assert fact["shuffle"] is shuffle


def test_batch_sampler_and_no_batching():
    batches = data.BatchSampler(data.RandomSampler(Squares()), batch_size=5, drop_last=False)
    fact = describe_loader(torch, data.DataLoader(Squares(), batch_sampler=batches))
    assert (fact["batch_size"], fact["shuffle"], fact["batches"]) == (5, True, 2)
    unbatched = describe_loader(torch, data.DataLoader(Squares(), batch_size=None))
    assert (unbatched["batch_size"], unbatched["batches"]) == (None, 10)


def test_reading_leaves_the_loader_as_it_was():
    loader = data.DataLoader(Squares(), batch_size=4)
    before = dict(vars(loader))
    state = torch.get_rng_state()
    describe_loader(torch, loader)
    assert dict(vars(loader)) == before
    assert torch.equal(torch.get_rng_state(), state)
