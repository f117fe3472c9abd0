"""A run at Weights & Biases: the real wandb, offline, read back from what it would send."""

import json
import math
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pexpect
import pytest

from trainprof.cli.judgement import judge
from trainprof.cli.main import main
from trainprof.cli.settings import Settings
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import Event, MachineSample, ProcessInfo, Sample
from trainprof.profiler.model.tuning import Pair, TriedFix, TriedTogether, TuneResult
from trainprof.profiler.store.encoded import encode_json
from trainprof.profiler.store.reader import read_run
from trainprof.profiler.store.writer import ProcessWriter, write_process_info
from trainprof.reports.tune_json import tune_json
from trainprof.reports.wandb_rows import ROWS_MAX, rows_of

sys.path.insert(0, str(Path(__file__).parent))
from wandb_file import logged

wandb = pytest.importorskip("wandb")

BASE_NS = 5_000_000_000
FAILED_PAIR = ["old", None, None, None, "a trial failed"]
TUNE = TuneResult(
    run="baseline/run",
    kept=(
        TriedFix(
            "loader-workers",
            {"num_workers": 4},
            "data-workers-under",
            measured=(Pair("new", 0.03, 0.02, 1.5), Pair(*FAILED_PAIR)),
        ),
    ),
    combinations=(
        TriedTogether(
            ("a", "b"), "keep", measured=(Pair("old", 0.03, 0.01, 3.0, "a trial waited"),)
        ),
    ),
    aa_pairs=(Pair("old", 0.05, 0.04, 1.25),),
)
LOGGED_TO = {"run_id": "own1", "project": "digits", "entity": "team", "mode": "offline"}


@pytest.fixture
def recorded(make_run, make_step, tmp_path):
    """A run of 40 steps of 10 ms with losses and samples; `events` are the script's."""

    def make(*events, folder=None, **fields):
        folder = make_run(folder=folder, **fields)
        info = ProcessInfo(10, 1, "a", "trainer", started_ns=BASE_NS)
        own = folder / "procs" / f"a-10-{BASE_NS}"
        own.mkdir(parents=True)
        write_process_info(str(own), info)
        writer = ProcessWriter(str(own), BASE_NS)
        for index in range(40):
            phases = {"forward": 6_000_000, "data_wait": 3_000_000}
            at_ns = BASE_NS + index * 10_000_000
            writer.step(make_step(index, at_ns, phases=phases, samples=32))
            writer.loss(index, math.nan if index == 7 else 1.0 / (index + 1))
        for event in events:
            writer.event(event)
        writer.close()
        sample = Sample(BASE_NS + 250_000_000, MachineSample(cpu_busy_share=0.5))
        header = {"format": 1, "base_ns": BASE_NS}
        lines = [json.dumps(header).encode(), encode_json(sample)]
        (folder / "host.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        return folder

    return make


def exported(folder, out):
    assert main(["export", str(folder), "--to", "wandb", "--out", str(out)]) == 0
    wandb.teardown()  # as at the end of the process: all is written
    return {path: logged(path) for path in sorted(out.glob("wandb/*run-*/*.wandb"))}


def test_a_run_comes_back_as_it_was_recorded(recorded, offline, tmp_path, capsys):
    folder = recorded(argv=("train.py", "--lr", "0.1"), name="digits")
    (folder / "report.html").write_text("<p>report</p>")
    (folder / "traces").mkdir()
    (folder / "traces" / "p-step-3.pt.trace.json.gz").write_bytes(b"trace")
    ((path, found),) = exported(folder, tmp_path / "out").items()
    assert str(path.parent) in capsys.readouterr().err
    assert found.ended
    assert (found.run.display_name, found.run.project) == ("digits", "trainprof")
    assert found.config["trainprof"]["command"] == ["train.py", "--lr", "0.1"]

    rows = [row for row in found.history if "trainprof/step" in row]
    assert [row["trainprof/step"] for row in rows] == list(range(40))
    assert {row["trainprof_step/wall_s"] for row in rows} == {0.01}
    assert {row["trainprof_phase/forward_s"] for row in rows} == {0.006}
    assert {row["trainprof_step/samples_per_s"] for row in rows} == {3200.0}
    assert [row["trainprof_step/loss"] for row in rows][:3] == [1.0, 0.5, 1 / 3]
    assert str(rows[7]["trainprof_step/loss"]).lower() == "nan"
    for row in rows:
        assert sum(row[f"trainprof_phase/{phase}_s"] for phase in PHASES) == pytest.approx(0.01)
        assert row["_timestamp"] == pytest.approx(1000.0 + row["trainprof/time_s"])
    samples = [row for row in found.history if "trainprof_machine/cpu_busy_share" in row]
    assert [(row["trainprof/time_s"]) for row in samples] == [0.25]
    assert found.metrics["trainprof_phase/*"] == "trainprof/step"
    assert found.metrics["trainprof_machine/*"] == "trainprof/time_s"

    diagnosis = judge(folder, Settings())
    assert found.summary["trainprof/step_s"] == diagnosis.steps.mean_s
    assert found.summary["trainprof/verdict"] == diagnosis.verdict
    signals = found.config["trainprof"]["facts"]["signals"]
    assert signals["step.mean_s"]["value"] == diagnosis.steps.mean_s
    assert set(signals) == {
        name for name, one in diagnosis.facts["signals"].items() if one["value"] is not None
    }
    for name, phase in diagnosis.steps.phases.items():
        assert found.summary[f"trainprof/{name}_share"] == phase.share
    (table,) = path.parent.glob("files/media/table/trainprof_findings*.json")
    told = [row[1] for row in json.loads(table.read_text())["data"]]
    assert told == [finding.rule for finding in diagnosis.findings]
    (artifact,) = (one for one in found.artifacts if one.type == "trainprof")
    names = {entry.path for entry in artifact.manifest.contents}
    assert names == {"report.html", "p-step-3.pt.trace.json.gz"}


def test_the_script_s_own_run_is_continued(recorded, offline, tmp_path):
    own = tmp_path / "elsewhere" / "wandb" / "offline-run-20260101_000000-own1"
    own.mkdir(parents=True)
    folder = recorded(Event("wandb_run", BASE_NS, 0, {**LOGGED_TO, "sync_dir": str(own)}))
    assert main(["export", str(folder), "--to", "wandb"]) == 0
    wandb.teardown()
    (path,) = own.parent.glob("offline-run-*-own1/*.wandb")
    found = logged(path)
    assert (found.run.run_id, found.run.project, found.run.entity) == ("own1", "digits", "team")
    assert found.run.display_name == ""  # the script's name stays
    assert set(found.config) == {"trainprof", "_wandb"}
    assert len([row for row in found.history if "trainprof/step" in row]) == 40


def test_a_run_that_the_environment_names_is_continued(recorded, offline, tmp_path):
    offline.setenv("WANDB_RUN_ID", "named")
    offline.setenv("WANDB_PROJECT", "digits")
    ((_, found),) = exported(recorded(), tmp_path / "out").items()
    assert (found.run.run_id, found.run.project) == ("named", "digits")


def test_a_tune_is_a_group_of_runs(recorded, offline, tmp_path, capsys):
    tune = tmp_path / "tune-1"
    (tune / "procs").mkdir(parents=True)
    recorded(folder=tune / "baseline" / "run")
    for name in ("001-unchanged", "002-loader-workers"):
        recorded(folder=tune / "trials" / name / "run")
    applied = {"fix": "loader-workers", "params": {"num_workers": 4}}
    plan = {"applications": [{**applied, "target": None}]}
    (tune / "trials" / "002-loader-workers" / "plan.json").write_text(json.dumps(plan))
    (tune / "trials" / "003-broken").mkdir()
    (tune / "tune.json").write_text(tune_json(TUNE))
    found = {one.run.display_name: one for one in exported(tune, tmp_path / "out").values()}
    assert set(found) == {"unchanged", "001-unchanged", "002-loader-workers"}
    assert {one.run.run_group for one in found.values()} == {"tune-1"}
    assert [found[name].run.job_type for name in sorted(found)] == ["trial", "trial", "baseline"]
    assert found["002-loader-workers"].config["trainprof"]["fixes"] == [applied]
    assert "2 trials are runs of the group tune-1" in capsys.readouterr().err
    (table,) = tmp_path.glob("out/wandb/*/files/media/table/trainprof_pairs*.json")
    assert found["unchanged"].run.run_id in table.parents[3].name
    assert json.loads(table.read_text()) == {
        "columns": [
            *("tried", "fix", "verdict", "pair", "first"),
            *("old_step_s", "new_step_s", "ratio", "left_out"),
        ],
        "data": [
            ["00-unchanged", None, "control", 1, "old", 0.05, 0.04, 1.25, None],
            ["01-loader-workers", "loader-workers", "kept", 1, "new", 0.03, 0.02, 1.5, None],
            ["01-loader-workers", "loader-workers", "kept", 2, *FAILED_PAIR],
            ["together-1", "a + b", "keep", 1, "old", 0.03, 0.01, 3.0, "a trial waited"],
        ],
    }


def test_a_damaged_result_of_a_tune_is_said_before_anything_is_written(
    recorded, offline, tmp_path, capsys
):
    tune = tmp_path / "tune-1"
    (tune / "procs").mkdir(parents=True)
    recorded(folder=tune / "baseline" / "run")
    recorded(folder=tune / "trials" / "001-unchanged" / "run")
    (tune / "tune.json").write_text("{}")
    assert main(["export", str(tune), "--to", "wandb", "--out", str(tmp_path / "out")]) == 2
    assert "tune.json is damaged" in capsys.readouterr().err
    assert list(tmp_path.glob("out/wandb/*")) == []


def test_a_run_without_a_training(make_run, offline, tmp_path):
    ((_, found),) = exported(make_run(name="x" * 100_000, argv=("a\udc80",)), tmp_path).items()
    assert [name for row in found.history for name in row if "findings/_type" in name]
    assert len(found.run.display_name) == 128
    assert found.config["trainprof"]["command"] == ["a\\udc80"]


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"WANDB_MODE": "online"}, "run `wandb login` first, or set WANDB_MODE=offline"),
        ({"WANDB_MODE": "disabled"}, "WANDB_MODE=disabled switches W&B off"),
        ({"WANDB_MODE": "nonsense"}, "W&B does not take a setting: mode: Input should be"),
        ({"WANDB_INIT_TIMEOUT": "soon"}, "W&B does not take a setting: init_timeout: Input"),
    ],
)
def test_what_wandb_cannot_do_is_one_sentence(make_run, offline, capsys, environment, sentence):
    for name, value in environment.items():
        offline.setenv(name, value)
    assert main(["export", str(make_run()), "--to", "wandb"]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1


def test_nobody_is_asked_for_a_key(make_run, offline):
    offline.setenv("WANDB_MODE", "online")
    command = ["-m", "trainprof", "export", str(make_run()), "--to", "wandb"]
    with pexpect.spawn(sys.executable, command, encoding="utf-8", timeout=60) as terminal:
        terminal.expect(pexpect.EOF)
        told = terminal.before.strip()
    assert terminal.exitstatus == 2
    assert told.startswith("trainprof: W&B knows no API key here")


def test_without_wandb_the_line_that_installs_it_is_told(make_run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main(["export", str(make_run()), "--to", "wandb"]) == 2
    assert "pip install 'trainprof[wandb]'" in capsys.readouterr().err


def test_the_folder_that_wandb_leaves_is_not_taken_for_it(make_run, monkeypatch, capsys):
    of_a_folder = ModuleSpec("wandb", None)  # what Python finds in a working directory with one
    monkeypatch.setattr("trainprof.reports.wandb_run.find_spec", lambda _: of_a_folder)
    assert main(["export", str(make_run()), "--to", "wandb"]) == 2
    assert "pip install 'trainprof[wandb]'" in capsys.readouterr().err


def test_a_process_of_wandb_that_has_ended_is_one_sentence(make_run, offline, tmp_path, capsys):
    def log(*_):
        raise ConnectionResetError("Connection lost")

    offline.setattr("wandb.sdk.wandb_run.Run.log", log)
    assert main(["export", str(make_run()), "--to", "wandb", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said == "trainprof: W&B could not be written: its own process has ended.\n"


def test_a_long_run_becomes_so_many_rows_and_keeps_its_mean(make_run):
    info = ProcessInfo(10, 1, "a", "trainer", started_ns=BASE_NS)
    run = read_run(make_run((info, 4_500)))
    rows = list(rows_of(run))
    assert len(rows) == 1_500 <= ROWS_MAX
    assert rows[-1]["trainprof/step"] == 4_499
    assert {row["trainprof_step/wall_s"] for row in rows} == {0.01}
    assert "trainprof_step/samples_per_s" not in rows[0]


@pytest.mark.parametrize(
    ("mode", "given", "settings"),
    [
        ("online", {"resume": "allow"}, {"x_primary": False}),
        ("shared", {"mode": "shared"}, {"x_primary": False, "x_update_finish_state": False}),
    ],
)
def test_how_a_run_that_is_online_is_joined(recorded, offline, capsys, mode, given, settings):
    """What wandb is asked for; its server is not there to try it with."""
    asked = {}

    def init(**arguments):
        asked.update(arguments)
        raise wandb.errors.CommError("no server.\nTry later")

    offline.setattr(wandb, "init", init)
    offline.delenv("WANDB_MODE")
    folder = recorded(Event("wandb_run", BASE_NS, 0, {**LOGGED_TO, "mode": mode}))
    assert main(["export", str(folder), "--to", "wandb"]) == 2
    assert capsys.readouterr().err == "trainprof: W&B could not be written: no server.\n"
    told = {"id": "own1", "project": "digits", "entity": "team", **given}
    assert {name: asked.get(name) for name in told} == told
    assert "name" not in asked
    assert {name: getattr(asked["settings"], name) for name in settings} == settings
