"""What was changed is put back to the byte, also by somebody else and much later."""

import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainprof.profiler.sandbox import workplace
from trainprof.profiler.sandbox.availability import why_unavailable
from trainprof.profiler.sandbox.journal import Journal, is_pending, put_back
from trainprof.profiler.sandbox.spec import JOURNAL, OPEN, OVERLAY
from trainprof.profiler.sandbox.workplace import Workplace, prepare_workplace, tidy_up_after_killed
from trainprof.profiler.sandbox.write_watch import resolved

NAMES = ("a", "b", "folder", "folder/c", "folder/inner", "folder/inner/d", "link", "new", "new/e")


def tree(folder):
    """Everything below a folder: kind, rights and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else None
        if content is None and path.is_file():
            content = (path.read_bytes(), status.st_mtime_ns)
        found[str(path.relative_to(folder))] = (status.st_mode, content)
    return found


def planted(folder):
    (folder / "folder" / "inner").mkdir(parents=True)
    for name in ("a", "folder/c", "folder/inner/d"):
        (folder / name).write_text(f"{name} as it was")
    (folder / "a").chmod(0o640)
    (folder / "link").symlink_to("folder/c")


def change(folder, journal, kind, one, other):
    """One change as a script makes it; those that are impossible fail as they would there."""
    path, second = str(folder / one), str(folder / other)
    if kind == "rename":
        journal.keep(resolved(path, follows=False), whole=True)
        journal.keep(resolved(second, follows=False), whole=True)
        os.rename(path, second)
    elif kind in ("write", "append"):
        journal.keep(resolved(path, follows=True))
        with open(path, "w" if kind == "write" else "a") as file:
            file.write(other)
    elif kind == "chmod":
        journal.keep(resolved(path, follows=True))
        os.chmod(path, 0o600 if os.path.isfile(path) else 0o700)
    else:
        journal.keep(resolved(path, follows=False))
        calls = {"mkdir": os.mkdir, "unlink": os.unlink, "rmdir": os.rmdir}
        if kind == "symlink":
            os.symlink(other, path)
        else:
            calls[kind](path)


KINDS = ("rename", "write", "append", "chmod", "mkdir", "unlink", "rmdir", "symlink")
CHANGES = st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES), st.sampled_from(NAMES))


@settings(max_examples=60, deadline=None)
@example(changes=[("rename", "folder", "new"), ("append", "new/c", "a")])
@example(changes=[("rename", "a", "new/e"), ("write", "new", "a")])
@given(changes=st.lists(CHANGES, max_size=12))
def test_any_series_of_changes_is_taken_back(tmp_path_factory, changes):
    folder = tmp_path_factory.mktemp("project")
    planted(folder)
    before = tree(folder)
    notes = tmp_path_factory.mktemp("notes") / "journal"
    journal = Journal(notes, ())
    for kind, one, other in changes:
        try:
            change(folder, journal, kind, one, other)
        except OSError:
            continue
    journal.close()

    assert put_back(notes) == []
    assert tree(folder) == before
    assert not notes.exists()
    shutil.rmtree(folder)


def test_a_folder_that_became_a_link_leads_to_no_other_file(tmp_path):
    (tmp_path / "project" / "out").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "new").write_text("somebody's")
    journal = Journal(tmp_path / "notes", ())
    out = tmp_path / "project" / "out"
    journal.keep(str(out / "new"))
    journal.keep(str(out), whole=True)
    out.rename(tmp_path / "project" / "moved")
    out.symlink_to(tmp_path / "data")
    journal.close()
    assert put_back(tmp_path / "notes") == []
    assert (tmp_path / "data" / "new").read_text() == "somebody's"
    assert list(out.iterdir()) == []


def test_a_torn_last_line_and_no_change_are_no_obstacle(tmp_path):
    (tmp_path / "a").write_text("as it was")
    journal = Journal(tmp_path / "notes", ())
    journal.keep(str(tmp_path / "a"))
    journal.close()
    with (tmp_path / "notes" / "log.jsonl").open("a") as log:
        log.write('{"path": "/etc/pass')
    (tmp_path / "a").write_text("changed")
    assert put_back(tmp_path / "notes") == []
    assert (tmp_path / "a").read_text() == "as it was"


def test_no_copy_no_change(tmp_path, monkeypatch):
    """Where a file cannot be copied, the call that would change it fails."""
    (tmp_path / "a").write_text("as it was")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    journal = Journal(tmp_path / "notes", ())
    with pytest.raises(OSError, match="no space"):
        journal.keep(str(tmp_path / "a"))
    journal.close()


def test_what_cannot_be_put_back_is_named_and_the_copy_stays(tmp_path):
    (tmp_path / "a").write_text("as it was")
    journal = Journal(tmp_path / "notes", ())
    journal.keep(str(tmp_path / "a"))
    journal.close()
    (tmp_path / "a").write_text("changed")
    (tmp_path / "notes" / "0").write_text("spoilt")
    assert put_back(tmp_path / "notes") == [str(tmp_path / "a")]
    assert is_pending(tmp_path / "notes")


@pytest.fixture
def project(tmp_path, monkeypatch):
    for name in ("tmp", "records", "project"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(workplace.tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(workplace, "DISK", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "project")
    (tmp_path / "project" / "mine.txt").write_text("as it was")
    (tmp_path / "project" / "other.txt").write_text("as it was")
    return tmp_path / "project"


CHANGES_AND_STAYS = """
import os, time
open("mine.txt", "w").write("changed"); open("other.txt", "a").write("changed")
open("new.txt", "w").write("new"); open("../records/ready", "w").close()
time.sleep(600)
"""


def needs_journal(tmp_path):
    reason = why_unavailable(JOURNAL, [tmp_path], [])
    if reason is not None:
        pytest.skip(f"system calls cannot be watched here: {reason}")


def killed_tune(project, tmp_path):
    """A tune that is killed in a trial with its whole family, without a word."""
    needs_journal(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from trainprof.profiler.sandbox import workplace\n"
        f"place = workplace.Workplace(Path({str(tmp_path / 'records')!r}),"
        f" Path(workplace.tempfile.mkdtemp(prefix=workplace.PREFIX)), 'journal')\n"
        f"place.run([sys.executable, '-c', {CHANGES_AND_STAYS!r}], '001', Path('../log'), 600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    until((tmp_path / "records" / "ready").exists)
    session = [child.pid for child in psutil.Process(process.pid).children()]
    process.send_signal(signal.SIGSTOP)  # or it would tidy up once the sandbox is gone
    for pid in session:
        os.killpg(pid, signal.SIGKILL)
    process.kill()
    process.wait()


def until(true):
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true in a minute")


def test_the_next_tune_puts_back_what_a_killed_one_left(project, tmp_path):
    killed_tune(project, tmp_path)
    assert (project / "mine.txt").read_text() == "changed"

    said = []
    tidy_up_after_killed(said.append)

    assert said == ["a tune was killed; the files that it had changed are as they were"]
    assert {path.name: path.read_text() for path in project.iterdir()} == {
        "mine.txt": "as it was",
        "other.txt": "as it was",
    }
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_was_edited_since_is_left_alone(project, tmp_path):
    killed_tune(project, tmp_path)
    (project / "mine.txt").write_text("edited by hand")
    later = time.time() + 60
    os.utime(project / "mine.txt", (later, later))

    said = []
    tidy_up_after_killed(said.append)

    assert (project / "mine.txt").read_text() == "edited by hand"
    assert (project / "other.txt").read_text() == "as it was"
    assert f"{project / 'mine.txt'} was changed since" in said[1]
    (copies,) = (tmp_path / "tmp").iterdir()
    assert "as it was" in [path.read_text() for path in copies.rglob("?") if path.is_file()]


def test_a_tune_that_lives_is_left_alone(project, tmp_path):
    scratch = tmp_path / "tmp" / f"{workplace.PREFIX}x"
    scratch.mkdir()
    living = Workplace(tmp_path / "records", scratch, OPEN)
    tidy_up_after_killed(pytest.fail)
    assert scratch.exists()
    living.close()
    assert not scratch.exists()


@pytest.mark.parametrize("moment", ["while the way is chosen", "while it is locked"])
def test_a_tune_that_begins_is_left_alone(project, tmp_path, monkeypatch, moment):
    """Another one that starts at the same moment took its folder for that of a killed tune."""
    if moment == "while the way is chosen":
        monkeypatch.setattr(workplace, "_way", lambda *_: (OPEN, tidy_up_after_killed(pytest.fail)))
    else:
        lock = workplace.fcntl.flock

        def flock(file, how):
            if how == workplace.fcntl.LOCK_EX:  # the one that begins, not the one that tidies up
                tidy_up_after_killed(pytest.fail)
            lock(file, how)

        monkeypatch.setattr(workplace.fcntl, "flock", flock)
    place = prepare_workplace(tmp_path / "records", [], unguarded=True)
    assert place.shared.exists()
    place.close()
    assert list((tmp_path / "tmp").iterdir()) == []


def no_overlay(monkeypatch, *refused):
    def why(way, scratch, folders):
        return f"no {way}" if way in refused else None

    monkeypatch.setattr(workplace, "why_unavailable", why)


@pytest.mark.parametrize(
    ("refused", "unguarded", "way", "said"),
    [
        ((), False, OVERLAY, None),
        ((OVERLAY,), False, JOURNAL, "are copied first and put back afterwards (no overlay)"),
        ((OVERLAY, JOURNAL), True, OPEN, "and it stays (no overlay; no journal)"),
    ],
)
def test_the_best_way_that_works_is_taken(
    project, tmp_path, monkeypatch, refused, unguarded, way, said
):
    no_overlay(monkeypatch, *refused)
    heard = []
    place = prepare_workplace(tmp_path / "records", [], unguarded=unguarded, say=heard.append)
    assert place.way == way
    assert [said] == [said and text[-len(said) :] for text in heard or [""]]
    place.close()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_where_nothing_works_the_tune_stops(project, tmp_path, monkeypatch):
    no_overlay(monkeypatch, OVERLAY, JOURNAL)
    with pytest.raises(workplace.UsageError, match=r"no overlay; no journal.*--yes lets them"):
        prepare_workplace(tmp_path / "records", [], unguarded=False)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_no_room_for_scratch_is_one_sentence(project, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workplace.tempfile, "mkdtemp", full)
    with pytest.raises(workplace.UsageError, match="No space left on device"):
        prepare_workplace(tmp_path / "records", [], unguarded=False)


def test_what_an_overlay_cannot_take_goes_the_other_way(project, tmp_path, monkeypatch):
    no_overlay(monkeypatch)
    scratch = tmp_path / "tmp" / f"{workplace.PREFIX}x"
    scratch.mkdir()
    place = Workplace(tmp_path / "records", scratch, OVERLAY)
    output = tmp_path / "output.txt"
    output.write_text("ValueError: too small")
    assert not place.falls_back(output)
    output.write_text("OSError: [Errno 30] Read-only file system: '/x'")
    assert place.falls_back(output)
    assert place.way == JOURNAL
    assert not place.falls_back(output)
    place.close()


def test_folders_without_rights_are_removed(tmp_path):
    (tmp_path / "scratch" / "closed" / "deep").mkdir(parents=True)
    (tmp_path / "scratch" / "closed" / "file").write_text("x")
    (tmp_path / "scratch" / "closed").chmod(0o000)
    workplace.remove_folder(tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("way", [OVERLAY, JOURNAL])
def test_caches_last_for_the_tune_and_no_longer(project, tmp_path, monkeypatch, way):
    """What was downloaded for one trial is there for the next; files in them are taken back too."""
    reason = why_unavailable(way, [tmp_path], [])
    if reason is not None:
        pytest.skip(f"no sandbox of this kind here: {reason}")
    cache, absent = tmp_path / "home" / ".cache", tmp_path / "absent"
    cache.mkdir(parents=True)
    (cache / "old").write_text("as it was")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HF_HOME", str(absent))
    scratch = tmp_path / "tmp" / f"{workplace.PREFIX}x"
    scratch.mkdir()
    place = Workplace(tmp_path / "records", scratch, way)
    code = (
        "import os, sys; cache, absent = sys.argv[1:];"
        "found = [os.path.exists(p) for p in (cache + '/new', absent + '/new', 'mine2.txt')];"
        "os.makedirs(absent, exist_ok=True);"
        "[open(p, 'a').write('x') for p in (cache + '/new', absent + '/new', 'mine2.txt')];"
        "open(cache + '/old', 'a').write('+'); print(found, open(cache + '/old').read())"
    )
    said = []
    for name in ("001", "002"):
        output = tmp_path / name
        command = [sys.executable, "-c", code, str(cache), str(absent)]
        assert place.run(command, name, output, 120) == 0, output.read_text()
        said.append(output.read_text())
    place.close()

    assert said == [
        "[False, False, False] as it was+\n",
        "[True, True, False] as it was++\n",
    ]
    assert {path.name: path.read_text() for path in cache.iterdir()} == {"old": "as it was"}
    assert not absent.exists()
    assert list((tmp_path / "tmp").iterdir()) == []
