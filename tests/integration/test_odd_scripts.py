"""Scripts without source, in odd encodings and of odd sizes: they run, and what is said is true."""

from __future__ import annotations

import json
import os
import platform
import py_compile
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainprof.profiler.store.layout import STACKS_INSIDE_FILE

pytest.importorskip("torch")

COLLECTING = """\
# überall
import gc
import torch

torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for number, batch in enumerate(torch.randn(60, 16, 64)):
    loss = model(batch).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if number % 5 == 0:
        gc.collect()  # größer
print("trained to", round(loss.item(), 4))
"""


def without_source(folder):
    """Compiled; its source is gone."""
    (folder / "train.py").write_text(COLLECTING)
    py_compile.compile(str(folder / "train.py"), str(folder / "train.pyc"))
    (folder / "train.py").unlink()
    return [folder / "train.pyc"]


def from_a_string(folder):
    """Its text comes from elsewhere, under the name of a file that does not exist."""
    text = f"text = {COLLECTING!r}\nexec(compile(text, 'generated.py', 'exec'))\n"
    (folder / "train.py").write_text(text)
    return [folder / "train.py"]


def encoded(text, encoding):
    def write(folder):
        (folder / "train.py").write_bytes(text.encode(encoding))
        return [folder / "train.py"]

    return write


def named_in_another_encoding(folder):
    """A file name that is no UTF-8."""
    path = folder / os.fsdecode("präzise.py".encode("latin-1"))
    path.write_text(COLLECTING)
    return [path]


SCRIPTS = {
    "python -c": lambda folder: ["-c", COLLECTING],
    "without source": without_source,
    "exec of a string": from_a_string,
    "latin-1": encoded("# -*- coding: latin-1 -*-\n" + COLLECTING, "latin-1"),
    "byte order mark": encoded(COLLECTING, "utf-8-sig"),
    "name in latin-1": named_in_another_encoding,
}
WITH_SOURCE = ("latin-1", "byte order mark")


@pytest.fixture(scope="module")
def all_runs(profile, tmp_path_factory):
    """All of them, two at a time: no test of these reads a clock."""

    def run(name):
        folder = tmp_path_factory.mktemp("script")
        return profile([sys.executable, *SCRIPTS[name](folder)])

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(SCRIPTS, pool.map(run, SCRIPTS), strict=True))


@pytest.fixture(params=SCRIPTS)
def script(request):
    return request.param


def test_it_ends_as_without_trainprof(all_runs, script):
    done = all_runs[script]
    assert done.status == 0, done.stderr
    assert done.stdout.startswith("trained to ")
    assert "Traceback" not in done.stderr
    assert not [one for one in done.diagnosis["collectors"] if one["status"] == "failed"]


def test_the_cause_is_found_and_located_where_there_is_source(all_runs, script):
    done = all_runs[script]
    # That the machine is busy may be said beside, and before, what the script does wrong.
    first = next(one for one in done.diagnosis["findings"] if one["rule"] != "loop-contention")
    assert first["rule"] == "loop-gc"
    if script in WITH_SOURCE:
        assert "gc.collect()  # größer" in done.stderr
    where = first["where"]
    if where is not None and Path(where["file"]).exists():
        line = Path(where["file"]).read_bytes().splitlines()[where["line"] - 1]
        assert b"gc.collect()" in line or b"exec(" in line


DENIED = {"x86_64": (0xC000003E, 101, 310), "aarch64": (0xC00000B7, 117, 270)}
"""Audit number of the machine, numbers of ptrace and process_vm_readv (linux/audit.h, unistd.h)."""

WITHOUT_PTRACE = """\
import ctypes, os, struct, sys
machine, *denied = map(int, sys.argv[1].split(","))
load, equal, give = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ, BPF_RET
allow, refuse = 0x7FFF0000, 0x00050000 | 1  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO | EPERM
program = [(load, 0, 0, 4), (equal, 1, 0, machine), (give, 0, 0, allow), (load, 0, 0, 0)]
for number in denied:
    program += [(equal, 0, 1, number), (give, 0, 0, refuse)]
program.append((give, 0, 0, allow))
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, filter, 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, a filter
os.execv(sys.argv[2], sys.argv[2:])
"""


UNTIL_SAMPLED = f"""\
import os, time, torch
torch.set_num_threads(1)
model = torch.nn.Linear(64, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
inside = os.path.join(os.environ["TRAINPROF_RUN"], {STACKS_INSIDE_FILE!r})
began, left = time.monotonic(), 60
while left and time.monotonic() - began < 60:
    left -= os.path.exists(inside)
    loss = model(torch.randn(16, 64)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    time.sleep(0.01)
"""


def test_where_ptrace_is_denied_the_agent_samples_and_the_report_says_so(tmp_path):
    """As in a container: the kernel refuses it to trainprof and to all that it starts."""
    if platform.machine() not in DENIED or sys.platform != "linux":
        pytest.skip("the filter is written for Linux on x86_64 and aarch64")
    (tmp_path / "train.py").write_text(UNTIL_SAMPLED)
    (tmp_path / "without_ptrace.py").write_text(WITHOUT_PTRACE)
    numbers = ",".join(map(str, DENIED[platform.machine()]))
    command = [sys.executable, "-m", "trainprof", "run", "--out", "run", "train.py"]
    done = subprocess.run(
        [sys.executable, "without_ptrace.py", numbers, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TRAINPROF_PROBE": "0"},
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    diagnosis = json.loads((tmp_path / "run" / "diagnosis.json").read_text())
    (stacks,) = (one for one in diagnosis["collectors"] if one["name"] == "stacks")
    assert stacks["status"] == "partial"
    assert "from inside" in stacks["reason"]
    assert "py-spy" in stacks["reason"]


LARGE = {
    "ten thousand submodules": """\
from itertools import islice
import torch
torch.manual_seed(0)
torch.set_num_threads(1)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(10_000))
    def forward(self, x):
        for layer in islice(self.layers, 40):
            x = layer(x)
        return x
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for batch in torch.randn(150, 16, 4):
    loss = model(batch).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print("trained")
""",
    "a thousand loaders": """\
import torch
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
clients = [DataLoader(TensorDataset(torch.randn(16, 64)), batch_size=8) for _ in range(1_000)]
for client in clients:
    for (batch,) in client:
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print("trained")
""",
}


@pytest.mark.parametrize("size", LARGE)
def test_large_scripts_are_watched_at_a_bounded_cost(profile, tmp_path, size):
    (tmp_path / "train.py").write_text(LARGE[size])
    done = profile([sys.executable, tmp_path / "train.py"], "--no-stacks")
    assert (done.status, done.stdout) == (0, "trained\n")
    diagnosis = done.diagnosis
    assert diagnosis["steps"]["count"] in (150, 2_000)
    assert not [one for one in diagnosis["collectors"] if one["status"] == "failed"]
    assert not [one for one in diagnosis["findings"] if one["rule"].startswith(("mem-", "loop-s"))]
    (trainer,) = done.trainers
    facts = [fact for fact in trainer.facts if fact.kind == "loader"]
    assert len({fact.key for fact in facts}) == (1_000 if "loaders" in size else 0)
    assert len(facts) <= 4_000  # new ones are written now and then, not each of them each second
