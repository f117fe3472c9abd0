"""Runs as trials: which are comparable, and what a pruner would have made of them."""

import numpy as np
import pytest
from builders import build_run, build_steps, build_trainer
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.records import Event
from trainprof.profiler.store.trials import EarlierRun
from trainprof.rules.diagnose import diagnose
from trainprof.rules.trials import (
    STARTUP_TRIALS,
    Trial,
    comparable_trials,
    early_rank_correlation,
    replay_median_pruner,
)


def run(*arguments, end=0.1, at=0.0, count=100, events=()):
    """A loss that falls from 1 to `end`."""
    losses = list(map(float, end + (1 - end) * np.exp(-np.arange(count) / 10)))
    return EarlierRun(("train.py", *arguments), at, losses, tuple(events))


def trials(*ends):
    return [Trial((str(end),), np.linspace(1.0, end, 20)) for end in ends]


def test_seeds_are_repetitions():
    runs = [run("--lr=0.1", f"--seed={n}") for n in range(4)]
    runs += [run("--lr=0.2", "--seed", str(n)) for n in range(4)]
    runs += [run("--lr=0.3", "--data-seed", "7")]

    found, metric = comparable_trials(runs)

    assert len(found) == 3
    assert metric == "the training loss"


def test_other_lengths_and_nan_are_left_out():
    runs = [run("a", count=300), run("b"), run("c", end=float("nan")), run("d", count=95)]

    assert [trial.arguments[1] for trial in comparable_trials(runs)[0]] == ["b", "d"]
    assert comparable_trials([]) == ([], "")


def test_a_validation_result_that_all_logged_is_preferred():
    values = {"values": {"val/acc": [[n, n, n / 20] for n in range(20)]}}
    logged = [run(str(n), events=[Event("metrics", 0, 9, values)]) for n in range(3)]

    found, metric = comparable_trials(logged)

    assert metric == "val/acc"
    assert found[0].curve[0] > found[0].curve[-1]  # less is better
    assert comparable_trials([*logged, run("x")])[1] == "the training loss"


def test_trials_that_fall_behind_are_pruned():
    replay = replay_median_pruner(trials(0.5, 0.4, 0.3, 0.2, 0.1, 0.9, 0.05, 0.8))

    assert replay.pruned == 2
    assert replay.regret == 0.0
    assert 0.15 < replay.saved_share < 0.25
    assert early_rank_correlation(trials(0.5, 0.4, 0.3, 0.2, 0.1)) == pytest.approx(1.0)


@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=15))
def test_a_replay_never_gains_by_losing(ends):
    replay = replay_median_pruner(trials(*ends))

    assert 0.0 <= replay.saved_share < 1.0
    assert replay.regret >= 0.0
    assert replay.pruned <= max(len(ends) - STARTUP_TRIALS, 0)


def test_a_search_by_hand_is_noted():
    ends = (0.5, 0.4, 0.3, 0.2, 0.1, 0.9, 0.05, 0.8, 0.7, 0.6)
    earlier = [run(f"--lr={end}", end=end, at=float(n)) for n, end in enumerate(ends)]
    here = build_run(build_trainer(build_steps(60, {"forward": 10.0})))

    findings = {f.rule: f for f in diagnose(here, earlier_runs=earlier).findings}

    assert "10 runs of this script" in findings["hpo-no-pruning"].summary
    assert "hpo-no-pruning" not in {
        f.rule for f in diagnose(here, earlier_runs=earlier[:4]).findings
    }
