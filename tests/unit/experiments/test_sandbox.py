"""What a trial writes is gone afterwards, however it is written."""

import hashlib
import os
import subprocess
import sys

import pytest

from trainprof.profiler.sandbox import Spec, sandboxed, why_unavailable

WRITES = """
import os, sqlite3, sys
os.makedirs("out", exist_ok=True)
open("out/plain.txt", "w").write("x")
open("here.txt", "a").write("more")
open("new.tmp", "w").write("y"); os.replace("new.tmp", "here2.txt")
os.remove("gone.txt")
db = sqlite3.connect("db.sqlite"); db.execute("create table t(a)"); db.commit()
open(sys.argv[1], "w").write("by its absolute path")
open(os.path.join(sys.argv[2], "record.txt"), "w").write("kept")
print(sorted(os.listdir(".")), os.getcwd())
"""


@pytest.fixture
def project(tmp_path):
    reason = why_unavailable(tmp_path / "try")
    if reason is not None:
        pytest.skip(f"no sandbox here: {reason}")
    folder = tmp_path / "a project, with: odd \\ characters"
    (folder / "runs" / "tune").mkdir(parents=True)
    (folder / "here.txt").write_text("as it was")
    (folder / "gone.txt").write_text("still here")
    (folder / "writes.py").write_text(WRITES)
    return folder


def fingerprint(folder, without="runs"):
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if without not in path.parts:
            digest.update(str(path).encode() + (path.read_bytes() if path.is_file() else b""))
    return digest.hexdigest()


def run(project, tmp_path, *command):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    kept = project / "runs" / "tune"
    spec = Spec((str(project),), str(kept), str(scratch), command)
    return subprocess.run(sandboxed(spec), cwd=project, capture_output=True, text=True)


def test_nothing_stays_but_the_records(project, tmp_path):
    before = fingerprint(project)
    kept = str(project / "runs" / "tune")

    done = run(project, tmp_path, sys.executable, "writes.py", str(project / "absolute.txt"), kept)

    assert done.returncode == 0, done.stderr
    assert "db.sqlite" in done.stdout
    assert str(project) in done.stdout
    assert "gone.txt" not in done.stdout
    assert fingerprint(project) == before
    assert (project / "runs" / "tune" / "record.txt").read_text() == "kept"


def test_torch_s_own_writer_is_caught_as_well(project, tmp_path):
    pytest.importorskip("torch")
    before = fingerprint(project)
    script = (
        "import torch; torch.save({'a': torch.ones(3)}, 'model.pt'); print(torch.load('model.pt'))"
    )

    done = run(project, tmp_path, sys.executable, "-c", script)

    assert done.returncode == 0, done.stderr
    assert "tensor" in done.stdout
    assert fingerprint(project) == before


def test_the_exit_status_is_the_command_s(project, tmp_path):
    assert run(project, tmp_path, sys.executable, "-c", "raise SystemExit(7)").returncode == 7


def test_nested_folders_are_covered_once(project, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    inner = project / "inner"
    inner.mkdir()
    kept = project / "runs" / "tune"
    spec = Spec(
        (str(inner), str(project)),
        str(kept),
        str(scratch),
        (sys.executable, "-c", "open('x', 'w').write('1')"),
    )
    subprocess.run(sandboxed(spec), cwd=inner, check=True)
    assert list(inner.iterdir()) == []
    assert os.listdir(kept) == []
