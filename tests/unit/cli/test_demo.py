import importlib
import json

import pytest

from trainprof.cli.main import COMMANDS, main

MODULE = importlib.import_module("trainprof.cli.demo")


@pytest.fixture
def python_without_torch(tmp_path, monkeypatch):
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    monkeypatch.setattr(MODULE, "target_python", lambda: str(path))
    return path


def test_without_torch_one_sentence_holds_the_pip_line(python_without_torch, capsys):
    assert main(["demo"]) == 2
    error = capsys.readouterr().err
    assert f"{python_without_torch} -m pip install torch" in error
    assert error.count("\n") == 1


def test_a_folder_that_holds_something_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["demo", "--out", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


def test_the_tour_names_only_commands_that_exist(tmp_path):
    tour = MODULE._tour(tmp_path, "python")
    commands = [line.split()[1] for line in tour.splitlines() if line.startswith("    trainprof ")]
    assert len(commands) == 3
    assert set(commands) <= set(COMMANDS)


def test_the_tour_takes_the_advice_of_the_diagnosis(tmp_path):
    assert "--workers 4\n" in MODULE._tour(tmp_path, "python")
    (tmp_path / "run").mkdir()
    fixes = [{"params": {"fused": True}}, {"params": {"num_workers": 7}}]
    diagnosis = {"findings": [{"fixes": []}, {"fixes": fixes}]}
    (tmp_path / "run" / "diagnosis.json").write_text(json.dumps(diagnosis))
    assert "--workers 7\n" in MODULE._tour(tmp_path, "python")
