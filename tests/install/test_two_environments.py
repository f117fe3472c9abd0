"""trainprof in one environment, torch in another: nothing is installed beside the training."""

import json
import shutil

import jsonschema
import pytest

# Its fault costs arithmetic, so that the verdict does not depend on what else the machine does.
TRAINING = """
import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
inputs = torch.randn(60 * 64, 256, dtype=torch.float64)
labels = torch.randint(0, 10, (60 * 64,))
model = nn.Sequential(
    nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
).double()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for batch, classes in DataLoader(TensorDataset(inputs, labels), batch_size=64, shuffle=True):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(batch), classes)
    loss.backward()
    optimizer.step()
    print(f"{loss.item():.17g}")
print("done", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture
def project(tmp_path):
    """A user's project: a training, and folders called as ours are."""
    (tmp_path / "train.py").write_text(TRAINING)
    return tmp_path


def diagnosis_of(folder):
    return json.loads((folder / "run" / "diagnosis.json").read_text())


def profiled(tool, *command):
    return [tool / "trainprof", "run", "--out", "run", "--", *command]


def test_the_training_environment_has_torch_and_no_trainprof(training_bin, execute, tmp_path):
    assert execute([training_bin / "python", "-c", "import torch"], tmp_path).returncode == 0
    missing = execute([training_bin / "python", "-c", "import trainprof"], tmp_path)
    assert "No module named 'trainprof'" in missing.stderr


def test_a_full_diagnosis(tool, training_bin, execute, project):
    command = [training_bin / "python", "train.py"]
    alone = execute(command, project)
    result = execute(profiled(tool, *command), project)
    assert result.returncode == alone.returncode == 3
    assert result.stdout == alone.stdout, "the losses must be the same to the last digit"
    assert alone.stderr == "done\n"
    assert result.stderr.startswith(alone.stderr)
    diagnosis = diagnosis_of(project)
    assert diagnosis["steps"]["count"] >= 58
    assert diagnosis["verdict"] == "bottleneck"
    assert "prec-fp64" in [finding["rule"] for finding in diagnosis["findings"]]
    assert "prec-fp64" in result.stderr


def test_a_bare_script_takes_the_python_on_the_path(tool, training_bin, execute, project):
    result = execute(
        profiled(tool, "train.py"), project, PATH=f"{training_bin}:/usr/local/bin:/usr/bin:/bin"
    )
    assert result.returncode == 3, result.stderr
    assert diagnosis_of(project)["steps"]["count"] >= 58


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_the_tool_in_another_python_version(
    version, interpreter, install, training_bin, execute, project
):
    other = install(interpreter(version))
    result = execute(profiled(other, training_bin / "python", "train.py"), project)
    assert result.returncode == 3, result.stderr
    diagnosis = diagnosis_of(project)
    assert (diagnosis["verdict"], diagnosis["steps"]["count"] >= 58) == ("bottleneck", True)
    again = execute([other / "trainprof", "diagnose", "run", "--format", "json"], project)
    schema = execute([other / "trainprof", "schema"], project)
    jsonschema.validate(json.loads(again.stdout), json.loads(schema.stdout))
    assert json.loads(again.stdout)["verdict"] == "bottleneck"


def test_the_users_own_folders_of_our_names_are_theirs(tool, training_bin, execute, project):
    for name in ("profiler", "rules", "reports"):
        (project / name).mkdir()
        (project / name / "__init__.py").write_text("WHOSE = 'the user'\n")
    script = project / "train.py"
    script.write_text(
        "import profiler, reports, rules\n"
        "assert profiler.WHOSE == reports.WHOSE == rules.WHOSE == 'the user'\n" + TRAINING
    )
    result = execute(profiled(tool, training_bin / "python", "train.py"), project)
    assert result.returncode == 3, result.stderr
    assert diagnosis_of(project)["steps"]["count"] >= 58


def test_the_public_functions_work_where_trainprof_is_not_installed(
    tool, training_bin, execute, project
):
    (project / "train.py").write_text(
        "import torch, trainprof\n"
        "weight = torch.zeros(8)\n"
        "for _ in range(40):\n"
        "    with trainprof.phase('forward'):\n"
        "        weight = weight + torch.ones(8)\n"
        "    trainprof.step()\n"
        "print(weight[0].item())\n"
    )
    result = execute(profiled(tool, training_bin / "python", "train.py"), project)
    assert (result.returncode, result.stdout) == (0, "40.0\n"), result.stderr
    assert diagnosis_of(project)["steps"]["count"] >= 39


@pytest.mark.parametrize("version", ["2.7", "3.9", "3.12"])
def test_a_python_without_torch_runs_untouched(version, interpreter, tool, execute, project):
    """Also one too old for the agent: it must not even notice."""
    (project / "train.py").write_text("import sys\nsys.stderr.write('hello')\nsys.exit(5)\n")
    result = execute(profiled(tool, interpreter(version), "train.py"), project)
    assert result.returncode == 5
    assert result.stderr.startswith("hello")
    assert "not active" not in result.stderr
    diagnosis = diagnosis_of(project)
    assert (diagnosis["verdict"], diagnosis["findings"]) == ("insufficient", [])


@pytest.mark.parametrize("flag", ["-I", "-S", "-E"])
def test_a_python_that_ignores_the_environment_runs_untouched(
    flag, tool, execute, project, training_bin
):
    """It never loads the agent; the report says why there are no steps."""
    if flag == "-S":  # without site-packages there is no torch
        (project / "train.py").write_text("import sys\nsys.exit(3)\n")
    result = execute(profiled(tool, training_bin / "python", flag, "train.py"), project)
    assert result.returncode == 3
    assert diagnosis_of(project)["verdict"] == "insufficient"
    assert flag in result.stderr


def test_another_trainprof_beside_the_training_is_left_alone(tool, training_bin, execute, project):
    """The agent lives under a private name: the other one is neither used nor hidden."""
    (project / "trainprof").mkdir()
    (project / "trainprof" / "__init__.py").write_text("__version__ = '0.0.1'\n")
    script = project / "train.py"
    script.write_text("import trainprof\nassert trainprof.__version__ == '0.0.1'\n" + TRAINING)
    result = execute(profiled(tool, training_bin / "python", "train.py"), project)
    assert result.returncode == 3, result.stderr
    assert diagnosis_of(project)["steps"]["count"] >= 58


def test_nothing_is_written_into_either_environment(tool, training_bin, execute, project):
    packages = next(training_bin.parent.glob("lib/python3*/site-packages"))
    before = sorted(packages.iterdir())
    execute(profiled(tool, training_bin / "python", "train.py"), project)
    assert sorted(packages.iterdir()) == before
    shutil.rmtree(project / "run")
    assert sorted(path.name for path in project.iterdir()) == ["train.py"]
