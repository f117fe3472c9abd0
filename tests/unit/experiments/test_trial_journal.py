"""A tune that was ended at any moment goes on with what it had measured."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.experiments.test_tune import Clock, Replay, candidate, verdicts
from trainprof.profiler.model.plan import Application, Plan
from trainprof.rules.experiments.trial import FixState, Trial
from trainprof.rules.experiments.trial_journal import (
    JOURNAL_FILE,
    About,
    Journal,
    JournalError,
    Options,
    ResumedRunner,
)
from trainprof.rules.experiments.tune import Tune

OPTIONS = Options("safe", (Application("gc-freeze", {"n": 1}),), 40, 1_000)
ABOUT = About(("train.py",), False, "/project", OPTIONS, {"/p/train.py": "ab"}, "x")


class Killed(BaseException):
    """Of the process."""


class Counting(Replay):
    """Dies before its n-th trial."""

    def __init__(self, *args, dies_at=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.dies_at = dies_at

    def run(self, plan, steps, label, seed_shift=0):
        if self.dies_at is not None and len(self.plans) >= self.dies_at:
            raise Killed
        return super().run(plan, steps, label, seed_shift)


def run(folder, *, earlier=(), dies_at=None, seed=1):
    clock = Clock()
    runner = Counting(clock, {"first": 1.3, "second": 1.2}, dies_at=dies_at, seed=seed)
    journal = Journal(folder)
    if not earlier:
        journal.begin(ABOUT)
    candidates = [candidate("first"), candidate("second")]
    tune = Tune(
        ResumedRunner(runner, journal, earlier, clock),
        candidates,
        (),
        steps=20,
        budget_s=1e6,
        clock=clock,
    )
    try:
        return tune.run(), runner
    except Killed:
        return tune.outcome(), runner


@pytest.mark.parametrize("dies_at", [1, 8, 9, 14, 25, 37, 43])
def test_it_goes_on_where_it_was_killed(tmp_path, dies_at):
    whole, everything = run(tmp_path)
    run(tmp_path, dies_at=dies_at)
    about, earlier = Journal(tmp_path).read()
    assert (about, len(earlier)) == (ABOUT, dies_at)

    outcome, rest = run(tmp_path, earlier=earlier, seed=2)

    assert verdicts(outcome) == verdicts(whole)
    assert outcome.final.name == whole.final.name
    half_a_pair = dies_at % 2  # is not used: the other half would be of another time
    assert len(rest.plans) == len(everything.plans) - dies_at + half_a_pair
    assert len(outcome.final.log_ratios) == 6


def test_what_earlier_trials_took_says_how_long_the_next_ones_take(tmp_path):
    run(tmp_path, dies_at=9)
    _, earlier = Journal(tmp_path).read()
    assert [trial.took_s for _, trial in earlier] == [5.0] * 9
    clock = Clock()
    short = ResumedRunner(Replay(clock), Journal(tmp_path), earlier, clock)
    outcome = Tune(short, [candidate("first")], (), steps=20, budget_s=50.0, clock=clock).run()
    assert outcome.experiments[0].reason.startswith("no time was left for the 6 pairs")
    assert clock.now == 0.0


def test_a_torn_line_is_dropped_and_does_not_spoil_the_next(tmp_path):
    run(tmp_path, dies_at=4)
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(path.read_bytes()[:-30])
    _, earlier = Journal(tmp_path).read()
    assert len(earlier) == 3
    Journal(tmp_path).add("key", Trial(1.0))
    assert [key for key, _ in Journal(tmp_path).read()[1]][3:] == ["key"]


numbers = st.none() | st.floats(allow_nan=False)


@given(
    st.builds(
        Trial,
        seconds=st.floats(0.001, 10),
        p95_s=numbers,
        memory_bytes=st.none() | st.integers(0, 10**12),
        losses=st.dictionaries(st.integers(0, 99), st.floats(allow_nan=False), max_size=4),
        shares=st.dictionaries(st.text(max_size=5), st.floats(0, 1), max_size=2),
        fixes=st.tuples(st.builds(FixState, st.text(), st.booleans(), st.none() | st.text())),
        samples=st.just({"l0e0": {"counts": [4], "sums": [2**60], "complete": True}}),
        seed_calls=st.none() | st.integers(0, 3),
    )
)
def test_a_trial_comes_back_as_it_was(tmp_path_factory, trial):
    journal = Journal(tmp_path_factory.mktemp("journal"))
    journal.begin(ABOUT)
    journal.add("key", trial)
    assert journal.read()[1] == [("key", trial)]


def test_a_loss_that_is_no_number_comes_back(tmp_path):
    journal = Journal(tmp_path)
    journal.begin(ABOUT)
    journal.add("key", Trial(1.0, losses={3: math.nan, 4: math.inf}))
    losses = journal.read()[1][0][1].losses
    assert math.isnan(losses[3])
    assert losses[4] == math.inf


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "it had measured nothing"),
        ("", "it had measured nothing"),
        ("not json\n", "its journal cannot be read"),
        ("[]\n", "its journal cannot be read"),
        ('{"format": 9}\n', "its journal has format 9"),
        ('{"format": 1}\n', "its journal cannot be read"),
    ],
)
def test_what_is_no_journal_is_said(tmp_path, text, said):
    if text is not None:
        (tmp_path / JOURNAL_FILE).write_text(text)
    with pytest.raises(JournalError, match=said):
        Journal(tmp_path).read()


def test_lines_of_another_kind_are_passed_over(tmp_path):
    journal = Journal(tmp_path)
    journal.begin(ABOUT)
    with (tmp_path / JOURNAL_FILE).open("a") as file:
        file.write(json.dumps({"key": "x"}) + "\nnull\n" + '{"key": "y", "trial": {}}\n')
    assert journal.read()[1] == []


def test_failed_trials_are_run_again_and_other_plans_are_others(tmp_path):
    class Failing:
        def run(self, plan, steps, label, seed_shift=0):
            return Trial(None, problem="out of memory")

    journal = Journal(tmp_path)
    journal.begin(ABOUT)
    ResumedRunner(Failing(), journal, ()).run(Plan(()), 20, "x")
    assert journal.read()[1] == []
    working, plan = Replay(Clock()), Plan((Application("a", {"n": 1}),))
    ResumedRunner(working, journal, ()).run(plan, 20, "x")
    again = ResumedRunner(working, journal, journal.read()[1])
    assert not again.run(Plan((Application("a", {"n": 2}),)), 20, "x").earlier
    assert again.run(plan, 20, "x").earlier
    assert not again.run(plan, 20, "x").earlier  # it is used once
