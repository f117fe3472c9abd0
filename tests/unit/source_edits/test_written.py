"""A patch is written whole or not at all, and taken back byte for byte."""

import os
from pathlib import Path

import pytest

from trainprof.errors import TrainprofError, UsageError
from trainprof.rules.source_edits import written
from trainprof.rules.source_edits.changed_file import ChangedFile
from trainprof.rules.source_edits.written import (
    digest,
    last_written,
    take_back,
    was_written,
    write_patch,
)

OLD, NEW = b"x = 1\r\n\xff", b"x = 2\r\n\xff"


@pytest.fixture
def base(tmp_path):
    return tmp_path / "trainprof-runs"


@pytest.fixture
def changes(tmp_path):
    """Two files and what they are to become."""
    files = []
    for name in ("train.py", "data.py"):
        path = tmp_path / name
        path.write_bytes(OLD)
        path.chmod(0o750)
        files.append(ChangedFile(str(path), OLD, NEW))
    return files


def contents(changes):
    return [Path(file.path).read_bytes() for file in changes]


def test_written_and_taken_back(changes, base):
    folder = write_patch(changes, base)
    assert contents(changes) == [NEW, NEW]
    assert os.stat(changes[0].path).st_mode & 0o777 == 0o750
    assert (base / ".gitignore").read_text() == "*\n"
    found, back = last_written(base=base)
    assert found == folder
    assert back == [ChangedFile(file.path, NEW, OLD) for file in changes]
    take_back(found, back)
    assert contents(changes) == [OLD, OLD]
    assert os.stat(changes[0].path).st_mode & 0o777 == 0o750
    with pytest.raises(UsageError, match="nothing to take back"):
        last_written(base=base)


def test_patches_are_taken_back_one_after_the_other(changes, base):
    first = changes[:1]
    write_patch(first, base)
    write_patch([ChangedFile(first[0].path, NEW, b"third")], base)
    take_back(*last_written(base=base))
    assert contents(first) == [NEW]
    take_back(*last_written(base=base))
    assert contents(first) == [OLD]


def test_the_patch_of_one_file_is_found(changes, base):
    write_patch(changes[:1], base)
    write_patch(changes[1:], base)
    assert last_written([changes[0].path], base)[1][0].path == changes[0].path
    with pytest.raises(UsageError, match=r"into .*other\.py"):
        last_written([str(base.parent / "other.py")], base)


def test_a_file_that_was_changed_since_is_not_overwritten(changes, base, tmp_path):
    write_patch(changes, base)
    (tmp_path / "train.py").write_bytes(b"my own work\n")
    with pytest.raises(UsageError, match="changed after the fix was written"):
        last_written(base=base)
    assert contents(changes) == [b"my own work\n", NEW]


def test_a_file_that_changes_before_it_is_written_is_left_alone(changes, base, tmp_path):
    (tmp_path / "data.py").write_bytes(b"my own work\n")
    with pytest.raises(UsageError, match="changed meanwhile"):
        write_patch(changes, base)
    assert contents(changes) == [OLD, b"my own work\n"]


def test_all_or_nothing(changes, base, monkeypatch):
    replace_file = written.replace_file

    def full(path, data):
        if path.endswith("data.py"):
            raise OSError(28, "No space left on device")
        replace_file(path, data)

    monkeypatch.setattr(written, "replace_file", full)
    with pytest.raises(TrainprofError, match="No space left on device"):
        write_patch(changes, base)
    assert contents(changes) == [OLD, OLD]


def test_nothing_is_written_without_a_way_back(changes, base):
    base.write_text("a file where the folder should be")
    with pytest.raises(TrainprofError, match="nothing was changed"):
        write_patch(changes, base)
    assert contents(changes) == [OLD, OLD]


def test_a_link_stays_a_link(changes, base, tmp_path):
    link = tmp_path / "link.py"
    link.symlink_to("train.py")
    write_patch([ChangedFile(str(link), OLD, NEW)], base)
    assert link.is_symlink()
    assert (tmp_path / "train.py").read_bytes() == NEW
    take_back(*last_written([str(tmp_path / "train.py")], base))
    assert (tmp_path / "train.py").read_bytes() == OLD


def test_whether_a_file_is_what_a_patch_made_of_it(changes, base):
    path = changes[0].path
    assert not was_written(path, digest(OLD), base)
    write_patch(changes, base)
    assert was_written(path, digest(OLD), base)
    assert was_written(path, None, base)
    assert not was_written(path, digest(b"another"), base)


def test_a_torn_record_is_none(changes, base):
    folder = write_patch(changes, base)
    (folder / "patch.json").write_text('{"files": [{"path"')
    with pytest.raises(UsageError, match="nothing to take back"):
        last_written(base=base)
