import os
from pathlib import Path

import pytest

from trainprof.profiler.model.diagnosis import Location, RunSummary
from trainprof.reports.source import place, short_path, source_line


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text("import torch\nloader = DataLoader(data)\n")
    return folder


def run_in(folder, *argv):
    return RunSummary(status="complete", cwd=str(folder), argv=argv)


def test_reads_the_line_that_a_finding_names(project):
    location = Location(str(project / "train.py"), 2)
    assert source_line(location, run_in(project)) == "loader = DataLoader(data)"


def test_reads_a_relative_file_below_the_working_directory(project):
    assert source_line(Location("train.py", 1), run_in(project)) == "import torch"


def test_reads_beside_a_script_outside_the_working_directory(project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    location = Location(str(project / "train.py"), 1)
    assert source_line(location, run_in(elsewhere)) is None
    run = run_in(elsewhere, "python", str(project / "train.py"))
    assert source_line(location, run) == "import torch"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("# coding: latin-1\nläden = 1\n".encode("latin-1"), "läden = 1"),
        ("\ufeff# from an editor\nläden = 1\n".encode(), "läden = 1"),
        (b"# coding: klingon\nx = 1\n", None),
        (b"# no cookie\nx = '\xff'\n", None),
        ("# wide\nx = 1\n".encode("utf-16"), None),
    ],
)
def test_a_line_is_decoded_as_python_does(project, content, line):
    (project / "train.py").write_bytes(content)
    assert source_line(Location("train.py", 2), run_in(project)) == line


def test_a_byte_order_mark_is_no_part_of_the_first_line(project):
    (project / "train.py").write_bytes("\ufeffimport torch\n".encode())
    assert source_line(Location("train.py", 1), run_in(project)) == "import torch"


@pytest.mark.parametrize("line", [0, -3, 3, 10**9])
def test_no_such_line(project, line):
    assert source_line(Location("train.py", line), run_in(project)) is None


def test_never_opens_what_lies_outside_or_is_no_source(project, tmp_path):
    secret = tmp_path / "secret.py"
    secret.write_text("password = 1\n")
    (project / "link.py").symlink_to(secret)
    (project / "notes.txt").write_text("private\n")
    (project / "folder.py").mkdir()
    os.mkfifo(project / "pipe.py")
    names = ["../secret.py", str(secret), "link.py", "notes.txt", "folder.py", "pipe.py", "gone.py"]
    for name in [*names, "\0", "x" * 5000]:
        assert source_line(Location(name, 1), run_in(project)) is None, name


@pytest.mark.parametrize("cwd", [None, "", "relative"])
def test_a_run_without_a_working_directory_shows_no_source(project, monkeypatch, cwd):
    monkeypatch.chdir(project)
    run = RunSummary(status="complete", cwd=cwd)
    assert source_line(Location("train.py", 1), run) is None


def test_a_huge_file_is_not_read(project):
    (project / "data.py").write_bytes(b"#" * (5 << 20))
    assert source_line(Location("data.py", 1), run_in(project)) is None


def test_place_is_relative_below_the_working_directory_only(project, monkeypatch):
    monkeypatch.chdir(project)
    assert place(Location(str(project / "train.py"), 7)) == "train.py:7"
    assert place(Location("/elsewhere/train.py", 7)) == "/elsewhere/train.py:7"


def test_short_path_survives_a_removed_working_directory(project, monkeypatch):
    gone = project / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert short_path(str(project)) == str(project)
    monkeypatch.chdir(Path.home())
