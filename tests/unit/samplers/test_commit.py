"""The commit of the user's repository, read from outside."""

import subprocess

import pytest

from trainprof.profiler.samplers.commit import read_commit


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "repository"
    folder.mkdir()

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(folder), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    (folder / "train.py").write_text("print(1)\n")
    git("add", "train.py")
    git("commit", "-m", "first", "--no-gpg-sign")
    return folder, git("rev-parse", "HEAD")


def test_the_commit_and_whether_tracked_files_differ(repository):
    folder, commit = repository
    (folder / "new.py").write_text("")
    assert read_commit(folder) == commit
    (folder / "train.py").write_text("print(2)\n")
    assert read_commit(folder) == f"{commit} with changes"


def test_no_repository_no_git_and_no_folder_are_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert read_commit(tmp_path) is None
    assert read_commit(tmp_path / "absent") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_commit(tmp_path) is None


def test_a_git_that_is_too_slow_is_not_waited_for(repository, tmp_path, monkeypatch):
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:/usr/bin:/bin")
    monkeypatch.setattr("trainprof.profiler.samplers.commit.LONGEST_S", 0.05)
    assert read_commit(repository[0]) is None
