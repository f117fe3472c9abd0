"""A script that writes in every way there is: after a tune all is as before, in both ways."""

import hashlib
import os
import signal
import subprocess
import sys

import psutil
import pytest

pytest.importorskip("torch")

WRITES = """
import fcntl, multiprocessing, os, pathlib, shutil, sqlite3, subprocess, sys, tempfile
import torch
from torch import nn

here, elsewhere = pathlib.Path(__file__).parent, os.environ["ELSEWHERE"]

def from_spawn(queue):
    open("from_spawn.txt", "w").write("x")
    queue.put(1)

def write_all_over():
    (here / "generated.py").write_text("x = 1")
    os.remove(here / "inputs" / "eaten.txt")
    shutil.rmtree(here / "inputs" / "whole")
    os.rename(here / "inputs" / "old.txt", here / "inputs" / "new.txt")
    lock = open("lock", "a")
    fcntl.flock(lock, fcntl.LOCK_EX)
    open("link/through.txt", "w").write("y")
    open(elsewhere + "/log.txt", "a").write("appended")
    (pathlib.Path.home() / "cache.txt").write_text("c")
    tempfile.mkstemp()
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    child = context.Process(target=from_spawn, args=(queue,))
    child.start(), queue.get(), child.join()
    sleeps = [sys.executable, "-c", "import time; time.sleep(900)"]
    subprocess.Popen(sleeps, stdout=subprocess.DEVNULL, start_new_session=True)
    os.chdir(elsewhere)

def save(model, step):
    torch.save(model.state_dict(), "last.pt.tmp")
    os.replace("last.pt.tmp", "last.pt")
    torch.save(model.state_dict(), str(here / f"step{step}.pt"))
    try:
        from safetensors.torch import save_file
    except ImportError:
        return
    save_file(model.state_dict(), elsewhere + "/model.safetensors")

def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    database = sqlite3.connect("log.db")
    database.execute("create table if not exists losses(value)")
    write_all_over()
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    rows, labels = torch.randn(64, 64), torch.randint(3, (64,))
    for step in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(rows), labels)
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            database.execute("insert into losses values (?)", (loss.item(),))
            database.commit()
            save(model, step)

if __name__ == "__main__":
    main()
"""


class Files:
    """A project, a folder elsewhere, a home and a place for temporary files."""

    def __init__(self, folder):
        self.folder, self.project = folder, folder / "project"
        (self.project / "inputs" / "whole").mkdir(parents=True)
        for name in ("eaten.txt", "old.txt", "whole/one.txt"):
            (self.project / "inputs" / name).write_text(name)
        for name in ("elsewhere", "linked", "home", "tmp"):
            (folder / name).mkdir()
        (folder / "elsewhere" / "last.pt").write_bytes(b"from another training")
        (folder / "elsewhere" / "log.txt").write_text("before")
        (folder / "home" / "cache.txt").write_text("before")
        (self.project / "link").symlink_to("../linked")
        (self.project / "train.py").write_text(WRITES)
        self.before = self.state()

    def state(self):
        found = {}
        for path in sorted(self.folder.rglob("*")):
            name = str(path.relative_to(self.folder))
            if not name.startswith("project/tuned"):
                digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
                found[name] = (path.lstat().st_mode, digest)
        return found

    def tune(self, way, *options):
        command = [sys.executable, "-m", "trainprof", "tune", "--out", "tuned", *options]
        places = {"ELSEWHERE": "elsewhere", "HOME": "home", "TMPDIR": "tmp"}
        environment = {name: str(self.folder / place) for name, place in places.items()}
        return subprocess.Popen(
            [*command, "--", "train.py"],
            cwd=self.project,
            env={**os.environ, **environment, "OMP_NUM_THREADS": "1", "TRAINPROF_SANDBOX": way},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def check(self, process):
        """Gives what it printed, once all is as it was."""
        out, err = process.communicate()
        if "cannot be kept from writing" in err:
            pytest.skip(err)
        assert "Traceback" not in err
        assert self.state() == self.before
        assert self.left() == []
        with open("/proc/mounts") as mounts:
            assert str(self.folder) not in mounts.read()
        return out, err

    def left(self):
        """Processes of the tune that still live: they have its variables."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("ELSEWHERE") == str(self.folder / "elsewhere"):
                    found.append(process)
            except psutil.Error:
                continue
        return found


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.mark.parametrize("way", [pytest.param("overlay", marks=pytest.mark.slow), "journal"])
def test_the_unchanged_run_leaves_nothing(files, way):
    process = files.tune(way, "--dry-run", "--quiet", "--format", "json")
    files.check(process)
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("way", ["overlay", "journal"])
def test_a_whole_tune_leaves_nothing(files, way):
    options = ("--fix", "optimizer-fused", "--steps", "30", "--budget", "600")
    process = files.tune(way, *options)
    out, _ = files.check(process)
    assert process.returncode == 0
    assert "optimizer-fused" in out


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("way", ["overlay", "journal"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("phrase", ["running the script", "unchanged: pair 2"])
def test_an_interrupt_leaves_nothing(files, way, number, phrase):
    process = files.tune(way, "--fix", "optimizer-fused", "--steps", "30", "--budget", "600")
    for line in process.stderr:
        if phrase in line:
            process.send_signal(number)
            break
    out, err = files.check(process)
    assert process.returncode == 130
    assert "interrupted" in out + err
