"""Signals distributed.*: ranks joined step by step, their first batches, and DDP's own words."""

import pytest
from builders import build_run, build_steps, build_trainer

from trainprof.profiler.model.run import Session
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training


def signals(*phases, rows=None, loader=None, group=None, steps=200):
    """Of one training; a rank for each function or mapping of phases."""
    trainers = []
    for rank, phase in enumerate(phases):
        facts = [("distributed", "group", {"world_size": len(phases), **(group or {})})]
        if loader is not None:
            facts.append(("loader", "l0", {"role": "training", **loader}))
        if rows is not None:
            facts.append(("batch", "l0", {"samples": 64, "rows": rows[rank]}))
        built = build_steps(steps, phase)
        trainers.append(
            build_trainer(built, facts=facts, rank=rank, world_size=len(phases), pid=100 + rank)
        )
    run = build_run(Session(tuple(trainers), ()))
    return measure(Training(run, run.sessions[0]))


def test_the_late_rank_is_the_one_that_does_not_wait():
    late = {"data_wait": 6.0, "backward": 4.0}
    waiting = {"data_wait": 2.0, "backward": 4.0, "comm_exposed": 4.0}

    measured = signals(waiting, late, waiting)

    assert measured.get("distributed.slowest_rank").value == 1
    assert measured.get("distributed.straggler_share").value == pytest.approx(0.4 * 2 / 3, abs=0.01)
    assert measured.get("distributed.straggler_steps_share").value == 1.0
    assert measured.get("distributed.straggler_phase").value == "data_wait"
    assert measured.get("distributed.straggler_phase_share").value == pytest.approx(1.0)
    assert measured.get("distributed.transfer_share").value == 0.0


def test_ranks_that_are_late_in_turn_have_no_straggler():
    def rank(number):
        def phases(index):
            late = index % 2 == number
            return {"forward": 8.0 if late else 4.0, "comm_exposed": 0.0 if late else 4.0}

        return phases

    measured = signals(rank(0), rank(1))

    assert measured.get("distributed.imbalance_share").value == pytest.approx(0.25, abs=0.01)
    assert measured.get("distributed.straggler_share").value < 0.01
    assert 0.4 < measured.get("distributed.straggler_steps_share").value < 0.6


def test_what_all_ranks_wait_for_is_transfer():
    measured = signals(
        {"backward": 6.0, "comm_exposed": 4.0}, {"backward": 5.0, "comm_exposed": 5.0}
    )

    assert measured.get("distributed.transfer_share").value == pytest.approx(0.4)


def test_few_steps_are_not_joined():
    measured = signals({"backward": 6.0}, {"backward": 6.0}, steps=10)

    assert measured.get("distributed.imbalance_share").value is None


LOADER = {"dataset_length": 1000, "sharded": False, "iterators_made": 3, "sampler_epoch": 0}


@pytest.mark.parametrize(
    ("rows", "share"),
    [
        ((list(range(64)), list(range(64))), 1.0),
        ((list(range(64)), list(range(32, 96))), 0.5),
        ((list(range(64)), list(range(100, 164))), 0.0),
    ],
)
def test_rows_that_two_ranks_have_in_common(rows, share):
    measured = signals({"backward": 1.0}, {"backward": 1.0}, rows=rows, loader=LOADER)

    assert measured.get("distributed.same_rows_share").value == share
    assert measured.get("distributed.same_length").value is True
    assert measured.get("distributed.sharded").value is False
    assert measured.get("distributed.sampler_epoch").value == 0


@pytest.mark.parametrize("rows", [([1, 2, 3], [1, 2, 3]), ([7] * 64, [7] * 64), ([], [])])
def test_rows_that_tell_nothing(rows):
    measured = signals({"backward": 1.0}, {"backward": 1.0}, rows=rows, loader=LOADER)

    assert measured.get("distributed.same_rows_share").value is None


def test_what_ddp_says():
    ddp = {
        "logging_bucket_sizes": "1000, 2000",
        "logging_rebuilt_bucket_sizes": "500, 500, 2000",
        "logging_total_parameter_size_bytes": 3000,
    }
    group = {"ddp": ddp, "backwards": 80, "synced_backwards": 20}

    measured = signals({"backward": 1.0}, {"backward": 1.0}, group=group)

    assert measured.get("distributed.host_count").value == 1
    assert measured.get("distributed.bucket_count").value == 3
    assert measured.get("distributed.gradient_bytes").value == 3000
    assert measured.get("distributed.synced_share").value == 0.25


def test_one_rank_has_nobody_to_be_compared_with():
    measured = signals({"backward": 1.0})

    assert measured.get("distributed.imbalance_share").reason == "there is only one rank to look at"
    assert measured.get("distributed.synced_share").value is None
