"""Padding of batches that the training is given."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.agent.describe.padding import LEAST_BATCHES, MOST_BATCHES, LivePadding

LENGTHS = [10, 2, 2, 2]


def tokens(lengths=LENGTHS, longest=10):
    rows = torch.zeros(len(lengths), longest, dtype=torch.long)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.arange(1, length + 1)
    return rows


def mask(rows):
    return (rows > 0).long()


def seen(batch, times=LEAST_BATCHES):
    live = LivePadding(torch)
    for _ in range(times):
        live.look(batch)
    return live.fact()


@pytest.mark.parametrize(
    ("batch", "by_mask"),
    [
        ({"input_ids": torch.ones(4, 10).long(), "attention_mask": mask(tokens())}, True),
        ({"ids": tokens(), "mask": mask(tokens()).float()}, True),
        ({"ids": tokens(), "src_key_padding_mask": tokens() == 0}, True),
        ((tokens(), torch.tensor([0, 1, 0, 1])), False),
        ([{"x": (tokens(),)}, 3], False),
        (({"input_ids": tokens(), "attention_mask": mask(tokens())}, torch.zeros(4)), True),
    ],
    ids=["mask", "floats", "layers' mask", "ids only", "too deep", "nested"],
)
def test_padding_of_a_batch(batch, by_mask, request):
    found = seen(batch)
    if "too deep" in request.node.name:
        assert found is None
        return
    assert found["padding_share"] == pytest.approx(0.6)
    assert found["padding_by_mask"] is by_mask
    assert found["padding_batches"] == LEAST_BATCHES
    assert (found["length_median"], found["length_max"], found["padded_length"]) == (2, 10, 10)


@pytest.mark.parametrize(
    "batch",
    [
        tokens([10, 10, 10, 10]),
        torch.rand(4, 10),
        torch.zeros(4, 3, 8, 8),
        torch.tensor(3),
        torch.ones(4, 3).long(),
        tokens().to("meta"),
        {"attention_mask": torch.where(tokens() > 0, 0.0, float("-inf"))},
        torch.eye(4, 10).to_sparse(),
        "text",
    ],
    ids=["full", "floats", "images", "number", "short", "device", "additive", "sparse", "text"],
)
def test_what_shows_no_padding(batch):
    assert seen(batch) is None


def test_a_few_batches_are_too_few():
    assert seen({"attention_mask": mask(tokens())}, LEAST_BATCHES - 1) is None


def test_no_more_than_so_many_are_looked_at():
    assert seen((tokens(),), MOST_BATCHES + 9)["padding_batches"] == MOST_BATCHES


def test_three_batches_without_tokens_end_it():
    live = LivePadding(torch)
    for _ in range(3):
        live.look(torch.rand(4, 4))
    for _ in range(LEAST_BATCHES):
        live.look({"attention_mask": mask(tokens())})
    assert live.fact() is None


def test_under_the_users_profiler_nothing_is_looked_at(monkeypatch):
    monkeypatch.setattr(torch.autograd, "_profiler_enabled", lambda: True)
    assert seen({"attention_mask": mask(tokens())}) is None


def test_neither_random_numbers_nor_the_batch_are_touched():
    batch = {"input_ids": tokens(), "attention_mask": mask(tokens())}
    before, state = batch["input_ids"].clone(), torch.random.get_rng_state()
    seen(batch)
    assert torch.equal(batch["input_ids"], before)
    assert torch.equal(torch.random.get_rng_state(), state)


@given(st.lists(st.integers(0, 12), min_size=2, max_size=9).filter(any))
def test_a_mask_gives_the_lengths_back(lengths):
    found = seen({"attention_mask": mask(tokens(lengths, 12))})
    assert found["padding_share"] == pytest.approx(1 - sum(lengths) / (12 * len(lengths)))
    assert found["padding_share_to_longest"] <= found["padding_share"] + 1e-9
