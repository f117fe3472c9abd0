"""The recipe for CI in docs/compare.md, run as a shell script the way a runner does."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "compare.md"

STAND_IN = """\
#!/bin/sh
set -e
[ "$1" = run ] || exec {python} -m trainprof "$@"
while [ $# -gt 1 ]; do
  if [ "$1" = --out ]; then out=$2; fi
  shift
done
side=$(basename "$(dirname "$out")")
echo "$side" >> "$GITHUB_WORKSPACE/order"
mkdir -p "$(dirname "$out")"
cp -r "{runs}/$side-$(cat "$1")-$(basename "$out")" "$out"
"""
"""Takes the place of `trainprof run`: gives a run of the speed that the script's text names."""

TRAINING = """\
import time
import torch
torch.set_num_threads(1)
model = torch.nn.Linear(256, 256)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
while True:
    for batch in torch.utils.data.DataLoader(torch.randn(640, 256), batch_size=32):
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
        time.sleep(PAUSE)
"""


def recipe():
    """The shell lines of the two steps that do the work, and the job's variables."""
    (page,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    scripts = re.findall(r"run: \|\n((?: {10}.*\n)+)", page)
    assert len(scripts) == 2
    variables = dict(re.findall(r"^      ([A-Z_]+): \"?([^\"\n]+)\"?$", page, re.MULTILINE))
    assert set(variables) == {"OMP_NUM_THREADS", "BASE", "TRAINING", "RUNS", "STEPS"}
    return [textwrap.dedent(script) for script in scripts], variables


@pytest.fixture
def pull_request(tmp_path):
    """Makes a repository whose branch `main` holds one training and whose checkout another."""

    def make(base, candidate):
        folder = tmp_path / "checkout"
        folder.mkdir()

        def git(*arguments):
            identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
            command = ["git", "-C", str(folder), *identity, *arguments]
            subprocess.run(command, check=True, capture_output=True)

        git("init", "--initial-branch=main")
        for branch, text in (("main", base), ("change", candidate)):
            if branch != "main":
                git("checkout", "-b", branch)
            (folder / "train.py").write_text(text)
            git("add", "train.py")
            git("commit", "-m", branch, "--no-gpg-sign", "--allow-empty")
        return folder

    return make


def run_recipe(folder, commands, **variables):
    """Exit status and summary of the job; each step in its own shell, as on a runner."""
    scripts, given = recipe()
    summary = folder.parent / "summary.md"
    environment = {
        **os.environ,
        **given,
        "BASE": "main",
        "GITHUB_WORKSPACE": str(folder),
        "GITHUB_STEP_SUMMARY": str(summary),
        "PATH": f"{commands}:{os.environ['PATH']}",
        **variables,
    }
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        environment.pop(name, None)
    for script in scripts:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            break
    return done, summary.read_text() if summary.exists() else ""


@pytest.fixture
def stand_in(tmp_path, write_run):
    """A folder with a command `trainprof` that records nothing but gives ready runs."""
    for number in range(1, 6):
        write_run(f"runs/base-usual-{number}", 0.010, seed=number)
        write_run(f"runs/candidate-usual-{number}", 0.010, seed=number + 10)
        write_run(f"runs/candidate-longer-{number}", 0.012, seed=number + 20)
    command = tmp_path / "bin" / "trainprof"
    command.parent.mkdir()
    command.write_text(STAND_IN.format(python=sys.executable, runs=tmp_path / "runs"))
    command.chmod(0o755)
    return command.parent


@pytest.mark.parametrize(
    ("candidate", "status", "verdict"),
    [("usual", 0, "No difference shown"), ("longer", 1, "Slower")],
)
def test_the_recipe_fails_only_what_is_slower(pull_request, stand_in, candidate, status, verdict):
    folder = pull_request("usual", candidate)
    done, summary = run_recipe(folder, stand_in)
    assert done.returncode == status, done.stderr
    assert summary.startswith(f"### {verdict}")
    assert "| phase | base | candidate |" in summary
    order = (folder / "order").read_text().split()
    assert order[:4] == ["base", "candidate", "candidate", "base"]
    assert (order.count("base"), order.count("candidate")) == (5, 5)


@pytest.mark.slow
def test_the_recipe_with_a_real_training(pull_request, tmp_path):
    folder = pull_request(TRAINING.replace("PAUSE", "0.010"), TRAINING.replace("PAUSE", "0.020"))
    commands = tmp_path / "real"
    commands.mkdir()
    trainprof = shutil.which("trainprof", path=str(Path(sys.executable).parent))
    (commands / "trainprof").symlink_to(trainprof)
    (commands / "python").symlink_to(sys.executable)
    done, summary = run_recipe(folder, commands, RUNS="3", STEPS="60")
    assert done.returncode == 1, done.stderr
    assert summary.startswith("### Slower")
    assert re.search(r"\| command: commit \| [0-9a-f]{40} \| [0-9a-f]{40}", summary)
