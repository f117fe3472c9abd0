"""From the probe's fact to signals, and from a cheaper batch to a predicted gain."""

import random

import pytest

from tests.unit.rules.builders import build_run, build_steps, build_trainer
from trainprof.profiler.model.records import CollectorStatus
from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.batch_cost import BatchCost
from trainprof.rules.signals import dataset
from trainprof.rules.signals.training import Training

LOADER = ("loader", "l0", {"role": "training", "num_workers": 0})


def measured(data, *, key="l0", **info):
    facts = [LOADER] if data is None else [LOADER, ("dataset", key, data)]
    trainer = build_trainer(build_steps(60, {"forward": 2.0, "data_wait": 1.0}), facts=facts)
    run = build_run(trainer, **info)
    return dataset.measure(Training(run, run.sessions[0]))


def test_what_the_probe_did_not_find_is_missing_with_a_reason():
    signals = measured({"item_s": 0.001})
    assert signals["dataset.item_s"].value == 0.001
    assert signals["dataset.collate_s"].reason == dataset.NOT_FOUND
    assert signals["dataset.batch_s"].reason == "no batch was made"
    assert signals["dataset.file_bytes"].value is None


def test_without_a_probe_the_reason_is_the_collectors():
    status = CollectorStatus("probe", "missing", "it holds tensors on cuda:0")
    signals = measured(None, collectors=(status,))
    assert {s.reason for s in signals.values()} == {
        "the data set was not looked at (it holds tensors on cuda:0)"
    }
    assert measured(None)["dataset.item_s"].reason == dataset.NOT_PROBED


def test_another_loaders_data_set_is_not_this_ones():
    assert measured({"item_s": 1.0}, key="l7")["dataset.item_s"].value is None


def test_sums_of_a_batch_and_of_the_data_set():
    signals = measured(
        {
            "item_s": 0.001,
            "collate_s": 0.002,
            "batch_size": 8,
            "items": 20,
            "item_bytes": 100.0,
            "length": 50,
            "item_files": 2.0,
            "item_read_bytes": 300.0,
            "parts": [
                {"name": "open", "s": 0.0005, "reads": True},
                {"name": "warp", "s": 0.0003, "where": {"file": "a.py", "line": 3}},
            ],
        }
    )
    assert signals["dataset.batch_s"].value == pytest.approx(0.01)
    assert signals["dataset.bytes"].value == 5000
    assert signals["dataset.file_bytes"].value == 150
    assert signals["dataset.part"].value == "warp"
    assert signals["dataset.part_where"].value.line == 3


def test_copies_are_counted_where_all_were_hashed():
    signal = measured(
        {"hashed_items": 100, "hashed_all": True, "distinct_items": 80, "equal_pairs": 20}
    )["dataset.duplicate_share"]
    assert signal.value == signal.low == signal.high == pytest.approx(0.2)


def test_copies_in_large_groups_are_taken_for_a_small_space_of_contents():
    data = {"hashed_items": 100, "hashed_all": True, "distinct_items": 10, "equal_pairs": 450}
    signal = measured(data)["dataset.duplicate_share"]
    assert signal.value is None
    assert "large groups" in signal.reason


def test_the_estimate_from_a_sample_covers_the_truth():
    """20 % of the items are second copies; 9 in 10 intervals should hold that."""
    length, size, covered = 10_000, 1_500, 0
    for attempt in range(60):
        chooser = random.Random(attempt)
        contents = [i if i < 8_000 else i - 8_000 for i in range(length)]
        seen = [contents[i] for i in chooser.sample(range(length), size)]
        data = {
            "hashed_items": size,
            "hashed_all": False,
            "distinct_items": len(set(seen)),
            "equal_pairs": size - len(set(seen)),
            "length": length,
        }
        signal = measured(data)["dataset.duplicate_share"]
        covered += signal.low <= 0.2 <= signal.high
    assert covered >= 48


def test_no_pair_in_a_sample_gives_an_upper_bound_only():
    data = {"hashed_items": 100, "hashed_all": False, "distinct_items": 100, "equal_pairs": 0}
    signal = measured({**data, "length": 1000})["dataset.duplicate_share"]
    assert (signal.value, signal.low) == (0.0, 0.0)
    assert 0.2 < signal.high < 0.4


def cost(**changes):
    values = {
        "step.data_wait_share": Signal(0.5, low=0.48, high=0.52),
        "loader.num_workers": Signal(0),
        "loader.producer_wall_s": Signal(0.01),
        "loader.producer_cpu_s": Signal(0.01),
        "loader.consumer_s": Signal(0.01),
        "loader.consumer_cpu_s": Signal(0.01),
        "host.usable_cores": Signal(4.0),
        "dataset.batch_s": Signal(0.01),
    }
    values |= {name: Signal(value) for name, value in changes.items()}
    return BatchCost.of(Signals(values))


def test_without_workers_a_part_of_the_batch_is_a_part_of_the_wait():
    assert cost().share(0.4) == pytest.approx((0.2, 0.192))
    gain = cost().gain(0.4, 2.0, 1e9)
    assert (gain.low, gain.high) == pytest.approx((1 / (1 - 0.096), 1 / (1 - 0.2)), rel=1e-3)


def test_with_workers_the_wait_is_gone_before_the_whole_batch_is():
    busy = cost(**{"loader.num_workers": 2, "loader.producer_wall_s": 0.04,
                   "loader.producer_cpu_s": 0.01, "dataset.batch_s": 0.04})  # fmt: skip
    assert busy.share(0.5)[0] == pytest.approx(0.5)
    assert busy.share(0.25)[0] == pytest.approx(0.25)


def test_a_probe_that_saw_something_else_is_not_believed():
    assert cost(**{"dataset.batch_s": 0.5}) is None
    assert cost(**{"dataset.batch_s": 0.0001}) is None
