"""`trainprof fix` from its arguments to the bytes of the files."""

import json
import os
import sys
from pathlib import Path

import pytest

from trainprof.cli.main import main
from trainprof.cli.plan_sources import script_of, script_of_run, with_sources
from trainprof.profiler.model.diagnosis import Diagnosis, Finding, FixAdvice, Location, RunSummary
from trainprof.profiler.model.plan import Application, Plan, Target, plan_to_json

SCRIPT = b"import torch\r\nloader = DataLoader(data)\r\nother = DataLoader(data)\r\n"
FIXED = SCRIPT.replace(b"r = DataLoader(data)", b"r = DataLoader(data, num_workers=2)", 1)
WORKERS = "loader-workers:num_workers=2,at=train.py:2"


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "train.py"
    path.write_bytes(SCRIPT)
    return path


@pytest.fixture
def plan(script):
    """A plan as tune writes it."""
    workers = Application("loader-workers", {"num_workers": 2}, Target(str(script), 2))
    threads = Application("intra-op-threads", {"num_threads": 1})
    path = script.parent / "plan.json"
    path.write_text(plan_to_json(with_sources(Plan((workers, threads)), str(script))))
    return path


def test_the_diff_goes_to_stdout_and_nothing_is_written(script, capfdbinary):
    assert main(["fix", "train.py", "--fix", WORKERS]) == 0
    out, err = capfdbinary.readouterr()
    assert out == (
        b"--- a/train.py\n+++ b/train.py\n@@ -1,3 +1,3 @@\n import torch\r\n"
        b"-loader = DataLoader(data)\r\n+loader = DataLoader(data, num_workers=2)\r\n"
        b" other = DataLoader(data)\r\n"
    )
    assert f"trainprof fix train.py --fix {WORKERS} --write".encode() in err
    assert script.read_bytes() == SCRIPT
    assert os.listdir(script.parent) == ["train.py"]


def test_written_shown_and_taken_back(script, capfdbinary):
    assert main(["fix", "train.py", "--fix", WORKERS, "--write"]) == 0
    out, err = capfdbinary.readouterr()
    assert b"+loader = DataLoader(data, num_workers=2)\r\n" in out
    assert b"1 file written (loader-workers); `trainprof fix --undo`" in err
    assert script.read_bytes() == FIXED
    assert main(["fix", "train.py", "--fix", WORKERS, "--write"]) == 0
    out, err = capfdbinary.readouterr()
    assert out == b""
    assert b"loader-workers: the source has it already." in err
    assert script.read_bytes() == FIXED
    assert main(["fix", "--undo"]) == 0
    assert b"-loader = DataLoader(data, num_workers=2)\r\n" in capfdbinary.readouterr().out
    assert script.read_bytes() == SCRIPT
    assert main(["fix", "--undo"]) == 2
    assert b"nothing to take back" in capfdbinary.readouterr().err


def test_what_is_left_to_a_person(script, capfd):
    assert main(["fix", "train.py", "--fix", "loader-workers:num_workers=2", "--write"]) == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    assert (
        "by hand: loader-workers at train.py: it makes a DataLoader at lines 2 and 3; name one "
        "with at=FILE:LINE. Write: num_workers=2\n"
    ) in captured.err
    assert script.read_bytes() == SCRIPT


def test_a_plan_is_written_once(script, plan, capfd):
    assert main(["fix", "plan.json", "--write"]) == 0
    text = script.read_bytes()
    assert text.replace(b"\r\ntorch.set_num_threads(1)\r\n", b"") == FIXED
    assert "(loader-workers, intra-op-threads)" in capfd.readouterr().err
    assert main(["fix", "plan.json", "--write"]) == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "train.py" in captured.err
    assert "--undo` takes them back, so that" in captured.err
    assert script.read_bytes() == text
    assert main(["fix", "plan.json", "--undo"]) == 0
    assert script.read_bytes() == SCRIPT


def test_one_fix_of_a_plan(script, plan, capfd):
    assert main(["fix", "plan.json", "--fix", "loader-workers", "--quiet"]) == 0
    captured = capfd.readouterr()
    assert "num_workers=2" in captured.out
    assert "set_num_threads" not in captured.out
    assert captured.err == ""
    assert main(["fix", "plan.json", "--fix", "gc-freeze"]) == 2
    assert "holds loader-workers, intra-op-threads." in capfd.readouterr().err


def test_a_file_that_changed_since_the_plan_is_refused(script, plan, capfd):
    script.write_bytes(b"# new\r\n" + SCRIPT)
    assert main(["fix", "plan.json", "--write"]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "train.py was changed after it was measured" in captured.err
    assert script.read_bytes() == b"# new\r\n" + SCRIPT


@pytest.fixture
def recorded(script, monkeypatch):
    """A run whose findings advise something, in place of reading one."""
    folder = script.parent / "trainprof-runs" / "a-run"
    (folder / "procs").mkdir(parents=True)
    summary = RunSummary(
        "complete",
        argv=("train.py", "--epochs", "2"),
        cwd=str(script.parent),
        started_unix_s=script.stat().st_mtime + 1.0,
    )
    workers = FixAdvice("loader-workers", {"num_workers": 2, "unknown": 1}, "numerics", "Let two.")
    cheaper = FixAdvice("dataset-cheaper", {}, "numerics", "Decode less.", "decode(small=True)")
    finding = Finding(
        "data-workers-under",
        "warn",
        "Waits",
        "It waits.",
        (),
        where=Location(str(script), 2),
        fixes=(workers, cheaper),
    )
    diagnosis = Diagnosis(1, "run", summary, "bottleneck", "Slow.", None, (finding,))
    monkeypatch.setattr("trainprof.cli.judgement.judge", lambda *_: diagnosis)
    return folder


def test_the_findings_of_the_latest_run(script, recorded, capfd):
    assert main(["fix"]) == 0
    captured = capfd.readouterr()
    assert "+loader = DataLoader(data, num_workers=2)" in captured.out
    assert (
        "by hand: dataset-cheaper at train.py:2: Decode less. Write: decode(small=True)"
        in captured.err
    )
    assert main(["fix", str(recorded), "--fix", "loader-workers:num_workers=5"]) == 0
    captured = capfd.readouterr()
    assert "+loader = DataLoader(data, num_workers=5)" in captured.out
    assert "dataset-cheaper" not in captured.err


def test_a_script_that_changed_since_its_run_is_refused(script, recorded, capfd):
    later = script.stat().st_mtime + 100.0
    os.utime(script, (later, later))
    assert main(["fix", "--write"]) == 2
    assert "changed after it was measured" in capfd.readouterr().err
    assert script.read_bytes() == SCRIPT


def test_what_cannot_be_asked_for(script, capfd):
    for words, sentence in (
        (["gone.py"], "there is no script gone.py"),
        (["train.py"], "no run of train.py is recorded here"),
        (["train.py", "--fix", "faster"], "there is no fix faster"),
        (["train.py", "--fix", "intra-op-threads"], "intra-op-threads needs num_threads"),
        (["--write", "--undo"], "exclude each other"),
        (["--undo", "--fix", "gc-freeze"], "leave --fix out"),
        (["--undo", "gone.py"], "no fix was written into"),
        (["nowhere"], "there is no run folder nowhere"),
    ):
        assert main(["fix", *words]) == 2
        captured = capfd.readouterr()
        assert captured.out == ""
        assert sentence in captured.err
        assert captured.err.count("\n") == 1


def test_the_latest_tune_of_a_script(script, plan, capfd):
    folder = script.parent / "trainprof-runs" / "a-tune"
    (folder / "procs").mkdir(parents=True)
    (folder / "tune.json").write_text("{}")
    plan.rename(folder / "plan.json")
    for words in (["fix"], ["fix", "train.py"], ["fix", "a-tune"]):
        assert main(words) == 0
        assert "+torch.set_num_threads(1)" in capfd.readouterr().out


def test_a_tune_that_kept_nothing(script, capfd):
    folder = script.parent / "trainprof-runs" / "a-tune"
    (folder / "procs").mkdir(parents=True)
    (folder / "tune.json").write_text("{}")
    assert main(["fix", "a-tune"]) == 2
    assert "kept nothing" in capfd.readouterr().err


def test_without_libcst_the_line_for_pip_is_given(script, monkeypatch, capfd):
    for name in list(sys.modules):
        if name.startswith(("trainprof.rules.source_edits.", "trainprof.cli.fixing")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "libcst", None)
    assert main(["fix", "train.py", "--fix", WORKERS]) == 2
    assert "pip install 'trainprof[tune]'" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("command", "script"),
    [
        (("train.py", "--lr", "1"), "train.py"),
        (("python", "-u", "train.py"), "train.py"),
        (("python", "-m", "package.train"), "package/train.py"),
        (("python", "-m", "package"), "package/__main__.py"),
        (("torchrun", "--nproc_per_node=2", "train.py"), "train.py"),
        (("bash", "train.sh"), None),
        (("gone.py",), None),
    ],
)
def test_the_script_of_a_command(tmp_path, command, script):
    (tmp_path / "package").mkdir()
    for name in ("train.py", "package/train.py", "package/__main__.py", "train.sh"):
        (tmp_path / name).touch()
    wanted = str(tmp_path / script) if script else None
    assert script_of(command, str(tmp_path)) == wanted


def test_the_script_of_a_run_that_a_shell_started(tmp_path):
    (tmp_path / "train.py").touch()
    for name, role in (("a", "worker"), ("b", "trainer")):
        folder = tmp_path / "run" / "procs" / name
        folder.mkdir(parents=True)
        (folder / "proc.json").write_text(json.dumps({"role": role, "argv": ["train.py", "1"]}))
    (tmp_path / "run" / "procs" / "a" / "proc.json").write_text("torn")
    found = script_of_run(tmp_path / "run", ("bash", "train.sh"), str(tmp_path))
    assert found == str(tmp_path / "train.py")


def test_a_plan_without_its_files_still_has_its_fixes(tmp_path):
    plan = Plan((Application("gc-freeze"),))
    assert with_sources(plan, str(Path(tmp_path) / "gone.py")).sources == {}
