"""Loaders that are made anew in each epoch go on with the same workers."""

from __future__ import annotations

import os

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, Dataset  # noqa: E402


class Rows(Dataset):
    """Samples say which process read them."""

    def __init__(self):
        self.scale = 1

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return index * self.scale, os.getpid()


def epoch(data, **options):
    """Makes a loader as scripts do in each epoch; gives order and processes."""
    loader = DataLoader(data, batch_size=4, shuffle=True, num_workers=2, **options)
    order, readers = [], set()
    for values, processes in loader:
        order += values.tolist()
        readers |= set(processes.tolist())
    return order, readers


def epochs(count, data=None, **options):
    torch.manual_seed(3)
    data = data or Rows()
    return [epoch(data, **options) for _ in range(count)]


def test_the_workers_live_on_and_the_order_stays(apply):
    before = epochs(3)
    assert len(set.union(*(readers for _, readers in before))) == 6

    applied = apply("loader-kept", {})
    after = epochs(3)

    assert [order for order, _ in after] == [order for order, _ in before]
    assert len(set.union(*(readers for _, readers in after))) == 2
    assert applied.read() == (True, {"taken_over": 2, "started": 1}, None)


def test_what_is_drawn_between_epochs_stays(apply):
    def draws():
        torch.manual_seed(3)
        data = Rows()
        return [(epoch(data)[0], torch.rand(1).item()) for _ in range(3)]

    before = draws()
    apply("loader-kept", {})
    assert draws() == before


def test_workers_that_persist_change_no_order_either(apply):
    def orders():
        torch.manual_seed(3)
        loader = DataLoader(Rows(), batch_size=4, shuffle=True, num_workers=1)
        return [[value for values, _ in loader for value in values.tolist()] for _ in range(3)]

    before = orders()
    applied = apply("loader-workers", {"persistent_workers": True})
    assert orders() == before
    assert applied.read()[0] is True


def test_another_sampler_and_length(apply):
    apply("loader-kept", {})
    data, seen = Rows(), []
    for part in ([1, 2, 3, 4], [7, 9], [5]):
        loader = DataLoader(data, batch_size=2, sampler=part, num_workers=1)
        seen += [value for values, _ in loader for value in values.tolist()]
    assert seen == [1, 2, 3, 4, 7, 9, 5]


def test_one_loader_only(apply):
    applied = apply("loader-kept", {})
    epochs(1)
    active, _, reason = applied.read()
    assert (active, reason) == (None, "the script makes one loader only")


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (lambda data: epoch(Rows()), "each loader has another dataset"),
        (lambda data: epoch(data, collate_fn=lambda x: torch.tensor(x).T), "another collate_fn"),
        (lambda data: epoch(data, drop_last=True), "each loader has another drop_last"),
        (lambda data: (setattr(data, "scale", 2), epoch(data)), "changes the data set"),
    ],
)
def test_what_is_not_the_same_gets_workers_of_its_own(apply, second, why):
    applied = apply("loader-kept", {})
    data = Rows()
    first = epoch(data)
    second(data)
    assert sorted(first[0]) == list(range(24))
    active, seen, reason = applied.read()
    assert (active, seen["taken_over"]) == (False, 0)
    assert why in reason


def test_an_epoch_that_ends_early(apply):
    applied = apply("loader-kept", {})
    data = Rows()
    for turn in range(2):
        for number, _ in enumerate(DataLoader(data, batch_size=2, num_workers=1)):
            if number == 2 and turn == 0:
                break
    assert number == 11
    assert "has not delivered everything" in applied.read()[2]


def test_two_loaders_at_once(apply):
    applied = apply("loader-kept", {})
    data = Rows()
    one, two = (iter(DataLoader(data, batch_size=4, num_workers=1)) for _ in range(2))
    pairs = [(a[0].tolist(), b[0].tolist()) for a, b in zip(one, two, strict=True)]
    assert len(pairs) == 6
    assert all(a == b for a, b in pairs)
    assert applied.read()[0] is False
