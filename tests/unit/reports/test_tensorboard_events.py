"""What is written for TensorBoard, read back with its own reader."""

import math
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from trainprof.cli.main import main
from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Evidence,
    Finding,
    FixAdvice,
    PhaseTime,
    RankSummary,
    RunSummary,
    StepSummary,
)
from trainprof.profiler.model.records import (
    GpuSample,
    LossValue,
    MachineSample,
    ProcessInfo,
    RunInfo,
    Sample,
)
from trainprof.profiler.model.run import STEP_COLUMNS, ProcessRecord, Run, Session, Steps

pytest.importorskip("tensorboard", reason="needs: pip install 'trainprof[tensorboard]'")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainprof.reports.tensorboard.conclusion import for_tensorboard
from trainprof.reports.tensorboard.places import MOST_RANKS
from trainprof.reports.tensorboard.run_events import write_run

BEGAN = 5_000_000_000
SECOND = 1_000_000_000
INFO = RunInfo(1, "run", ("train.py",), "/", 1000.0, BEGAN, "0.1", host="a")
NOTHING = Diagnosis(1, "run", RunSummary("complete"), "healthy", "Healthy.", StepSummary(0, 0))


def steps(count, began=BEGAN, wall_ns=SECOND):
    own = Steps()
    for number in range(count):
        values = {"index": number, "start_ns": began + number * wall_ns, "wall_ns": wall_ns}
        values |= {"forward_ns": wall_ns // 4, "residual_ns": wall_ns - wall_ns // 4}
        for name in STEP_COLUMNS:
            own.columns[name].append(values.get(name, 0))
    return own


def trainer(rank=None, world=None, host="a", count=3, began=BEGAN, **fields):
    clock = {"unix_s": 2000.0, "perf_ns": 0.0}
    pid = 100 + (rank or 0)
    info = ProcessInfo(pid, 1, host, "trainer", began, rank=rank, world_size=world, clock=clock)
    return ProcessRecord(info, f"{host}-{pid}-{began}", steps=steps(count, began), **fields)


def run_of(*sessions, samples=()):
    return Run("run", INFO, "complete", sessions=sessions, samples=samples)


def read(folder):
    accumulator = EventAccumulator(str(folder), {"scalars": 0, "tensors": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def values(accumulator, name):
    return [(one.step, one.wall_time, one.value) for one in accumulator.Scalars(name)]


def test_a_rank_that_is_no_more_goes_with_the_earlier_export(tmp_path):
    several = Session((trainer(0, 2), trainer(1, 2)))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    for session in (several, Session((trainer(),))):
        write_run(tmp_path / "run", run_of(session), NOTHING)
    names = {path.name.partition(".")[0] for path in (tmp_path / "run").iterdir()}
    assert names == {"notes", "events"}


def test_one_step(tmp_path):
    write_run(tmp_path / "run", run_of(Session((trainer(count=1),))), NOTHING)
    found = read(tmp_path / "run")
    assert values(found, "step/seconds") == [(0, 1001.0, 1.0)]
    assert values(found, "phase_share/forward") == [(0, 1001.0, 0.25)]


def test_a_run_without_steps_shows_the_machine_by_the_second(tmp_path):
    at = (BEGAN, BEGAN + SECOND // 2, BEGAN + 3 * SECOND)
    shares = (0.25, 0.75, None)
    gpus = (GpuSample(0, power_w=70.0),)
    looks = [
        Sample(ns, MachineSample(busy), gpus=gpus) for ns, busy in zip(at, shares, strict=True)
    ]
    write_run(tmp_path / "run", run_of(samples=tuple(looks)), NOTHING)
    found = read(tmp_path / "run")
    assert values(found, "machine/cpu_busy_share") == [(0, 1000.5, 0.5)]
    assert [step for step, _, _ in values(found, "gpu_0/power_w")] == [0, 3]
    assert "step/seconds" not in found.Tags()["scalars"]
    assert "trainprof/diagnosis" in found.Tags()["tensors"]
    assert "trainprof/the mean step" not in found.Tags()["tensors"]


def test_a_thousand_ranks_have_one_curve_over_the_ranks(tmp_path):
    ranks = tuple(trainer(rank, 1000) for rank in range(1000))
    told = tuple(RankSummary(rank, rank, 3, 1 + rank / 1000) for rank in range(1000))
    write_run(tmp_path / "run", run_of(Session(ranks)), replace(NOTHING, ranks=told))
    folders = sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir())
    assert len(folders) == MOST_RANKS
    curve = values(read(tmp_path / "run"), "ranks/step_seconds")
    assert [(step, value) for step, _, value in curve] == [
        (one.rank, float(np.float32(one.mean_s))) for one in told
    ]
    assert len(values(read(tmp_path / "run" / "rank-15"), "step/seconds")) == 3


def test_the_second_training_of_a_command_and_another_machine_have_their_own_folders(tmp_path):
    sessions = (
        Session((trainer(0, 2), trainer(1, 2, host="b"))),
        Session((trainer(count=2, began=BEGAN + 10 * SECOND),)),
    )
    looks = tuple(Sample(BEGAN + n * SECOND, MachineSample(n / 16)) for n in (1, 11, 12))
    write_run(tmp_path / "run", run_of(*sessions, samples=looks), NOTHING)
    here, there = read(tmp_path / "run" / "rank-0"), read(tmp_path / "run" / "rank-1")
    assert values(here, "step/seconds")[0][1] == 1001.0
    assert values(there, "step/seconds")[0][1] == 2006.0
    second = read(tmp_path / "run" / "training-2")
    assert values(second, "step/seconds")[0][1] == 1011.0
    assert values(here, "machine/cpu_busy_share") == [(0, 1001.0, 1 / 16)]
    assert [value for _, _, value in values(second, "machine/cpu_busy_share")] == [11 / 16, 0.75]


def test_nan_and_infinity_stay_what_they_are(tmp_path):
    losses = (LossValue(0, math.nan), LossValue(1, math.inf), LossValue(2, 1e300))
    write_run(tmp_path / "run", run_of(Session((trainer(losses=losses),))), NOTHING)
    found = [value for _, _, value in values(read(tmp_path / "run"), "loss")]
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, math.inf]  # beyond what TensorBoard can hold


def test_names_of_100_000_characters_are_cut(tmp_path):
    long = "ü<b>" * 25_000
    finding = Finding(
        long,
        long,
        long,
        long,
        (Evidence(long, long, long),),
        fixes=(FixAdvice(long, {}, long, long),),
    )
    told = replace(
        NOTHING,
        headline=long,
        run=RunSummary(long, name=long, argv=(long,), cwd=long),
        steps=StepSummary(3, 3, 0.1, phases={long: PhaseTime(1.0, 0.1)}),
        findings=(finding,),
    )
    write_run(tmp_path / "run", run_of(Session((trainer(),))), told)
    found = read(tmp_path / "run")
    names = [name for kind in found.Tags().values() if isinstance(kind, list) for name in kind]
    assert max(map(len, names)) < 120
    texts = found.Tensors("trainprof/diagnosis")[0].tensor_proto.string_val[0]
    assert len(texts) < 30_000
    assert b"<b>" not in re.sub(rb"`[^`]*`", b"", texts)  # in code it is shown as it is


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        (r"a \$ \< \_", "a &#36; &#60; &#95;"),
        (r"`a \$` and \`b\`", r"`a \$` and &#96;b&#96;"),
        ("text\n- one\n- two", "text\n\n- one\n- two"),
        ("  ```python\n  a = 1\n    b\n  ```\n- x", "```python\na = 1\n  b\n```\n\n- x"),
        ("<details><summary>Unseen: 3</summary>\n\n</details>", "Unseen: 3\n\n"),
    ],
)
def test_markdown_of_another_dialect(markdown, expected):
    assert for_tensorboard(markdown) == expected


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trainprof-runs" / "r" / "procs").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    assert main(["export", "r", "--to", "tensorboard", "--out", "file"]) == 2
    assert capsys.readouterr().err == (
        "trainprof: file is a file; name the folder that TensorBoard is to show.\n"
    )
    assert main(["export", "r", "--to", "tensorboard", "--out", "/proc/board"]) == 2
    assert "/proc/board/r cannot be written" in capsys.readouterr().err
    assert main(["export", "r", "--to", "tensorboard", "--out", "board"]) == 0
    assert "`tensorboard --logdir board` shows it" in capsys.readouterr().err


def test_without_tensorboard_the_install_line_is_said(tmp_path):
    (tmp_path / "r" / "procs").mkdir(parents=True)
    program = (
        "import sys; sys.modules['tensorboard'] = None\n"
        "from trainprof.cli.main import main\n"
        "sys.exit(main(['export', 'r', '--to', 'tensorboard', '--out', 'board']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == (
        "trainprof: TensorBoard is not installed: pip install 'trainprof[tensorboard]'\n"
    )
    assert not (tmp_path / "board").exists()


def test_torch_is_never_imported(tmp_path):
    (tmp_path / "r" / "procs").mkdir(parents=True)
    program = (
        "import sys\n"
        "from trainprof.cli.main import main\n"
        "status = main(['export', 'r', '--to', 'tensorboard', '--out', 'board'])\n"
        "sys.exit(status or 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
