"""Whole tunes that go wrong: they end with what they know, and the project is as it was.

One tune is interrupted before it tries its fix. Each trouble goes on with a copy of it, so that the
unchanged script is measured once for all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.timeout(900)

TRAINING = """
import waits
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
rows, targets = torch.randn(16, 8), torch.randn(16, 1)
for step in range(60):
    waits.first()
    waits.second()
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(rows), targets)
    loss.backward()
    optimizer.step()
    with open("log.txt", "a") as log:
        log.write(f"{loss.item()}\\n")
    torch.save(model.state_dict(), "model.pt")
"""

WAITS = """
import time

def first():
    time.sleep({wait_s})

def second():
    time.sleep({wait_s})
"""

FIXES = '''
import os, signal, sys, threading

from trainprof.rules.fixes.fix import Fix, ReadBack


class _Replaced(Fix):
    """Something else in place of a function of the script's."""

    safety = "safe"

    def install(self, process):
        self._calls = 0
        process.patches.replace(sys.modules["waits"], self.function, self._make)

    def _make(self, original):
        def called():
            self._calls += 1
            self.instead(original)

        return called

    def read_back(self):
        return ReadBack(self._calls > 0 or None)


class WithoutFirst(_Replaced):
    """A real gain."""

    id, title, function = "without-first", "No first wait", "first"

    def instead(self, original):
        pass


class WithoutSecond(_Replaced):
    """Another one."""

    id, title, function = "without-second", "No second wait", "second"

    def instead(self, original):
        pass


class Trouble(_Replaced):
    """What the variable TROUBLE says, in the third step."""

    id, title, function = "trouble", "Trouble", "second"

    def instead(self, original):
        original()
        if self._calls == 3:
            kind, _, place = os.environ.get("TROUBLE", "none").partition(":")
            getattr(self, kind)(place)

    def none(self, _):
        pass

    def crash(self, _):
        raise RuntimeError("only with the change")

    def memory(self, _):
        held = [bytes(1 << 28) for _ in range(64)]  # not touched: the limit is of addresses
        raise AssertionError(f"{len(held)} times 256 MB are no trouble")

    def killed(self, _):
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(self, _):
        threading.Event().wait()

    def fill(self, place):
        with open(os.path.join(place, "filler"), "wb", buffering=0) as file:
            for _ in range(1024):
                file.write(bytes(1 << 20))
        raise AssertionError("a gigabyte is no trouble")

    def fill_and_go_on(self, place):
        try:
            self.fill(place)
        except OSError:
            pass
'''

LIMITED = ("sh", "-c", 'ulimit -v 4194304 && exec "$@"', "sh")
"""4 GB of addresses for each process: where they end, memory does."""


class Project:
    """A project, a home, a place for temporary files, and a package that brings the fixes."""

    def __init__(self, folder, wait_s=0.008):
        self.folder, self.project = folder, folder / "project"
        for name in ("project", "home", "tmp", "site"):
            (folder / name).mkdir()
        (self.project / "train.py").write_text(TRAINING)
        (self.project / "waits.py").write_text(WAITS.format(wait_s=wait_s))
        (self.project / "log.txt").write_text("from another training\n")
        info = folder / "site" / "troubles-1.0.dist-info"
        info.mkdir()
        (folder / "site" / "troubles.py").write_text(FIXES)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: troubles\nVersion: 1.0\n")
        kinds = ("WithoutFirst", "WithoutSecond", "Trouble")
        names = ("without-first", "without-second", "trouble")
        lines = [f"{name} = troubles:{kind}" for name, kind in zip(names, kinds, strict=True)]
        (info / "entry_points.txt").write_text("\n".join(["[trainprof.fixes]", *lines, ""]))
        self.before = self.state()

    def state(self, folder=None):
        """Everything but the records, by its hash; of a copy of the folder, if one is named."""
        found = {}
        for path in sorted((folder or self.folder).rglob("*")):
            name = str(path.relative_to(folder or self.folder))
            if not name.startswith("project/tuned") and "__pycache__" not in name:
                read = path.read_bytes() if path.is_file() else b""
                found[name] = (path.lstat().st_mode, hashlib.sha256(read).hexdigest())
        return found

    def tune(self, *options, trouble="none", within=()):
        """Starts one."""
        kept = {name: text for name, text in os.environ.items() if name[:10] != "TRAINPROF_"}
        places = {"HOME": "home", "TMPDIR": "tmp", "PYTHONPATH": "site"}
        unwritable = str(self.project / "train.py" / "state")
        command = [sys.executable, "-m", "trainprof", "tune", "--format", "json", *options]
        return subprocess.Popen(
            [*within, *command],
            cwd=self.project,
            env={
                **kept,
                **{name: str(self.folder / place) for name, place in places.items()},
                "OMP_NUM_THREADS": "1",
                "TROUBLE": trouble,
                "TROUBLED": str(self.folder),
                "XDG_STATE_HOME": unwritable,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self, *fixes, budget_s):
        """Starts a tune of these fixes."""
        asked = [word for fix in fixes for word in ("--fix", fix)]
        options = ("--steps", "20", "--budget", str(budget_s), "--out", "tuned")
        return self.tune(*asked, *options, "--", "train.py")

    def go_on(self, tuned, budget_s=600, **how):
        """Goes on with a tune."""
        return self.tune("--resume", "--out", tuned, "--budget", str(budget_s), **how)

    def check(self, process):
        """Gives its result, what it said and its status, once all is as it was."""
        out, err = process.communicate()
        if "cannot be kept from writing" in err:
            pytest.skip(err)
        assert "Traceback" not in err
        assert self.state() == self.before
        assert self.left() == []
        with open("/proc/mounts") as mounts:
            assert str(self.folder) not in mounts.read()
        assert out, err
        return json.loads(out), err, process.returncode

    def left(self):
        """Processes of a tune that still live."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("TROUBLED") == str(self.folder):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def interrupt(self, process, phrase):
        """Sends SIGINT once it has said this and the script of that trial runs."""
        before = set(self.project.glob("tuned*/trials/*"))
        for line in process.stderr:
            if phrase in line:
                self._until_a_script_runs(process, before)
                process.send_signal(signal.SIGINT)
                return
        raise AssertionError(f"it never said {phrase!r}")

    def _until_a_script_runs(self, process, before):
        until = time.monotonic() + 60.0
        while process.poll() is None and time.monotonic() < until:
            for trial in set(self.project.glob("tuned*/trials/*")) - before:
                begun = list(trial.glob("run/procs/*"))
                if begun and not (begun[0] / "stopped").exists():
                    return
            time.sleep(0.02)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A project with a tune that has measured the unchanged script and comes to its fix now."""
    project = Project(tmp_path_factory.mktemp("measured"))
    process = project.begin("trouble", budget_s=600)
    project.interrupt(process, "unchanged: pair 2 ")
    _, _, status = project.check(process)
    assert status == 130
    _fill_up(project.project / "tuned" / "trials.jsonl")
    return project


def _fill_up(journal):
    """Makes up six of the eight trials of the unchanged script: half a minute less."""
    about, *lines = journal.read_text().splitlines()[:3]  # a late interrupt lets a third one end
    measured = [json.loads(line) for line in lines]
    assert len(measured) == 2
    for number in range(6):
        trial = measured[number % 2]["trial"]
        made_up = {**trial, "seconds": trial["seconds"] * (1.0 + 0.01 * number)}
        lines.append(json.dumps({"key": measured[0]["key"], "trial": made_up}))
    journal.write_text("\n".join([about, *lines, ""]))


def copy_of(project, name):
    """Of its tune, so that others can go on from there too; gives the folder's name."""
    shutil.copytree(project.project / "tuned", project.project / f"tuned-{name}")
    return f"tuned-{name}"


def go_on(project, name, **how):
    """To the end, with a copy."""
    return project.check(project.go_on(copy_of(project, name), **how))


def names(tried):
    return [one["fix"] for one in tried]


def test_an_interrupt_while_a_fix_is_tried_tells_what_is_known(measured):
    tuned = copy_of(measured, "interrupted")
    process = measured.go_on(tuned)
    measured.interrupt(process, "trouble: pair 1 ")
    result, _, status = measured.check(process)

    assert status == 130
    assert result["ended"] == "interrupted"
    assert result["aa"]["pairs"] == 4
    assert [(one["fix"], one["reason"]) for one in result["inconclusive"]] == [
        ("trouble", "interrupted after 0 pairs")
    ]
    assert json.loads((measured.project / tuned / "tune.json").read_text()) == result


def test_a_run_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    project = Project(tmp_path)
    process = project.tune("--out", "train.py/tuned", "--", "train.py")
    out, err = process.communicate()

    assert (process.returncode, out) == (2, "")
    assert err == (
        "trainprof: the run folder train.py/tuned cannot be written (Not a directory); choose "
        "another with --out DIR.\n"
    )
    assert project.state() == project.before


FAILURES = {
    "memory": "it ended with exit status 1: MemoryError",
    "killed": "it ended with exit status 137: it was killed, as the system does where memory",
    "crash": "it ended with exit status 1: RuntimeError: only with the change",
    "hang": "it hung: no end after ",
}
"""What a tune says of a trial with such an end."""


@pytest.mark.parametrize(
    "kind", ["memory", *(pytest.param(one, marks=pytest.mark.slow) for one in list(FAILURES)[1:])]
)
def test_a_trial_that_fails_ends_its_fix_and_not_the_tune(measured, kind):
    result, err, status = go_on(measured, kind, trouble=kind, within=LIMITED)

    assert status == 0, err
    assert result["ended"] == "complete"
    assert names(result["failed"]) == ["trouble"]
    assert result["failed"][0]["reason"].startswith(FAILURES[kind])
    assert result["aa"]["pairs"] == 4
    assert result["kept"] == []


SMALL_DISK = """
set -e
folder=$1
disk=$2
shift 2
rm -rf "$folder-before" "$folder-after"
cp -a "$folder" "$folder-before"
mount -t tmpfs -o size=48m,mode=0700 small-disk "$folder/$disk"
cp -a "$folder-before/$disk/." "$folder/$disk"
cd "$folder/project"
status=0
"$@" || status=$?
cp -a "$folder" "$folder-after"
exit $status
"""
"""Its own mount namespace takes the disk with it, so a copy is left to look at."""


@pytest.fixture(scope="module")
def small_disk():
    """The words before a command that runs with a folder on a disk of 48 MB."""
    mounts = ["sh", "-c", "mount -t tmpfs small-disk /mnt"]
    for way in (["unshare", "-m"], ["unshare", "-rm"]):
        try:
            tried = subprocess.run([*way, *mounts], capture_output=True, text=True)
        except FileNotFoundError as error:
            pytest.skip(f"no disk can be mounted for a test here: {error}")
        if tried.returncode == 0:
            return (*way, "sh", "-c", SMALL_DISK, "sh")
    pytest.skip(f"no disk can be mounted for a test here: {tried.stderr.strip()}")


@pytest.mark.parametrize("disk", [pytest.param("tmp", marks=pytest.mark.slow), "project"])
def test_a_full_disk_ends_the_tune_with_what_is_known(measured, small_disk, disk):
    """Below TMPDIR lies what a trial writes, and goes with it; in the project lie the records."""
    tuned = copy_of(measured, f"full-{disk}")
    records = measured.project / tuned
    (records / "tune.json").unlink()  # room for another one
    trouble = "fill:" if disk == "tmp" else f"fill_and_go_on:{records}"
    within = (*small_disk, str(measured.folder), disk)
    result, err, status = measured.check(measured.go_on(tuned, trouble=trouble, within=within))

    after = measured.folder.with_name(f"{measured.folder.name}-after")
    assert measured.state(after) == measured.before
    assert (after / "project" / tuned / "filler").exists() == (disk == "project")
    assert result["aa"]["pairs"] == 4
    assert result["kept"] == []
    ended = (status, result["ended"], names(result["failed"]))
    if disk == "tmp":
        assert ended == (0, "complete", ["trouble"])
        assert json.loads((after / "project" / tuned / "tune.json").read_text()) == result
    else:
        # What is left of blocks that were begun may hold that trial's records; then it counts, and
        # the next one does not start.
        assert ended in [(0, "complete", ["trouble"]), (130, "interrupted", [])], err
        assert f"{records}/tune.json cannot be written (No space left on device)" in err


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_interrupts_in_a_fix_and_in_the_combination_lose_nothing(tmp_path):
    project = Project(tmp_path, wait_s=0.04)  # gains that a busy machine shows too
    process = project.begin("without-first", "without-second", budget_s=900)
    project.interrupt(process, "without-second: pair 2 ")
    result, _, status = project.check(process)
    assert (status, names(result["kept"])) == (130, ["without-first"])
    plan = json.loads((tmp_path / "project" / "tuned" / "plan.json").read_text())
    assert names(plan["applications"]) == ["without-first"]

    process = project.go_on("tuned", budget_s=900)
    project.interrupt(process, " + ")  # both together
    result, _, status = project.check(process)
    assert (status, len(result["kept"])) == (130, 1)
    alone = result["speedup"]

    result, err, status = project.check(project.go_on("tuned", budget_s=900))
    assert status == 0, err
    assert sorted(names(result["kept"])) == ["without-first", "without-second"]
    assert result["speedup"] > alone
