"""Batches of similar lengths, and data without copies: what an epoch is made of."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.utils.data import BatchSampler, DataLoader, Dataset, TensorDataset  # noqa: E402

from trainprof.rules.fixes.batches_by_length import length_of_row  # noqa: E402
from trainprof.rules.fixes.length_groups import LengthGroups  # noqa: E402


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=200),
    st.integers(1, 9),
    st.booleans(),
)
def test_an_epoch_has_the_same_samples_in_batches_of_the_same_size(lengths, size, drop_last):
    usual = BatchSampler(range(len(lengths)), size, drop_last)
    found = list(LengthGroups(usual, lengths))
    assert [len(batch) for batch in found] == [len(batch) for batch in usual]
    assert len(found) == len(usual)
    assert sorted(chain.from_iterable(found)) == sorted(chain.from_iterable(usual))


@pytest.mark.parametrize(
    ("sample", "length"),
    [
        ((torch.zeros(7, 2), 3), 7),
        ({"ids": [1, 2, 3], "label": 1}, 3),
        ({"ids": torch.zeros(9), "attention_mask": torch.tensor([1, 1, 0])}, 2),
        ([4, 5, 6, 7], 4),
        ((3, "four"), 4),
        ((1, torch.tensor(2)), 0),
    ],
)
def test_the_length_of_a_row(sample, length):
    assert length_of_row(torch, (sample)) == length


class Rows(Dataset):
    read = 0

    def __len__(self):
        return 200

    def __getitem__(self, index):
        Rows.read += 1
        return torch.full((index * 7 % 40 + 1,), index)


def widths(batches):
    return sum(max(len(row) for row in batch) * len(batch) for batch in batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_less_padding_and_the_same_samples(apply, workers):
    def epochs():
        torch.manual_seed(0)
        loader = DataLoader(Rows(), 8, shuffle=True, collate_fn=list, num_workers=workers)
        found = [[row for batch in loader for row in [batch]] for _ in range(2)]
        return found, torch.rand(1)

    plain, drawn = epochs()
    applied = apply("batches-by-length")
    Rows.read = 0
    found, drawn_now = epochs()
    assert torch.equal(drawn, drawn_now)
    assert Rows.read == (0 if workers else 400)  # lengths were read elsewhere
    for one, other in zip(plain, found, strict=True):
        of_one, of_other = (Counter(int(row[0]) for b in e for row in b) for e in (one, other))
        assert of_one == of_other
        assert widths(other) < 0.7 * widths(one)
    first, second = ([int(batch[0][0]) for batch in epoch] for epoch in found)
    assert first != second
    assert applied.read() == (True, {"loaders": 1, "epochs": 2}, None)


SCRIPT = """
    class Rows({base}):
        def __len__(self):
            return 60

        def __getitem__(self, index):
            {first}
            return {item}

        def __iter__(self):
            return iter([torch.zeros(4)] * 60)

    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    pad = lambda rows: nn.utils.rnn.pad_sequence(rows, batch_first=True)
    loader = DataLoader(Rows(), batch_size=6, collate_fn=pad{options})
    for epoch in range(2):
        for rows in loader:
            loss = model(rows.float()[..., None]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(rows.shape, loss.item())
"""
SHUFFLED = {
    "base": "Dataset",
    "first": "pass",
    "item": "torch.full((index % 20 + 1,), 0.01 * index)",
    "options": ", shuffle=True",
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"options": ""},
            "the order is not a shuffled one of torch's (it is a SequentialSampler's)",
        ),
        (
            {"options": ", sampler=WeightedRandomSampler([1.0] * 60, 60)"},
            "the order is not a shuffled one of torch's (it is a WeightedRandomSampler's)",
        ),
        (
            {"base": "IterableDataset", "options": ""},
            "the data set is a stream, which comes in its own order",
        ),
        ({"item": "torch.zeros(4)"}, "all samples have the same length"),
        (
            {"first": "if index == 3 and os.getpid() != main: raise ValueError('no fork')"},
            "a forked process cannot read all samples (ValueError: no fork)",
        ),
    ],
)
def test_what_is_not_grouped(apply, run_script, changes, reason):
    script = SCRIPT.format(**{**SHUFFLED, **changes}).replace(
        "class Rows", "main = os.getpid()\n\n    class Rows", 1
    )
    plain = run_script(script)
    applied = apply("batches-by-length")
    assert run_script(script) == plain
    assert applied.read() == (False, {"loaders": 0, "epochs": 0}, reason)


def test_reading_all_that_takes_too_long(apply, run_script, monkeypatch):
    from trainprof.rules.fixes import forked_pass

    monkeypatch.setattr(forked_pass, "PATIENCE_S", 0.0)
    applied = apply("batches-by-length")
    run_script(SCRIPT.format(**SHUFFLED))
    assert applied.read()[2] == "reading all samples takes more than 0 s"


COPIES = torch.arange(40) % 30


class Named(TensorDataset):
    classes = ("a", "b")


def test_copies_are_left_out(apply):
    applied = apply("drop-duplicates", {"share": 0.25})
    loader = DataLoader(Named(COPIES), batch_size=8, shuffle=True)
    assert len(loader) == 4
    assert loader.dataset.classes == ("a", "b")
    for _ in range(2):
        found = torch.cat([batch for (batch,) in loader])
        assert sorted(found.tolist()) == list(range(30))
    assert len(DataLoader(Named(COPIES), batch_size=8)) == 5  # a validation's
    assert applied.read() == (True, {"samples": 40, "left_out": 10}, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "no two samples are equal"),
        ({"options": ""}, "the script makes no loader that shuffles"),
        (
            {"options": ", sampler=WeightedRandomSampler([1.0] * 60, 60)"},
            "the script has a sampler of its own, which numbers the samples",
        ),
        (
            {"base": "IterableDataset", "options": ""},
            "the data set is a stream, its samples have no number",
        ),
        (
            {"item": "Distance(torch.zeros(4))"},
            "a forked process cannot read all samples (NoFlatValue: a __main__.Distance)",
        ),
    ],
)
def test_copies_that_stay(apply, run_script, changes, reason):
    script = SCRIPT.format(**{**SHUFFLED, **changes})
    script = script.replace("class Rows", "class Distance(torch.Tensor): pass\n\n    class Rows", 1)
    plain = run_script(script)
    applied = apply("drop-duplicates")
    assert run_script(script) == plain
    assert applied.read() == (False, {"samples": 0, "left_out": 0}, reason)


def test_copies_before_workers_that_are_spawned(apply):
    applied = apply("drop-duplicates")
    options = {"num_workers": 1, "multiprocessing_context": "spawn"}
    assert len(DataLoader(Named(COPIES), batch_size=8, shuffle=True, **options)) == 5
    reason = "workers that are not forked cannot be given a view of the data set"
    assert applied.read()[::2] == (False, reason)
