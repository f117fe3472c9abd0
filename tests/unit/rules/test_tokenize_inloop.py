"""What is advised where text is tokenized for each sample."""

from __future__ import annotations

import pytest

from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.catalogue.data.tokenize_inloop import REGEX, TokenizeInloop

SMALL = {
    **REGEX,
    "dataset.repeatable": True,
    "dataset.bytes": 1e6,
    "host.memory_available_bytes": 8e9,
    "loader.dataset_where": {"file": "train.py", "line": 12},
}


def advised(values):
    signals = {
        name: Signal(value[0], low=value[1], high=value[2])
        if isinstance(value, tuple)
        else Signal(value)
        for name, value in values.items()
    }
    (candidate,) = TokenizeInloop().check(Signals(signals))
    return candidate.fixes


def test_samples_may_be_kept_whole():
    once, whole = advised(SMALL)
    assert (once.fix, once.where) == ("tokenize-once", None)
    assert (whole.fix, whole.params, whole.where.line) == ("dataset-cache", {"bytes": 10**6}, 12)


@pytest.mark.parametrize(
    "change",
    [
        {"dataset.repeatable": False},
        {"dataset.bytes": 5e9},
        {"dataset.bytes": None},
        {"dataset.draws_random_numbers": True},
        {"dataset.item_token_s": 0.0, "dataset.collate_token_s": 0.005},
    ],
)
def test_samples_are_not_kept(change):
    assert [one.fix for one in advised({**SMALL, **change})] == ["tokenize-once"]
