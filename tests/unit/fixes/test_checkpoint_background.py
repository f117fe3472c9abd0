"""Checkpoints written in the background: the same bytes, of the moment of the call, in order."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402


def make():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    return model, optimizer


def update(model, optimizer):
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()


def state(model, optimizer):
    view = model[0].weight.view(-1)[:5]
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "view": view, "n": 3}


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Gate:
    """Holds the writing thread up until it is opened."""

    def __init__(self, applied, monkeypatch):
        self._event = threading.Event()
        writer = applied.fix._writer
        original = writer._write

        def write(snapshot):
            assert self._event.wait(20)
            original(snapshot)

        monkeypatch.setattr(writer, "_write", write)

    def open(self):
        self._event.set()


@pytest.fixture
def gated(apply, monkeypatch):
    """The fix, with a writer that waits for `gate.open()`."""
    applied = apply("checkpoint-background")
    gate = Gate(applied, monkeypatch)
    yield applied, gate
    gate.open()


@pytest.mark.parametrize("name", ["last.pt", "a.b.ckpt", "plain"])
def test_the_file_is_that_of_torch(apply, tmp_path, name):
    model, optimizer = make()
    update(model, optimizer)
    (tmp_path / "plain_folder").mkdir()
    expected = tmp_path / "plain_folder" / name
    torch.save(state(model, optimizer), expected)
    applied = apply("checkpoint-background")
    for _ in range(3):  # the later ones reuse memory
        torch.save(state(model, optimizer), tmp_path / name)
        assert os.path.exists(tmp_path / name)  # this waits: each is written
    assert digest(tmp_path / name) == digest(expected)
    assert sorted(os.listdir(tmp_path / "plain_folder")) == [name]
    assert applied.read() == (True, {"background": 3, "in_place": 0, "written": 3}, None)


def test_the_snapshot_is_complete_before_the_call_returns(gated, tmp_path):
    _, gate = gated
    model, optimizer = make()
    update(model, optimizer)
    content = state(model, optimizer)
    weight = model[0].weight.detach().clone()
    moments = optimizer.state_dict()["state"][0]["exp_avg"].clone()
    torch.save(content, tmp_path / "a.pt")
    content["n"] = 4
    for _ in range(3):
        update(model, optimizer)
    gate.open()
    loaded = torch.load(tmp_path / "a.pt")
    assert loaded["n"] == 3
    assert torch.equal(loaded["model"]["0.weight"], weight)
    assert torch.equal(loaded["optimizer"]["state"][0]["exp_avg"], moments)
    assert torch.equal(loaded["view"], weight.view(-1)[:5])


def opened(folder):
    """A descriptor that stays open until the process ends."""
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


LOOKS = {
    "exists": lambda path: os.path.exists(path),
    "getsize": lambda path: os.path.getsize(path) > 100,
    "pathlib": lambda path: path.is_file(),
    "open": lambda path: len(path.read_bytes()) > 100,
    "listdir": lambda path: path.name in os.listdir(path.parent),
    "glob": lambda path: list(path.parent.glob("*.pt")) == [path],
    "replace": lambda path: os.replace(path, path.with_suffix(".final")) is None,
    "move": lambda path: Path(shutil.move(path, path.with_suffix(".final"))).exists(),
    "copy": lambda path: Path(shutil.copy(path, path.with_suffix(".copy"))).stat().st_size > 100,
    "remove": lambda path: os.remove(path) is None,
    "listdir by descriptor": lambda path: path.name in os.listdir(opened(path.parent)),
    "remove by descriptor": lambda path: os.remove(path.name, dir_fd=opened(path.parent)) is None,
    "move the folder": lambda path: path.parent.rename(path.parent.parent / "kept").is_dir(),
    "remove the folder": lambda path: shutil.rmtree(path.parent) is None,
    "walk": lambda path: (str(path.parent), [], [path.name]) in os.walk(path.parent.parent),
    "load": lambda path: torch.load(path)["n"] == 3,
    "process": lambda path: subprocess.run(["test", "-s", str(path)], check=False).returncode == 0,
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=list(LOOKS))
def test_who_looks_at_the_file_waits_for_it(gated, tmp_path, look):
    _, gate = gated
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    torch.save(state(*make()), folder / "a.pt")
    threading.Timer(0.05, gate.open).start()
    assert look(folder / "a.pt")


def test_a_fork_waits_and_meets_no_thread(gated, tmp_path):
    _, gate = gated
    torch.save(state(*make()), tmp_path / "a.pt")
    threading.Timer(0.05, gate.open).start()
    child = os.fork()
    if child == 0:
        whole = os.path.exists(tmp_path / "a.pt") and threading.active_count() == 1
        os._exit(0 if whole else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_other_files_and_folders_do_not_wait(gated, tmp_path):
    """As a Trainer does: it lists and removes older checkpoints beside that which it saves."""
    applied, _ = gated
    for name in ("new", "old/deep"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.pt").write_text("as it was")
    torch.save(state(*make()), tmp_path / "new" / "a.pt")
    (tmp_path / "b.txt").write_text("note")
    assert os.path.exists(tmp_path / "b.txt")
    assert sorted(tmp_path.glob("n*")) == [tmp_path / "new"]
    os.chmod(tmp_path / "b.txt", 0o600)
    shutil.move(tmp_path / "b.txt", tmp_path / "c.txt")
    shutil.rmtree(tmp_path / "old")
    assert applied.fix._writer.busy


def test_saves_of_one_path_come_in_order(apply, tmp_path):
    apply("checkpoint-background")
    for number in range(20):
        torch.save({"n": number, "x": torch.full((1000,), number)}, tmp_path / "a.pt")
    loaded = torch.load(tmp_path / "a.pt")
    assert (loaded["n"], loaded["x"][-1]) == (19, 19)


def test_what_is_written_over_before_its_turn_is_not_written(gated, tmp_path):
    """Two files that take turns, saved faster than they are written: the last of each counts."""
    applied, gate = gated
    for number in range(9):
        torch.save({"n": number, "x": torch.full((1000,), number)}, tmp_path / f"{number % 2}.pt")
    held = applied.fix._writer.bytes
    gate.open()
    for number in (7, 8):
        loaded = torch.load(tmp_path / f"{number % 2}.pt")
        assert (loaded["n"], loaded["x"][-1]) == (number, number)
    _, seen, _ = applied.read()
    assert seen == {"background": 9, "in_place": 0, "written": 3, "overwritten": 6}
    assert held < 3.5 * os.path.getsize(tmp_path / "0.pt")
    assert sorted(path.name for path in tmp_path.glob("*.pt*")) == ["0.pt", "1.pt"]


def test_buffers_and_old_formats_are_written_in_place(apply, tmp_path):
    applied = apply("checkpoint-background")
    buffer = io.BytesIO()
    torch.save({"n": 1}, buffer)
    assert buffer.getbuffer().nbytes > 0
    torch.save({"n": 1}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with (tmp_path / "file.pt").open("wb") as file:
        torch.save({"n": 1}, file)
    assert torch.load(tmp_path / "old.pt") == torch.load(tmp_path / "file.pt") == {"n": 1}
    active, seen, reason = applied.read()
    assert (active, seen["background"], seen["in_place"]) == (False, 0, 3)
    assert reason == "nothing is saved by torch.save to a plain file"


def test_what_fails_at_once_does_so_still(apply, tmp_path):
    apply("checkpoint-background")
    with pytest.raises(RuntimeError, match="Parent directory"):
        torch.save({"n": 1}, tmp_path / "no" / "a.pt")
    with pytest.raises((AttributeError, pickle.PicklingError), match="pickle"):
        torch.save({"f": lambda: 1}, tmp_path / "a.pt")
    assert not (tmp_path / "a.pt").exists()


def disk_full(path):
    raise OSError(28, "No space left on device")


def test_a_write_that_fails_raises_at_the_next_save(apply, tmp_path, monkeypatch):
    applied = apply("checkpoint-background")
    torch.save({"n": 1}, tmp_path / "a.pt")
    applied.fix._writer.wait()
    monkeypatch.setattr(torch.serialization, "_open_zipfile_writer", disk_full)
    torch.save({"n": 2}, tmp_path / "a.pt")
    applied.fix._writer.wait()
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space left"):
        torch.save({"n": 3}, tmp_path / "b.pt")
    assert torch.load(tmp_path / "a.pt") == {"n": 1}, "the old file is still whole"
    active, _, reason = applied.read()
    assert active is False
    assert "a.pt could not be written ([Errno 28] No space left on device)" in reason
    torch.save({"n": 3}, tmp_path / "b.pt")
    assert torch.load(tmp_path / "b.pt") == {"n": 3}


def test_a_last_write_that_fails_is_told_at_the_end(apply, tmp_path, monkeypatch, capsys):
    applied = apply("checkpoint-background")
    monkeypatch.setattr(torch.serialization, "_open_zipfile_writer", disk_full)
    torch.save({"n": 1}, tmp_path / "a.pt")
    applied.fixes.end()
    assert "a.pt could not be written" in capsys.readouterr().err
    assert applied.read()[0] is False


def test_links_and_rights_stay(apply, tmp_path):
    target, link = tmp_path / "target.pt", tmp_path / "link.pt"
    torch.save({"n": 0}, target)
    target.chmod(0o600)
    link.symlink_to(target)
    apply("checkpoint-background")
    torch.save({"n": 1}, link)
    assert torch.load(target) == {"n": 1}
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600


SCRIPT = """
import os, sys, torch
how = sys.argv[1]
model = torch.nn.Linear(300, 300)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(12):
    model(torch.ones(2, 300)).sum().backward()
    optimizer.step()
    torch.save({"step": step, "weight": model.weight}, "last.pt")
torch.save({"step": 12, "weight": model.weight}, "end.pt")
if how == "raise":
    raise ValueError("on purpose")
if how == "_exit":
    os._exit(0)
"""


@pytest.mark.parametrize("how", ["end", "raise", "_exit"])
def test_all_is_there_when_the_script_is_over(tmp_path, how):
    from trainprof.profiler.store.reader import read_run

    (tmp_path / "train.py").write_text(SCRIPT)
    trainprof = [sys.executable, "-m", "trainprof", "run", "--out", "run", "--quiet", "--no-probe"]
    options = ["--no-stacks", "--trace", "off", "--fix", "checkpoint-background", "--"]
    done = subprocess.run(
        [*trainprof, *options, sys.executable, "train.py", how],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == (how == "raise"), done.stderr
    assert torch.load(tmp_path / "last.pt")["step"] == 11
    assert torch.load(tmp_path / "end.pt")["step"] == 12
    assert not list(tmp_path.glob("*~"))
    (session,) = read_run(tmp_path / "run").sessions
    (fact,) = session.trainers[0].latest_facts("fix").values()
    seen = fact.data["seen"]
    assert (fact.data["active"], seen["background"]) == (True, 13)
    assert seen["written"] + seen.get("overwritten", 0) == 13
