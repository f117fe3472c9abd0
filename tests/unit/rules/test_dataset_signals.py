"""From the probe's fact to signals, and from a cheaper batch to a predicted gain."""

import random

import pytest

from tests.unit.rules.builders import build_run, build_steps, build_trainer
from trainprof.profiler.model.collector_status import CollectorStatus
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


SAMPLE = {"hashed_items": 1000, "hashed_all": False, "hashed_at_random": True,
          "distinct_items": 1000, "equal_pairs": 0, "length": 10_000}  # fmt: skip
NEAR = {"near": "text", "near_items": 1000, "near_contents": 1000}


def near(data):
    return measured({**SAMPLE, **NEAR, **data})["dataset.near_duplicate_share"]


def test_near_copies_are_estimated_with_an_interval():
    signal = near({"near_pairs": 20, "near_groups": 980})
    assert signal.value == pytest.approx(0.2)
    assert signal.low < 0.14 < 0.28 < signal.high
    assert signal.method == "MinHash of words: like pairs in a random sample"


def test_near_copies_are_counted_where_all_items_were_compared():
    signal = near({"hashed_all": True, "near_pairs": 20, "near_groups": 980})
    assert signal.value == signal.low == signal.high == pytest.approx(0.02)


def test_near_copies_in_large_groups_are_taken_for_kinds_of_items():
    assert "large groups" in near({"near_pairs": 90_000, "near_groups": 10}).reason


def test_without_its_library_the_reason_is_how_to_get_it():
    signal = measured({**SAMPLE, "near_reason": "rensa is not installed: pip install x"})[
        "dataset.near_duplicate_share"
    ]
    assert signal.reason == "rensa is not installed: pip install x"


def test_the_beginning_of_a_stream_is_no_random_sample():
    signals = measured({**SAMPLE, "hashed_at_random": False, "equal_pairs": 30,
                        "distinct_items": 970, "validation": "l1", "validation_hashed": 100,
                        "validation_known": 10, "validation_all": True})  # fmt: skip
    assert "drawn at random" in signals["dataset.duplicate_share"].reason
    assert signals["dataset.validation_known_share"].value is None


VALIDATION = {"validation": "l1", "validation_length": 500, "validation_hashed": 200,
              "validation_all": False, "validation_known": 6}  # fmt: skip


def known(data, role="validation"):
    facts = [
        LOADER,
        ("loader", "l1", {"role": role}),
        ("dataset", "l0", {**SAMPLE, **VALIDATION, **data}),
    ]
    trainer = build_trainer(build_steps(60, {"forward": 2.0}), facts=facts)
    run = build_run(trainer)
    return dataset.measure(Training(run, run.sessions[0]))["dataset.validation_known_share"]


def test_samples_of_the_validation_that_were_trained_on():
    signal = known({"hashed_all": True})
    assert signal.value == pytest.approx(0.03)
    assert signal.low < 0.02 < 0.05 < signal.high
    assert known({}).value == pytest.approx(0.3)  # a tenth of the training's items was compared
    exact = known({"hashed_all": True, "validation_all": True})
    assert exact.low == exact.high == pytest.approx(0.03)


def test_two_data_sets_that_are_both_trained_on_are_no_leak():
    assert known({}, role="training").value is None


def test_no_sample_in_common_tells_nothing_where_random_numbers_change_them():
    assert known({"validation_known": 0}).value == 0.0
    assert known({"validation_known": 0, "draws_random_numbers": True}).value is None


LIVE = {"padding_batches": 12, "padding_share": 0.5, "length_max": 90}


@pytest.mark.parametrize(
    ("by_mask", "probed", "share"),
    [(True, {"padding_share": 0.3}, 0.5), (False, {"padding_share": 0.3}, 0.3), (False, {}, 0.5)],
    ids=["a mask tells", "the probe saw the samples", "nothing else is known"],
)
def test_padding_of_the_run_or_of_the_probe(by_mask, probed, share):
    facts = [LOADER, ("padding", "l0", {**LIVE, "padding_by_mask": by_mask})]
    facts += [("dataset", "l0", probed)] if probed else []
    run = build_run(build_trainer(build_steps(60, {"forward": 2.0}), facts=facts))
    signals = dataset.measure(Training(run, run.sessions[0]))
    assert signals["dataset.padding_share"].value == share


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
