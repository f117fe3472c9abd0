"""`trainprof run` leaves the script's streams, status, signals and stdin as they are without it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("torch")

TRAINING = """
import sys, torch
torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.utils.data.TensorDataset(torch.randn(96, 4))
def train(epochs=1):
    for _ in range(epochs):
        for (x,) in torch.utils.data.DataLoader(data, batch_size=2):
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
    return loss
"""


def environment(**extra):
    plain = {k: v for k, v in os.environ.items() if not k.startswith("TRAINPROF_")}
    return {**plain, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **extra}


class Profiled:
    """Runs one script twice, without and with trainprof, in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._begun = []

    def script(self, text, name="train.py"):
        path = self.folder / name
        path.write_text(TRAINING + textwrap.dedent(text))
        return path

    def plain(self, *command, **options):
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            timeout=120,
            **options,
        )

    def watched(self, *command, options=(), env=None, **extra):
        return subprocess.run(
            [sys.executable, "-m", "trainprof", "run", "--out", "run", *options, "--", *command],
            cwd=self.folder,
            env=environment(**(env or {})),
            capture_output=True,
            timeout=120,
            **extra,
        )

    def begin(self, script, output=subprocess.DEVNULL):
        """Starts it with trainprof, in a session of its own, which ends with the test."""
        process = subprocess.Popen(
            [sys.executable, "-m", "trainprof", "run", "--out", "run", script.name],
            cwd=self.folder,
            env=environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        self._begun.append(process)
        return process

    def end(self):
        for process in self._begun:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()

    def diagnosis(self):
        return json.loads((self.folder / "run" / "diagnosis.json").read_text())

    def info(self):
        return json.loads((self.folder / "run" / "run.json").read_text())

    def both(self, *arguments, interpreter=(), **options):
        """Side by side: no test of these reads a clock."""
        command = (*interpreter, *arguments)
        with ThreadPoolExecutor(2) as pool:
            plain = pool.submit(self.plain, *command, **options)
            watched = pool.submit(self.watched, sys.executable, *command, **options)
            return plain.result(), watched.result()


@pytest.fixture
def profiled(tmp_path):
    profiled = Profiled(tmp_path)
    yield profiled
    profiled.end()


ENDINGS = {
    "plain": "print(repr(train().item()))",
    "status": "train(); print('done'); sys.exit(3)",
    "message": "train(); sys.exit('nothing left to do')",
    "traceback": "train(); print('before'); model(torch.ones(1, 5))",
    "traceback in the data set": """
        class Broken(torch.utils.data.Dataset):
            def __len__(self): return 4
            def __getitem__(self, i): raise KeyError(i)
        train()
        for _ in torch.utils.data.DataLoader(Broken()): pass
        """,
    "traceback in a worker": """
        class Broken(torch.utils.data.Dataset):
            def __len__(self): return 4
            def __getitem__(self, i): raise KeyError(i)
        train()
        for _ in torch.utils.data.DataLoader(Broken(), num_workers=1): pass
        """,
    "handled traceback": """
        import logging, traceback
        train()
        try:
            model(torch.ones(1, 5))
        except RuntimeError as error:
            traceback.print_exc()
            logging.exception('caught')
        """,
    "before the first step": "raise ValueError('no data')",
    "os._exit": "train(); print('bye', flush=True); import os; os._exit(7)",
    "own excepthook": """
        def hook(kind, error, trace): print('hooked', kind.__name__, file=sys.stderr)
        sys.excepthook = hook
        train()
        raise RuntimeError('x')
        """,
    "changes directory": "import os; os.chdir('/'); print(train().item())",
    "closes stdout": "train(); print('last'); sys.stdout.close()",
    "warnings": "import warnings; train(); warnings.warn('careful')",
    "killed": "train(40); import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "terminated": "train(40); import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "interrupted": "train(); import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "unfinished loop": "train()\nfor x in torch.utils.data.DataLoader(data): break\nprint(len(x))",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_streams_and_status_are_those_of_the_script(profiled, ending):
    script = profiled.script(ENDINGS[ending])
    plain, watched = profiled.both(script.name)
    expected = plain.returncode if plain.returncode >= 0 else 128 - plain.returncode
    assert watched.returncode == expected
    assert watched.stdout == plain.stdout
    assert watched.stderr.startswith(plain.stderr)
    assert watched.stderr != plain.stderr, "the diagnosis follows"
    diagnosis = profiled.diagnosis()
    assert diagnosis["schema"] == 1
    if ending == "before the first step":
        assert diagnosis["verdict"] == "insufficient"
    elif ending in ("killed", "terminated"):
        assert 0 < diagnosis["steps"]["count"] <= 40 * 48, "all but the last tenth of a second"
        assert diagnosis["run"]["status"] == "crashed"
    else:
        assert diagnosis["steps"]["count"] == 48


def test_quiet_is_silent(profiled):
    script = profiled.script("print('out'); print('err', file=sys.stderr); train()")
    plain = profiled.plain(script.name)
    watched = profiled.watched(script.name, options=("--quiet",))
    assert (watched.stdout, watched.stderr) == (plain.stdout, plain.stderr)


def test_stdin_reaches_the_script(profiled):
    script = profiled.script("train(); print(input('name? '), sys.stdin.read())")
    plain, watched = profiled.both(script.name, input=b"Ada\nLovelace\n")
    assert watched.stdout == plain.stdout == b"name? Ada Lovelace\n\n"


def test_a_users_sitecustomize_still_runs(profiled):
    site = profiled.folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text("import builtins; builtins.FROM_SITE = __file__\n")
    script = profiled.script("train(); print(FROM_SITE)")
    watched = profiled.watched(sys.executable, script.name, env={"PYTHONPATH": str(site)})
    assert watched.stdout.decode().strip() == str(site / "sitecustomize.py")
    assert profiled.diagnosis()["steps"]["count"] == 48


@pytest.mark.parametrize("flag", ["-I", "-E"])
def test_isolated_pythons_run_untouched_and_the_report_says_why(profiled, flag):
    script = profiled.script("print(repr(train().item()))")
    plain, watched = profiled.both(script.name, interpreter=(flag,))
    assert (watched.returncode, watched.stdout) == (plain.returncode, plain.stdout)
    diagnosis = profiled.diagnosis()
    assert diagnosis["verdict"] == "insufficient"
    assert flag in json.dumps(diagnosis)


def test_a_script_without_torch_is_left_alone(profiled):
    (profiled.folder / "hello.py").write_text("import sys; print('hello'); print(sys.path)\n")
    plain, watched = profiled.both("hello.py")
    assert watched.stdout == plain.stdout, "no entry of ours stays on sys.path"
    diagnosis = profiled.diagnosis()
    assert diagnosis["verdict"] == "insufficient"
    assert "torch" in diagnosis["headline"]


@pytest.mark.parametrize(
    "command",
    [
        ["train.py"],
        [sys.executable, "train.py"],
        [sys.executable, "-u", "-X", "utf8", "train.py"],
        [sys.executable, "-m", "package.train"],
        ["bash", "train.sh"],
    ],
    ids=lambda command: " ".join(command[-2:]),
)
def test_every_way_to_start_a_training(profiled, command):
    script = profiled.script("print(repr(train().item()))")
    (profiled.folder / "package").mkdir()
    (profiled.folder / "package" / "__init__.py").touch()
    (profiled.folder / "package" / "train.py").write_text(script.read_text())
    (profiled.folder / "train.sh").write_text(f'echo begin\n"{sys.executable}" train.py\n')
    watched = profiled.watched(*command)
    assert watched.returncode == 0, watched.stderr.decode()
    assert profiled.diagnosis()["steps"]["count"] == 48


def test_steps_stops_the_training(profiled):
    script = profiled.script("train(100); print('not reached')")
    watched = profiled.watched(script.name, options=("--steps", "30"))
    assert watched.returncode == 0
    assert b"not reached" not in watched.stdout
    assert profiled.info()["stopped_by"] == "steps"
    assert profiled.diagnosis()["steps"]["count"] == 30
    assert profiled.diagnosis()["run"]["status"] == "stopped"


def test_fewer_steps_than_asked_is_said(profiled):
    script = profiled.script("train(); print('end')")
    watched = profiled.watched(script.name, options=("--steps", "1000"))
    assert watched.returncode == 0
    assert b"end" in watched.stdout
    assert b"48" in watched.stderr
    assert profiled.info()["status"] == "complete"


def test_two_trainings_in_one_shell_script_are_two_sessions(profiled):
    profiled.script("train(2); print('first')", "first.py")
    profiled.script("train(1); print('second')", "second.py")
    (profiled.folder / "both.sh").write_text(
        f'"{sys.executable}" first.py\n"{sys.executable}" second.py\n'
    )
    profiled.watched("bash", "both.sh")
    diagnosis = profiled.diagnosis()
    assert diagnosis["steps"]["count"] == 96
    assert [other["steps"]["count"] for other in diagnosis["other_sessions"]] == [48]


CHILDREN = """
import multiprocessing
def work(name):
    print(name, repr(train().item()), flush=True)
if __name__ == '__main__':
    context = multiprocessing.get_context(sys.argv[1])
    children = [context.Process(target=work, args=(name,)) for name in 'ab']
    for child in children: child.start()
    for child in children: child.join()
"""


@pytest.mark.parametrize(
    "method",
    [pytest.param("fork", marks=pytest.mark.slow), "spawn"],  # a loop shape is the forked one
)
def test_training_in_multiprocessing_children(profiled, method):
    script = profiled.script(CHILDREN)
    watched = profiled.watched(script.name, method)
    assert watched.returncode == 0, watched.stderr.decode()
    diagnosis = profiled.diagnosis()
    counts = [diagnosis["steps"]["count"]]
    counts += [other["steps"]["count"] for other in diagnosis["other_sessions"]]
    ranks = sum(rank["steps"] for rank in diagnosis["ranks"])
    assert sum(counts) == 96 or ranks == 96


def test_daemons_left_behind_do_not_hold_the_report(profiled):
    script = profiled.script(
        """
        import subprocess
        train()
        daemon = subprocess.Popen(['sleep', '400'], start_new_session=True)
        open('daemon', 'w').write(str(daemon.pid))
        """
    )
    process = profiled.begin(script)
    try:
        assert process.wait(200) == 0
    finally:
        os.kill(int((profiled.folder / "daemon").read_text()), signal.SIGKILL)
    assert profiled.diagnosis()["steps"]["count"] == 48


def test_sigint_to_trainprof_reaches_the_script_and_the_report_is_written(profiled):
    script = profiled.script("print('ready', flush=True); train(10**6)")
    process = profiled.begin(script, output=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 60
    while not list(profiled.folder.glob("run/procs/*/steps.jsonl")):
        assert time.monotonic() < deadline, "no step was recorded"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"KeyboardInterrupt" in errors
    assert profiled.diagnosis()["run"]["status"] == "stopped"


BAD_COMMANDS = {
    "no such script": (["missing.py"], "missing.py"),
    "no such program": (["--", "no-such-program-at-all"], "no-such-program-at-all"),
    "a folder": (["folder"], "folder"),
    "not Python": (["data.bin"], "data.bin"),
    "UTF-16": (["wide.py"], "save it as UTF-8"),
}


@pytest.mark.parametrize("mistake", BAD_COMMANDS)
def test_mistakes_are_one_sentence(profiled, mistake):
    command, word = BAD_COMMANDS[mistake]
    (profiled.folder / "folder").mkdir()
    (profiled.folder / "data.bin").write_bytes(b"\0\1\2" * 100)
    (profiled.folder / "wide.py").write_text("print('wide')\n", encoding="utf-16")
    done = subprocess.run(
        [sys.executable, "-m", "trainprof", "run", *command],
        cwd=profiled.folder,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert word in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_run_folder_in_use_is_refused(profiled):
    script = profiled.script("train()")
    (profiled.folder / "run").mkdir()
    (profiled.folder / "run" / "precious.txt").write_text("keep me")
    done = profiled.watched(script.name)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert (profiled.folder / "run" / "precious.txt").read_text() == "keep me"


def test_disabled_by_the_environment(profiled):
    script = profiled.script("print(repr(train().item()))")
    plain = profiled.plain(script.name)
    watched = profiled.watched(script.name, env={"TRAINPROF_DISABLE": "1"})
    assert (watched.returncode, watched.stdout, watched.stderr) == (
        plain.returncode,
        plain.stdout,
        plain.stderr,
    )
    assert not (profiled.folder / "run").exists()


def test_secrets_are_not_recorded(profiled):
    script = profiled.script("train()")
    profiled.watched(script.name, "--api-key", "sesame-12345", env={"WANDB_API_KEY": "sesame-678"})
    for path in (profiled.folder / "run").rglob("*"):
        if path.is_file():
            assert b"sesame" not in path.read_bytes(), path


def test_the_public_hints_do_nothing_without_trainprof(profiled):
    script = profiled.script(
        """
        import trainprof
        for _ in range(3):
            with trainprof.phase('forward'):
                loss = train()
            trainprof.step()
        print(repr(loss.item()))
        """
    )
    plain, watched = profiled.both(script.name)
    assert watched.stdout == plain.stdout
    assert plain.stderr == b""
