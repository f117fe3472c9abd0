"""Earlier runs of a script: which are read, and that nothing unreadable disturbs."""

import pytest

from trainprof.profiler.model.records import Event, RunInfo
from trainprof.profiler.store.trials import read_earlier_runs, read_launches, script
from trainprof.profiler.store.writer import ProcessWriter

HERE = RunInfo(1, "train", ("train.py",), "/", 1000.0, 0, "0.1")


def write(make_run, folder, losses, **fields):
    make_run(folder=folder, **fields)
    process = folder / "procs" / "host-1-1"
    process.mkdir(parents=True)
    writer = ProcessWriter(str(process), 0)
    for step, value in enumerate(losses):
        writer.loss(step, value)
    writer.event(Event("metrics", 0, 1, {"values": {"val/loss": [[0, 0, 0.5]]}}))
    writer.event(Event("gc", 0, 1, {}))
    writer.close()


def test_complete_runs_of_the_same_script_in_order(make_run, tmp_path):
    write(make_run, tmp_path / "b", [2.0, 1.0], argv=("train.py", "2"), started_unix_s=9.0)
    write(make_run, tmp_path / "a", [3.0], argv=("train.py", "1"), started_unix_s=5.0)
    write(make_run, tmp_path / "c", [3.0], status="crashed")
    write(make_run, tmp_path / "d", [3.0], argv=("other.py", "1"))
    write(make_run, tmp_path / "e", [3.0], cwd="/elsewhere")
    make_run(folder=tmp_path / "f")  # it wrote nothing

    runs = read_earlier_runs(tmp_path / "b", HERE)

    assert [run.arguments for run in runs] == [("train.py", "1"), ("train.py", "2")]
    assert list(runs[1].losses) == [2.0, 1.0]
    assert [event.kind for event in runs[1].events] == ["metrics"]


def test_launches_are_all_runs_of_the_script_however_they_ended(make_run, tmp_path):
    for name, fields in {
        "a": {"started_unix_s": 9.0, "ended_unix_s": 12.0},
        "b": {"started_unix_s": 5.0, "status": "crashed", "argv": ("train.py", "1")},
        "c": {"argv": ("other.py",)},
    }.items():
        make_run(folder=tmp_path / name, **{"argv": ("train.py",), **fields})

    launches = read_launches(tmp_path / "a", HERE)

    assert [(one.arguments, one.started_unix_s) for one in launches] == [
        (("train.py", "1"), 5.0),
        (("train.py",), 9.0),
    ]
    assert launches[1].ended_unix_s == 12.0
    assert read_launches(tmp_path / "nowhere" / "a", HERE) == ()


def test_what_cannot_be_read_is_left_out(make_run, tmp_path, monkeypatch):
    write(make_run, tmp_path / "a", [3.0])
    write(make_run, tmp_path / "b", [3.0] * 100)
    monkeypatch.setattr("trainprof.profiler.store.trials.MOST_BYTES", 400)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.json").write_text("{")

    assert len(read_earlier_runs(tmp_path / "a", HERE)) == 1
    assert read_earlier_runs(tmp_path / "nowhere" / "a", HERE) == ()


@pytest.mark.parametrize(
    ("argv", "program"),
    [
        (("train.py", "--lr", "1"), ("train.py",)),
        (("python", "train.py", "config.py"), ("python", "train.py")),
        (("python", "-m", "package.train", "--lr=1"), ("python", "-m", "package.train")),
        (("bash", "run.sh"), ("bash",)),
        ((), ()),
    ],
)
def test_the_program_of_a_command(argv, program):
    assert script(argv) == program
