"""A run at Weights & Biases while it goes on: when one is opened, which one, what is in it."""

import sys
from pathlib import Path

import pytest

from trainprof.cli.judgement import judge
from trainprof.cli.live_wandb import GRACE_S, INTERVAL_S, LiveWandb
from trainprof.cli.settings import Settings
from trainprof.profiler.model.records import Event, ProcessInfo
from trainprof.profiler.store.reader import read_run
from trainprof.profiler.store.writer import ProcessWriter, write_process_info

sys.path.insert(0, str(Path(__file__).parent))
from wandb_file import logged

wandb = pytest.importorskip("wandb")

BASE_NS = 5_000_000_000


class Recording:
    """A run that is being written, and a clock."""

    def __init__(self, folder, make_step, cwd):
        self.folder, self._make_step, self._cwd = folder, make_step, cwd
        self.now_s, self.steps = 100.0, 0
        own = folder / "procs" / f"a-10-{BASE_NS}"
        own.mkdir(parents=True)
        write_process_info(str(own), ProcessInfo(10, 1, "a", "trainer", started_ns=BASE_NS))
        self.writer = ProcessWriter(str(own), BASE_NS)
        self.live = LiveWandb(folder, read_run(folder).info, lambda: self.now_s, lambda: 0.0)

    def add(self, steps):
        for index in range(self.steps, self.steps + steps):
            step = self._make_step(index, BASE_NS + index * 10_000_000, samples=32)
            self.writer.step(step)
            self.writer.loss(index, 0.5)
        self.steps += steps
        self.writer.flush()

    def look(self, later_s=0.0):
        self.now_s += later_s
        assert self.live.look() == INTERVAL_S

    def finish(self):
        self.writer.close()
        self.live.finish(judge(self.folder, Settings()))
        wandb.teardown()
        return {path.parent.name: logged(path) for path in self._cwd.glob("wandb/*-run-*/*.wandb")}


@pytest.fixture
def recording(make_run, make_step, offline, tmp_path):
    folder = make_run(status="running", cwd=str(tmp_path), name="digits")
    return Recording(folder, make_step, tmp_path)


def opened(tmp_path):
    return [path.name for path in tmp_path.glob("wandb/*-run-*")]


def test_steps_are_there_while_the_training_goes_on(recording, tmp_path, capsys):
    recording.look()
    recording.add(20)
    recording.look(60)
    assert not opened(tmp_path)
    recording.add(20)
    recording.look(GRACE_S)
    assert len(opened(tmp_path)) == 1
    recording.add(5)
    recording.look(INTERVAL_S)
    recording.add(3)
    ((name, found),) = recording.finish().items()
    assert name in capsys.readouterr().err
    rows = [row for row in found.history if "trainprof/step" in row]
    assert [row["trainprof/step"] for row in rows] == [*range(1, 40, 2), *range(40, 48)]
    assert {row["trainprof_step/wall_s"] for row in rows} == {0.01}
    assert {row["trainprof_step/loss"] for row in rows} == {0.5}
    assert found.summary["trainprof/steps"] == 48
    assert found.config["trainprof"]["run"] == "digits"
    assert found.run.display_name == "digits"
    assert found.ended


def test_a_short_run_is_written_at_its_end(recording, tmp_path):
    recording.add(20)
    recording.look()
    assert not opened(tmp_path)
    ((_, found),) = recording.finish().items()
    assert [row["trainprof/step"] for row in found.history if "trainprof/step" in row] == list(
        range(20)
    )


def test_the_script_s_own_run_is_continued_at_the_end(recording, tmp_path):
    (tmp_path / "wandb" / "offline-run-20260101_000000-own1").mkdir(parents=True)
    recording.add(20)
    recording.look()
    recording.look(2 * GRACE_S)  # its folder shows that there is one
    data = {"run_id": "own1", "project": "digits", "mode": "offline"}
    recording.writer.event(Event("wandb_run", BASE_NS, 0, data))
    recording.add(20)
    recording.look(GRACE_S)
    assert opened(tmp_path) == ["offline-run-20260101_000000-own1"]
    ((name, found),) = recording.finish().items()
    assert name.endswith("-own1")
    assert (found.run.run_id, found.run.project) == ("own1", "digits")
    assert len([row for row in found.history if "trainprof/step" in row]) == 40


def test_what_fails_is_told_at_the_end_with_the_way_out(recording, offline, capsys):
    def init(**_):
        raise wandb.errors.CommError("no server")

    offline.setattr(wandb, "init", init)
    recording.add(20)
    assert recording.finish() == {}
    told = capsys.readouterr().err
    assert told.startswith("trainprof: W&B could not be written: no server. `trainprof export ")
    assert told.count("\n") == 1


def test_without_a_key_nothing_is_asked_and_the_training_has_gone_on(recording, offline, capsys):
    offline.setenv("WANDB_MODE", "online")
    recording.add(20)
    recording.look()
    recording.live.start()
    recording.live.stop()
    assert recording.finish() == {}
    told = capsys.readouterr().err
    assert told.startswith("trainprof: W&B knows no API key here; run `wandb login` first")
    assert told.count("\n") == 1
