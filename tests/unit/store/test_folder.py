"""Making run folders, and run.json on a full disk."""

import dataclasses
import errno
import json
import os
import re

import pytest

from trainprof.errors import RunFolderError
from trainprof.profiler.model.records import Hardware, RunInfo
from trainprof.profiler.store.folder import create_run_folder, write_run_info

INFO = RunInfo(1, "run", ("train.py",), "/", 1000.0, 5, "0.1", hardware=Hardware(logical_cores=2))


def test_a_named_folder_is_made_under_the_base_and_ignored_by_git(tmp_path):
    base = tmp_path / "trainprof-runs"
    folder = create_run_folder(None, None, "examples/train.py", base)
    assert re.fullmatch(r"\d{8}-\d{6}-train", folder.name)
    assert folder.parent == base
    assert (folder / "procs").is_dir()
    assert (base / ".gitignore").read_text() == "*\n"


def test_a_second_run_in_the_same_second_gets_a_number(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda form: "20240102-030405")
    names = [create_run_folder(None, None, "train.py", tmp_path).name for _ in range(3)]
    stamp = "20240102-030405-train"
    assert names == [stamp, f"{stamp}-2", f"{stamp}-3"]


@pytest.mark.parametrize(
    ("name", "script", "slug"),
    [
        (None, "a b/../my train.py", "my-train"),
        ("First try: lr=0.1", "train.py", "First-try-lr-0.1"),
        (None, "..", "run"),
        ("a/../../b", "train.py", "b"),
        (None, "x" * 500, "x" * 40),
        (None, "-m", "m"),
    ],
)
def test_names_are_safe_as_folder_names(tmp_path, name, script, slug):
    folder = create_run_folder(None, name, script, tmp_path)
    assert folder.parent == tmp_path
    assert folder.name.split("-", 2)[2] == slug


def test_an_exact_folder_may_exist_empty(tmp_path):
    assert create_run_folder(tmp_path, None, "train.py", tmp_path / "x") == tmp_path
    assert (tmp_path / "procs").is_dir()
    assert not (tmp_path / "x").exists()
    assert create_run_folder(tmp_path / "a" / "b", None, "", tmp_path).is_dir()


def test_an_exact_folder_in_use_is_refused(tmp_path):
    (tmp_path / "model.pt").touch()
    with pytest.raises(RunFolderError, match="exists and is not empty; choose another"):
        create_run_folder(tmp_path, None, "train.py", tmp_path)
    with pytest.raises(RunFolderError, match="is a file, not a folder"):
        create_run_folder(tmp_path / "model.pt", None, "train.py", tmp_path)


@pytest.mark.parametrize("exact", [True, False])
def test_no_permission_is_one_sentence(tmp_path, exact, monkeypatch):
    def refused(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", refused)
    out = tmp_path / "out" if exact else None
    with pytest.raises(RunFolderError, match=r"cannot be written \(Permission denied\); choose"):
        create_run_folder(out, None, "train.py", tmp_path / "runs")


def test_run_info_is_one_json_object(tmp_path):
    write_run_info(tmp_path, INFO)
    data = json.loads((tmp_path / "run.json").read_bytes())
    assert (data["format"], data["argv"], data["hardware"]["logical_cores"]) == (
        1,
        ["train.py"],
        2,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def full_disk(*args):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_names_that_are_no_utf_8_are_written_as_escapes(tmp_path):
    info = dataclasses.replace(INFO, argv=("tr\udce4in.py",), cwd="/home/\udcff")
    write_run_info(tmp_path, info)
    written = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    assert written["argv"] == ["tr\\udce4in.py"]
    assert written["cwd"] == "/home/\\udcff"


def test_the_end_of_a_run_is_written_on_a_full_disk_too(tmp_path, monkeypatch):
    write_run_info(tmp_path, INFO)
    size = (tmp_path / "run.json").stat().st_size
    monkeypatch.setattr(os, "write", full_disk)
    ended = dataclasses.replace(INFO, status="complete", exit_status=0, notes=("x" * 3000,))
    write_run_info(tmp_path, ended)
    assert json.loads((tmp_path / "run.json").read_bytes())["status"] == "complete"
    assert (tmp_path / "run.json").stat().st_size == size
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_full_disk_from_the_start_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(RunFolderError, match="No space left on device"):
        write_run_info(tmp_path, INFO)


def test_an_end_too_long_for_the_old_file_is_refused_not_torn(tmp_path, monkeypatch):
    write_run_info(tmp_path, INFO)
    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(RunFolderError, match="No space left"):
        write_run_info(tmp_path, dataclasses.replace(INFO, notes=("x" * 9000,)))
    assert json.loads((tmp_path / "run.json").read_bytes())["notes"] == []
