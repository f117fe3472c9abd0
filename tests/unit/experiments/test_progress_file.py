"""What a tune writes of its course says what its result says."""

import dataclasses
import json

import pytest

from tests.unit.experiments.test_tune import Clock, Replay, candidate
from trainprof.errors import UsageError
from trainprof.profiler.model.plan import Application
from trainprof.profiler.store.tune_progress import TuneTail, attempts_of
from trainprof.profiler.store.tune_result import read_tune
from trainprof.rules.experiments.candidates import Refused
from trainprof.rules.experiments.progress_file import ProgressFile
from trainprof.rules.experiments.result import result_of
from trainprof.rules.experiments.trial import Trial
from trainprof.rules.experiments.tune import Tune


class Told(Replay):
    """Also says which trial starts, as the real runner does; one fix is not in force."""

    folder, progress, count = None, None, 0

    def run(self, plan, steps, label, seed_shift=0):
        self.count += 1
        folder = self.folder / "trials" / f"{self.count:03d}-{label}" / "run"
        self.progress.starts(folder, steps, label, plan)
        if label == "idle":
            return Trial(None, problem="idle", refused="idle was not in force: no")
        return super().run(plan, steps, label, seed_shift)


def tuned(folder, *, budget_s=1e6, gains=None, watch=lambda: None):
    """A whole tune of four fixes, with its result; `watch` looks before each trial."""
    clock = Clock()
    progress = ProgressFile(folder, lambda: 1000.0 + clock.now)
    runner = Told(clock, gains or {"first": 1.4, "second": 1.3, "slow": 0.5})
    runner.folder, runner.progress = folder, progress
    progress.begin(("train.py",), budget_s)
    refused = [Refused("batch-larger", "some-rule", "it changes semantics")]
    progress.plan(20, refused)
    names = ["first", "second", "slow", "idle"]

    def tell(told):
        progress.tell(told)
        watch()

    tune = Tune(
        runner,
        [candidate(name) for name in names],
        refused,
        steps=20,
        budget_s=budget_s,
        clock=clock,
        tell=tell,
        watch=progress,
    )
    outcome = tune.run()
    result = result_of(
        outcome, run="r", plan=None, patch=None, steps=20, seconds=clock.now, ended=outcome.ended
    )
    return progress, result


def write(folder, result):
    (folder / "tune.json").write_text(json.dumps(dataclasses.asdict(result)))


@pytest.mark.parametrize(("budget_s", "idle"), [(1e6, "refused"), (5.0 * 42, "inconclusive")])
def test_the_course_agrees_with_the_result(tmp_path, monkeypatch, budget_s, idle):
    monkeypatch.setattr("trainprof.profiler.store.tune_progress.is_supervised", lambda *_: True)
    progress, result = tuned(tmp_path, budget_s=budget_s)
    before = TuneTail(tmp_path).look()
    assert before.status == "running"
    assert before.aa == json.loads(json.dumps(result.aa))
    told = {one.fixes: one for one in before.attempts}
    write(tmp_path, result)
    progress.end(result.ended)
    after = TuneTail(tmp_path).look()
    assert after.result == read_tune(tmp_path)
    assert (after.status, after.attempts) == (result.ended, attempts_of(after.result))
    assert told["idle",].verdict == idle
    if idle == "refused":
        assert [one.fix for one in after.refused] == ["batch-larger", "idle"]
        del told["idle",]
    for one in after.attempts:
        same = told.pop(one.fixes)
        if same.verdict == "keep" != one.verdict:  # alone, but not together with others
            same = dataclasses.replace(same, verdict=one.verdict, reason=one.reason)
        losses = one.loss_check if len(one.fixes) > 1 else same.loss_check  # kept of one only
        assert dataclasses.replace(same, number=one.number, loss_check=losses) == one
    assert not told


def test_each_trial_is_told_before_it_starts(tmp_path):
    seen = []

    def watch():
        tune = TuneTail(tmp_path).look()
        if tune.run is not None:
            seen.append((tune.run, {one.number: one for one in tune.attempts}))

    tuned(tmp_path, watch=watch)
    purposes = [run.purpose for run, _ in seen]
    assert purposes[:4] == ["noise"] * 4
    assert set(purposes[4:]) == {"pair"}
    for run, attempts in seen[4:]:
        name = attempts[run.number].fixes
        arm = " + ".join(name) if run.changed else f"without {' + '.join(name)}"
        assert run.folder.endswith(f"-{arm}/run")
        assert run.pair <= run.pairs_at_most == 16


def test_a_tune_that_fails_or_is_interrupted_says_so(tmp_path):
    for error, ended in ((UsageError("It is no script."), "failed"), (KeyboardInterrupt(), None)):
        progress = ProgressFile(tmp_path)
        progress.begin(("train.py",), 60.0)
        with pytest.raises(type(error)), progress.ending():
            raise error
        tune = TuneTail(tmp_path).look()
        assert tune.status == (ended or "interrupted")
    assert tune.reason == ""


def test_a_full_disk_ends_the_file_and_not_the_tune(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    progress = ProgressFile(tmp_path)
    progress.begin(("train.py",), 60.0)
    before = progress._path.read_bytes()
    monkeypatch.setattr("trainprof.rules.experiments.progress_file.append_line", full)
    progress.noise([0.1, 0.2])
    monkeypatch.undo()
    progress.noise([0.1, 0.2])
    assert progress._path.read_bytes() == before


def test_what_a_killed_tune_left_of_a_line_is_dropped(tmp_path):
    progress = ProgressFile(tmp_path)
    progress.begin(("train.py",), 60.0)
    with progress._path.open("ab") as file:
        file.write(b'{"kind":"no')
    progress.noise([0.1, 0.2])
    assert TuneTail(tmp_path).look().aa["pairs"] == 2


def test_parameters_may_hold_any_json(tmp_path):
    one = candidate("first")
    application = Application("first", {"a": [1, None], "b": "\ud800"})
    from trainprof.rules.experiments.experiment import Experiment

    progress = ProgressFile(tmp_path)
    progress.begin(("train.py",), 60.0)
    progress.attempt(Experiment("first", (dataclasses.replace(one, application=application),)))
    assert TuneTail(tmp_path).look().attempts[0].params["a"] == [1, None]
