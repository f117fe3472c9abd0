"""The search for a better value than the advised one: what is tried, given up and chosen."""

import builtins
import importlib
import logging
import math
import sys

import numpy as np
import pytest

from trainprof.errors import MissingExtraError
from trainprof.profiler.model.plan import Application
from trainprof.rules.experiments.candidates import Candidate
from trainprof.rules.experiments.knob_search import MOST_TRIED, PAIRS, KnobSearch
from trainprof.rules.fixes import registry
from trainprof.rules.fixes.fix import Fix

WORKERS = Candidate(
    Application("loader-workers", {"num_workers": 4, "persistent_workers": True}),
    "data-workers-under",
    "safe",
    True,
    None,
    None,
)


class Measured:
    """Short pairs whose ratio depends on the setting, and a clock that they move."""

    def __init__(self, speedup, noise=0.0, pair_s=10.0):
        self.speedup, self.noise, self.pair_s = speedup, noise, pair_s
        self.random, self.now, self.asked = np.random.default_rng(1), 0.0, []

    def clock(self):
        return self.now

    def __call__(self, candidate, pair):
        self.now += self.pair_s
        self.asked.append((dict(candidate.application.params), pair))
        ratio = self.speedup(**candidate.application.params)
        return ratio and math.log(ratio) + self.random.normal(0.0, self.noise)


def search(candidate, measured, cpus=8, left_s=10_000.0):
    return KnobSearch(cpus, measured.clock)(candidate, measured, left_s)


def workers(params):
    return params["num_workers"]


def test_the_best_value_is_chosen_and_all_that_was_tried_is_told():
    measured = Measured(lambda num_workers, **_: 1.0 + num_workers / 10 - num_workers**2 / 150)
    chosen = search(WORKERS, measured)
    assert chosen.application.params == {"num_workers": 8, "persistent_workers": True}
    assert sorted(workers(one.params) for one in chosen.searched) == [2, 3, 4, 6, 8]
    best = next(one for one in chosen.searched if workers(one.params) == 8)
    assert (best.pairs, round(best.speedup, 3)) == (PAIRS, 1.373)


def test_the_advised_value_comes_first_and_none_comes_twice():
    measured = Measured(lambda **_: 1.2)
    search(WORKERS, measured)
    assert [workers(params) for params, _ in measured.asked[:PAIRS]] == [4] * PAIRS
    asked = [(workers(params), pair) for params, pair in measured.asked]
    assert len(set(asked)) == len(asked)


def test_what_is_behind_after_one_pair_gets_no_second():
    measured = Measured(lambda num_workers, **_: {4: 1.5, 6: 1.4}.get(num_workers, 1.0))
    chosen = search(WORKERS, measured)
    pairs = {workers(one.params): one.pairs for one in chosen.searched}
    assert min(pairs.values()) == 1
    assert pairs[4] == PAIRS
    assert workers(chosen.application.params) == 4


def test_a_value_that_is_hardly_better_does_not_replace_the_advised_one():
    measured = Measured(lambda num_workers, **_: 1.30 if num_workers == 4 else 1.31)
    assert workers(search(WORKERS, measured).application.params) == 4


def test_a_value_that_is_refused_is_not_chosen():
    measured = Measured(lambda num_workers, **_: None if num_workers > 4 else 1.0 + num_workers / 9)
    chosen = search(WORKERS, measured)
    assert workers(chosen.application.params) == 4
    refused = [one for one in chosen.searched if workers(one.params) > 4]
    assert [(one.speedup, one.pairs) for one in refused] == [(None, 0)] * 2


def test_it_ends_with_its_share_of_the_time():
    measured = Measured(lambda **_: 1.2, pair_s=10.0)
    chosen = search(WORKERS, measured, left_s=100.0)
    assert measured.now <= 0.3 * 100.0 + PAIRS * 10.0
    assert workers(chosen.searched[0].params) == 4


@pytest.mark.parametrize(
    ("fix", "params", "cpus", "values"),
    [
        ("loader-workers", {"num_workers": 2}, 1, [1, 2]),  # no more than two for each processor
        ("loader-workers", {"num_workers": 1}, 8, [1, 2]),
        ("loader-workers", {"num_workers": 0}, 8, None),  # a switch, no number
        ("loader-workers", {"persistent_workers": True}, 8, None),
        ("loader-prefetch", {"prefetch_factor": 4}, 8, [2, 3, 4, 6, 8]),
        ("intra-op-threads", {"num_threads": 2}, 2, [1, 2]),
        ("gc-freeze", {}, 8, None),
    ],
)
def test_values_lie_around_the_advised_one(fix, params, cpus, values):
    candidate = Candidate(Application(fix, params), "rule", "safe", True, None, None)
    found = KnobSearch(cpus, lambda: 0.0).space(candidate)
    assert list(found.values()) == ([values] if values else [])


class TwoKnobs(Fix):
    id = "two-knobs"
    parameters = {"batch": int, "queue": int}  # noqa: RUF012  as fixes write it
    searched = ("batch", "queue")


def test_a_large_space_is_sampled(monkeypatch):
    monkeypatch.setattr(registry, "all_fixes", lambda: {"two-knobs": TwoKnobs})
    candidate = Candidate(
        Application("two-knobs", {"batch": 32, "queue": 8}), "rule", "safe", True, None, None
    )
    measured = Measured(lambda batch, queue: 1.0 + batch / 256, noise=0.001)
    chosen = search(candidate, measured, cpus=64)
    assert 1 < len(chosen.searched) <= MOST_TRIED < 25
    assert chosen.application.params["batch"] > 32


def test_optuna_says_nothing(capfd, caplog):
    caplog.set_level(logging.DEBUG)
    search(WORKERS, Measured(lambda **_: 1.2))
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_goes_through():
    def interrupted(candidate, pair):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        KnobSearch(8, lambda: 0.0)(WORKERS, interrupted, 100.0)


def test_without_optuna_there_is_the_pip_line(monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
        return original(name, *args, **kwargs)

    name = "trainprof.rules.experiments.knob_search"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'trainprof\[tune\]'"):
        importlib.import_module(name)
