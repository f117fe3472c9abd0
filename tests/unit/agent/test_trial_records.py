"""What a trial records: seeds that are moved and counted, and which samples were drawn."""

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, IterableDataset, TensorDataset  # noqa: E402

from trainprof.profiler.agent import guard  # noqa: E402
from trainprof.profiler.agent.patching import Patches  # noqa: E402
from trainprof.profiler.agent.trial_records import TrialRecords  # noqa: E402

DATA = TensorDataset(torch.arange(20.0))


@pytest.fixture
def trial():
    """Installs the records of a trial; all is undone at the end."""
    installed = []

    def install(shift):
        patches, records = Patches(), TrialRecords(torch, shift)
        records.install(patches)
        installed.append((patches, records))
        return records

    yield install
    for patches, records in installed:
        records.uninstall()
        patches.undo()
    assert not guard.failures


def drawn():
    return random.random(), float(np.random.random()), float(torch.rand(()))


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def facts(records, kind):
    return {fact.key: fact.data for fact in records.facts() if fact.kind == kind}


def test_seeds_are_moved_and_counted(trial):
    seed_all(12)
    wanted = drawn()
    records = trial("5")
    seed_all(7)
    assert drawn() == wanted
    seeds = facts(records, "seeds")["seeds"]
    assert (seeds["shift"], seeds["calls"] >= 3) == (5, True)  # torch's own seeds the GPUs too


@pytest.mark.parametrize("shift", ["0", None])
def test_without_a_shift_seeds_stay(trial, shift):
    seed_all(7)
    wanted = drawn()
    trial(shift)
    seed_all(7)
    assert drawn() == wanted


def test_names_of_arguments_and_seeds_that_are_no_numbers(trial):
    random.seed(9)
    wanted = random.random()
    trial("5")
    random.seed(a=np.int64(4), version=2)
    assert random.random() == wanted
    random.seed("text")
    first = random.random()
    random.Random().seed()
    random.seed("text")
    assert random.random() == first
    random.seed()


def test_all_is_as_before_afterwards():
    before = random.seed, np.random.seed, torch.manual_seed, torch.random.manual_seed
    patches, records = Patches(), TrialRecords(torch, "1")
    records.install(patches)
    assert torch.manual_seed is not before[2]
    records.uninstall()
    patches.undo()
    now = random.seed, np.random.seed, torch.manual_seed, torch.random.manual_seed
    assert now == before


def test_a_run_that_is_no_trial_is_left_alone():
    before = torch.manual_seed
    records = TrialRecords(torch, None)
    records.install(Patches())
    assert torch.manual_seed is before
    assert records.facts() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_every_epoch_of_every_loader(trial, workers):
    records = trial("0")
    shuffled = DataLoader(
        DATA, batch_size=8, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    for _ in range(2):
        list(shuffled)
    shuffled._iterator = None
    for _ in DataLoader(DATA, batch_size=4):
        break
    epochs = list(facts(records, "samples").values())
    assert [epoch["counts"] for epoch in epochs] == [[8, 8, 4], [8, 8, 4], [4]]
    assert [epoch["complete"] for epoch in epochs] == [True, True, False]
    assert sum(epochs[0]["sums"]) & ((1 << 61) - 1) == sum(epochs[1]["sums"]) & ((1 << 61) - 1)
    assert epochs[0]["sums"] != epochs[1]["sums"]


def test_a_sample_twice_instead_of_another_is_seen(trial):
    records = trial("0")
    list(DataLoader(DATA, sampler=[*range(19), 3], batch_size=5))
    list(DataLoader(DATA, sampler=[*range(20)], batch_size=5))
    one, other = facts(records, "samples").values()
    assert one["counts"] == other["counts"]
    assert sum(one["sums"]) != sum(other["sums"])


def test_keys_that_are_no_numbers_and_streams(trial):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([1.0, 2.0])

    records = trial("0")
    list(DataLoader(Stream()))
    list(DataLoader({"a": 1.0, "b": 2.0}, sampler=["a", "b"], batch_size=2))
    assert [epoch["counts"] for epoch in facts(records, "samples").values()] == [[2]]
