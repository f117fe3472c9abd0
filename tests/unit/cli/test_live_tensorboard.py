"""A run shown while it goes on: what is new is seen after a look, and the end is the export."""

import dataclasses
import errno
import time

import pytest

from trainprof.cli.settings import Settings
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import MachineSample, ProcessInfo, RunInfo, Sample, StepRecord
from trainprof.profiler.samplers.recorder import encode_sample
from trainprof.profiler.store.appended_file import AppendedFile
from trainprof.profiler.store.folder import write_run_info
from trainprof.profiler.store.layout import FORMAT, HOST_FILE
from trainprof.profiler.store.reader import read_run
from trainprof.profiler.store.writer import ProcessWriter, write_process_info

pytest.importorskip("tensorboard", reason="needs: pip install 'trainprof[tensorboard]'")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainprof.cli.judgement import judge
from trainprof.cli.live_tensorboard import INTERVAL_S, LiveTensorBoard
from trainprof.cli.looking_thread import COST_SHARE_MAX
from trainprof.reports.tensorboard.run_events import write_run

BEGAN = 5_000_000_000
STEP_NS = 10_000_000


class Training:
    """A run folder that is being written."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "procs").mkdir(parents=True)
        self.info = RunInfo(FORMAT, "run", ("train.py",), "/", 1000.0, BEGAN, "0.1", host="a")
        write_run_info(folder, self.info)
        self.host = AppendedFile(str(folder / HOST_FILE), {"format": FORMAT}, keeps=False)
        self.writers = {}
        self.done = {}

    def process(self, pid, **fields):
        own = self.folder / "procs" / f"a-{pid}-{BEGAN}"
        own.mkdir(exist_ok=True)
        write_process_info(
            str(own), ProcessInfo(pid, 1, "a", "trainer", started_ns=BEGAN, **fields)
        )
        if pid not in self.writers:
            self.writers[pid], self.done[pid] = ProcessWriter(str(own), BEGAN), 0

    def steps(self, pid, count):
        for _ in range(count):
            index = self.done[pid]
            phases = dict.fromkeys(PHASES, 0) | {
                "forward": STEP_NS // 4,
                "residual": STEP_NS * 3 // 4,
            }
            start_ns = BEGAN + index * STEP_NS
            record = StepRecord(index, start_ns, STEP_NS, tuple(phases.values()), samples=2)
            self.writers[pid].step(record)
            self.writers[pid].loss(index, 1 / (index + 1))
            self.done[pid] += 1
        self.writers[pid].flush()

    def look(self, at_ns, busy):
        self.host.lines.append(encode_sample(Sample(at_ns, MachineSample(busy))))
        self.host.write()

    def end(self):
        for writer in self.writers.values():
            writer.close()
        self.info = dataclasses.replace(self.info, status="complete")
        write_run_info(self.folder, self.info)


@pytest.fixture
def training(tmp_path):
    return Training(tmp_path / "run")


def shown(folder):
    accumulator = EventAccumulator(str(folder), {"scalars": 0, "tensors": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    scalars = {name: accumulator.Scalars(name) for name in tags["scalars"]}
    return scalars | {name: accumulator.Tensors(name) for name in tags["tensors"]}


def finished(live, training):
    """What is shown at the end, and what an export would show."""
    training.end()
    diagnosis = judge(training.folder, Settings(calibration=False))
    live.finish(diagnosis)
    exported = training.folder.parent / "exported" / "run"
    write_run(exported, read_run(training.folder), diagnosis)
    return exported


def test_what_is_new_is_seen_after_a_look_and_the_end_is_the_export(training, tmp_path):
    live = LiveTensorBoard(training.folder, tmp_path / "live", training.info)
    live.look()
    assert "step/seconds" not in shown(tmp_path / "live" / "run")
    training.process(100)
    for number in range(6):
        training.steps(100, 250)
        training.look(BEGAN + number * 250 * STEP_NS + 5, number / 8)
        live.look()
    for _ in range(4):  # one of so many finds the process
        live.look()
    assert [one.step for one in shown(tmp_path / "live" / "run")["step/seconds"]][-1] >= 1400
    exported = finished(live, training)
    assert shown(tmp_path / "live" / "run") == shown(exported)
    assert shown(exported)["step/seconds"][-1].step == 1499
    assert len(shown(exported)["machine/cpu_busy_share"]) == 6


def test_a_rank_that_was_not_known_at_first_is_put_right_at_the_end(training, tmp_path):
    live = LiveTensorBoard(training.folder, tmp_path / "live", training.info)
    for pid in (100, 101):
        training.process(pid)
        training.steps(pid, 3)
    live.look()
    for pid in (100, 101):
        training.process(pid, rank=pid - 100, world_size=2)
        training.steps(pid, 3)
    exported = finished(live, training)
    names = sorted(path.name for path in (tmp_path / "live" / "run").iterdir() if path.is_dir())
    assert names == ["rank-0", "rank-1"]
    for part in (".", *names):
        assert shown(tmp_path / "live" / "run" / part) == shown(exported / part)


def test_a_training_that_crashed_within_its_first_step_has_its_number(training, tmp_path):
    live = LiveTensorBoard(training.folder, tmp_path / "live", training.info)
    training.process(10, ended_ns=BEGAN + 1)
    training.process(100)
    training.steps(100, 3)
    live.look()
    assert "step/seconds" in shown(tmp_path / "live" / "run" / "training-2")
    exported = finished(live, training)
    assert {"step/seconds", "trainprof/diagnosis"} <= set(shown(exported / "training-2"))
    for part in (".", "training-2"):
        assert shown(tmp_path / "live" / "run" / part) == shown(exported / part)


def test_nothing_but_its_own_files_is_ever_removed(training):
    """TensorBoard's folder may be the one in which the runs themselves are recorded."""
    live = LiveTensorBoard(training.folder, training.folder.parent, training.info)
    training.process(100)
    training.steps(100, 3)
    live.look()
    training.process(100, rank=0, world_size=2)  # its curves are written anew at the end
    finished(live, training)
    assert len(read_run(training.folder).sessions[0].trainers[0].steps) == 3
    assert shown(training.folder / "rank-0")["step/seconds"][-1].step == 2


def test_a_run_without_steps_ends_as_exported_too(training, tmp_path):
    live = LiveTensorBoard(training.folder, tmp_path / "live", training.info)
    training.look(BEGAN, 0.5)
    live.look()
    exported = finished(live, training)
    assert shown(tmp_path / "live" / "run") == shown(exported)
    assert len(shown(exported)["machine/cpu_busy_share"]) == 1


def test_looks_that_cost_much_are_taken_more_seldom(training, tmp_path):
    times = iter([0.0, 0.0, 1.0, 1.5])
    live = LiveTensorBoard(training.folder, tmp_path, training.info, lambda: next(times))
    assert live.look() == INTERVAL_S
    assert live.look() == pytest.approx(0.5 / COST_SHARE_MAX)
    finished(live, training)


def test_a_full_disk_is_one_sentence_and_the_run_goes_on(training, tmp_path, monkeypatch, capsys):
    live = LiveTensorBoard(training.folder, tmp_path / "live", training.info)
    training.process(100)
    training.steps(100, 3)
    training.end()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trainprof.reports.tensorboard.event_file.RecordWriter.write", full)
    live.finish(judge(training.folder, Settings(calibration=False)))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "could not be written to its end (No space left on device)" in said
    assert (
        f"`trainprof export {training.folder} --to tensorboard --out {tmp_path / 'live'}`" in said
    )


@pytest.mark.slow
def test_a_thousand_steps_a_second_cost_little(training, tmp_path):
    live = LiveTensorBoard(training.folder, tmp_path / "live", training.info)
    training.process(100)
    costs = []
    for _ in range(20):
        training.steps(100, 1000)
        before_s = time.process_time()
        live.look()
        costs.append(time.process_time() - before_s)
    finished(live, training)
    assert sum(costs[4:]) / len(costs[4:]) < 0.05, costs
