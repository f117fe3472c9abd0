"""What a trial writes is gone afterwards, however and wherever it is written."""

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from trainprof.profiler.samplers.hardware import read_mounts
from trainprof.profiler.sandbox.availability import why_unavailable
from trainprof.profiler.sandbox.mounts import parse_mounts, parse_sockets, writable_folders
from trainprof.profiler.sandbox.spec import JOURNAL, OPEN, OVERLAY, Spec, sandboxed

WRITES = """
import os, shutil, sqlite3, sys
os.makedirs("out", exist_ok=True)
open("out/plain.txt", "w").write("x")
open("here.txt", "a").write("more")
open("new.tmp", "w").write("y"); os.replace("new.tmp", "here2.txt")
os.remove("gone.txt")
db = sqlite3.connect("db.sqlite"); db.execute("create table t(a)"); db.commit()
open("link/through.txt", "w").write("by a link")
elsewhere, records = sys.argv[1:]
open(elsewhere + "/there.txt", "w").write("by its absolute path")
open(elsewhere + "/was.txt", "w").write("changed")
os.chmod(elsewhere + "/was.txt", 0o600)
shutil.move(elsewhere + "/inner", elsewhere + "/moved")
open(os.path.join(records, "record.txt"), "w").write("kept")
os.chdir(elsewhere); open("after_chdir.txt", "w").write("1")
try:
    import torch
    torch.save({"a": torch.ones(3)}, elsewhere + "/model.pt")
    assert torch.load(elsewhere + "/model.pt")["a"].sum() == 3
    from safetensors.torch import save_file
    save_file({"a": torch.ones(3)}, "model.safetensors")
except ImportError:
    pass
print("written", sorted(os.listdir(".")), os.getcwd())
"""


def project_in(folder):
    """A project, a folder elsewhere, and one for records inside of the project."""
    project, elsewhere = folder / "a project, with: odd \\ characters", folder / "elsewhere"
    (project / "runs" / "tune").mkdir(parents=True)
    (elsewhere / "inner").mkdir(parents=True)
    (elsewhere / "inner" / "deep.txt").write_text("deep")
    (elsewhere / "was.txt").write_text("as it was")
    (elsewhere / "linked").mkdir()
    (project / "link").symlink_to(elsewhere / "linked")
    (project / "here.txt").write_text("as it was")
    (project / "gone.txt").write_text("still here")
    (project / "writes.py").write_text(WRITES)
    return project


def fingerprint(folder, without="runs"):
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if without not in path.relative_to(folder).parts:
            digest.update(f"{path} {path.lstat().st_mode}".encode())
            digest.update(path.read_bytes() if path.is_file() else b"")
    return digest.hexdigest()


@pytest.fixture(params=[OVERLAY, JOURNAL], scope="module")
def way(request, tmp_path_factory):
    reason = None
    if request.param != OPEN:
        reason = why_unavailable(request.param, [tmp_path_factory.mktemp("try")], [])
    if reason is not None:
        pytest.skip(f"no sandbox of this kind here: {reason}")
    return request.param


class Sandbox:
    def __init__(self, way, folder):
        self.way, self.files = way, folder / "files"
        self.project = project_in(self.files)
        self.records = self.project / "runs" / "tune"
        self.scratch = folder / "scratch"
        self.scratch.mkdir()

    def command(self, *command):
        spec = Spec(self.way, (str(self.records),), (str(self.scratch),), command)
        return sandboxed(spec)

    def run(self, *command):
        command = self.command(*command)
        return subprocess.run(command, cwd=self.project, capture_output=True, text=True)

    def python(self, text):
        return self.run(sys.executable, "-c", text)


@pytest.fixture
def sandbox(way, tmp_path):
    return Sandbox(way, tmp_path)


def test_nothing_stays_but_the_records(sandbox):
    before = fingerprint(sandbox.files)
    elsewhere = str(sandbox.files / "elsewhere")

    done = sandbox.run(sys.executable, "writes.py", elsewhere, str(sandbox.records))

    assert done.returncode == 0, done.stderr
    assert "there.txt" in done.stdout
    assert "moved" in done.stdout
    assert "after_chdir.txt" in done.stdout
    assert fingerprint(sandbox.files) == before
    assert (sandbox.records / "record.txt").read_text() == "kept"


@pytest.mark.parametrize(("script", "status"), [("raise SystemExit(7)", 7), ("pass", 0)])
def test_the_exit_status_is_the_command_s(sandbox, script, status):
    assert sandbox.python(script).returncode == status


def test_a_signal_is_told_as_a_shell_tells_it(sandbox):
    assert sandbox.python("import os; os.kill(os.getpid(), 9)").returncode == 137


DAEMON = """
import subprocess, sys
code = "import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(600)"
outer = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {code!r}])"
subprocess.run([sys.executable, "-c", outer])
"""


@pytest.mark.parametrize("way", [OVERLAY, JOURNAL, OPEN], indirect=True)
def test_a_daemon_does_not_outlive_it(sandbox):
    output = sandbox.records / "pid.txt"
    with output.open("w") as file:
        done = subprocess.run(
            sandbox.command(sys.executable, "-c", DAEMON), cwd=sandbox.project, stdout=file
        )
    assert done.returncode == 0
    if output.read_text():  # it may end before the daemon comes to speak
        assert not psutil.pid_exists(int(output.read_text()))
    assert still_in(sandbox.project) == []


def still_in(folder):
    """Processes that work in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_nothing_outlives_whoever_started_it(sandbox):
    """Killed without a word: the sandbox notices, and ends what runs in it."""
    mark = sandbox.records / "mark"
    before = fingerprint(sandbox.files)
    code = (
        "import time; open('here.txt', 'w').write('changed');"
        f"open({str(mark)!r}, 'w').close(); time.sleep(600)"
    )
    starter = (
        "import subprocess, sys; subprocess.run(sys.argv[1:])",
        *sandbox.command(sys.executable, "-c", code),
    )
    process = subprocess.Popen([sys.executable, "-c", *starter], cwd=sandbox.project)
    _until(mark.exists)
    process.kill()
    process.wait()
    _until(lambda: still_in(sandbox.project) == [])
    assert fingerprint(sandbox.files) == before


def _until(true):
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come true in a minute")


def test_the_mounts_are_read():
    text = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "40 22 0:33 / /mnt/a\\040b ro,nosuid - nfs4 server:/x rw\n"
        "41 22 0:34 / /mnt rw - tmpfs tmpfs rw\n"
        "42 22 0:35 / /mnt rw - proc proc rw\n"
        "torn line\n"
    )
    mounts = parse_mounts(text)
    assert [(one.folder, one.kind) for one in mounts] == [
        ("/", "ext4"),
        ("/mnt", "proc"),
        ("/mnt/a b", "nfs4"),
    ]
    assert "nosuid" in mounts[2].options
    assert [one.is_storage for one in mounts] == [True, False, True]


def test_sockets_are_read():
    text = (
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000: 00000002 00000000 00010000 0001 01 121 /tmp/with blank\n"
        "0000: 00000003 00000000 00000000 0001 03  1157\n"
        "0000: 00000003 00000000 00000000 0001 03  1157 @hidden\n"
    )
    assert parse_sockets(text) == ["/tmp/with blank"]


def test_the_outermost_writable_folders_are_found(tmp_path):
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(deep)
    root = str(tmp_path)
    assert writable_folders([str(deep)], root) == [f"{root}/a", f"{root}/other"]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_folders_of_others_are_looked_into(tmp_path):
    (tmp_path / "closed" / "mine").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o555)
    assert writable_folders([], str(tmp_path)) == [str(tmp_path / "closed" / "mine")]


@pytest.mark.parametrize("way", [OVERLAY], indirect=True)
def test_the_kind_of_file_system_can_still_be_told(sandbox):
    """Or no rule would see in a tune that the data lie on a network file system."""
    code = (
        "from trainprof.profiler.samplers.hardware import read_mounts;"
        "from trainprof.profiler.agent.describe.storage import describe_storage;"
        "here = type('Data', (), {})(); here.root = '/'.join(['.', 'data']);"
        "print(*read_mounts(['.']).values(), *describe_storage(here)['dataset_paths'].values())"
    )
    (kind,) = read_mounts([str(sandbox.project)]).values()
    assert sandbox.python(code).stdout == f"{kind} {kind}\n"


def test_only_what_is_changed_is_copied(sandbox):
    for number in range(2000):
        (sandbox.project / f"{number}.txt").write_text("x")
    code = (
        "import os; [open(f'{n}.txt').read() for n in range(2000)]; open('1.txt', 'a').write('y');"
        "os.stat('2.txt'); os.listdir('.')"
    )
    assert sandbox.python(code).returncode == 0
    copies = [path.name for path in sandbox.scratch.rglob("*.txt") if path.is_file()]
    assert copies in ([], ["1.txt"])


SOCKET = """
import socket, sys
with socket.socket(socket.AF_UNIX) as one:
    one.connect(sys.argv[1])
    print(one.recv(9).decode())
"""


def test_servers_that_run_already_can_be_reached(sandbox, monkeypatch):
    path = str(sandbox.files / "s")
    if len(path) > 100:
        pytest.skip("the paths of sockets must be short")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(sandbox.files)  # such paths must be short
        server.bind(path)
        server.listen()
        server.settimeout(60)

        def answer():
            connection, _ = server.accept()
            with connection:
                connection.send(b"hello")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        done = sandbox.run(sys.executable, "-c", SOCKET, path)
        thread.join(1)
    assert done.stdout == "hello\n", done.stderr


def test_what_it_leaves_in_shared_memory_goes_with_it(sandbox):
    name = f"/dev/shm/trainprof-test-{os.getpid()}"
    done = sandbox.python(f"open({name!r}, 'w').write('x'); print(open({name!r}).read())")
    assert done.stdout == "x\n", done.stderr
    assert not Path(name).exists()


AS_IN_A_CONTAINER = """
import os, subprocess, sys, pathlib
from trainprof.profiler.sandbox.availability import why_unavailable
from trainprof.profiler.sandbox.spec import OVERLAY, Spec, sandboxed
os.environ["TMPDIR"] = "scratch"
os.makedirs("scratch/one"); os.makedirs("records")
print(why_unavailable(OVERLAY, [pathlib.Path("scratch").resolve()], [os.getcwd()]))
code = "open('was.txt', 'a').write('more'); open('records/kept.txt', 'w').write('kept')"
spec = Spec(OVERLAY, (os.path.abspath("records"),), (os.path.abspath("scratch/one"),),
            (sys.executable, "-c", code + "; print(open('was.txt').read())"))
subprocess.run(sandboxed(spec), check=True)
print(open("was.txt").read(), os.listdir("records"), os.listdir("scratch/one"))
"""


@pytest.mark.parametrize("way", [OVERLAY], indirect=True)
def test_an_overlay_on_an_overlay_takes_its_changes_into_memory(way, tmp_path):
    """The root of a container is an overlay itself, which cannot hold the changes of another."""
    if os.getuid() != 0:
        pytest.skip("only root can make such a place")
    for name in ("lower", "upper", "work", "seen"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower" / "was.txt").write_text("as it was")
    options = ",".join(
        f"{key}={tmp_path / name}"
        for key, name in (("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work"))
    )
    seen = tmp_path / "seen"
    script = f'mount -t overlay overlay -o {options} {seen} && cd {seen} && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, sys.executable, AS_IN_A_CONTAINER],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "None",
        "as it wasmore",
        "as it was ['kept.txt'] ['spec.json', 'memory']",
    ]
