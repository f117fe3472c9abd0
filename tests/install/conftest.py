"""The wheel, trainprof installed from it alone, and a training environment without trainprof."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "trainprof", "profiler", "rules", "reports")


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


def clean_environment():
    """The environment of a user's shell: nothing of the one that runs the tests."""
    ours = ("PYTHON", "VIRTUAL_ENV", "TRAINPROF", "PYTEST", "COVERAGE", "MAKE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "OMP_NUM_THREADS": "1", "TERM": "dumb"}


@pytest.fixture(scope="session")
def execute():
    """Runs a command in a folder as a user would; gives the finished process."""

    def run(command, folder, timeout_s=240, **environment):
        return subprocess.run(
            [str(word) for word in command],
            cwd=folder,
            env={**clean_environment(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def checked(execute):
    """Runs a command that must succeed; gives its stdout."""

    def run(command, folder, **environment):
        result = execute(command, folder, **environment)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """A copy of what the wheel is built from, as in a clone: links are links."""
    copy = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in BUILT_FROM:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(REPOSITORY / name, copy / name)
    return copy


@pytest.fixture(scope="session")
def sdist(source, checked, tmp_path_factory):
    """The source distribution, built from the copy."""
    folder = tmp_path_factory.mktemp("sdist")
    checked([sys.executable, "-m", "build", "--sdist", "--outdir", folder, source], folder)
    (built,) = folder.glob("trainprof-*.tar.gz")
    return built


@pytest.fixture(scope="session")
def wheel(source, checked, tmp_path_factory):
    """The wheel, built from the copy."""
    folder = tmp_path_factory.mktemp("wheel")
    checked([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, source], folder)
    (built,) = folder.glob("trainprof-*.whl")
    return built


@pytest.fixture(scope="session")
def install(wheel, checked, tmp_path_factory):
    """Installs the wheel into an empty environment of a given Python; gives its bin folder."""

    def make(python, extra=""):
        folder = tmp_path_factory.mktemp("tool") / "venv"
        # A pip of its own and compiled files of all that is installed would take half of the time.
        checked([python, "-m", "venv", "--without-pip", folder], folder.parent)
        pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "-q"]
        options = ["--no-compile", "--disable-pip-version-check"]
        checked([*pip, *options, f"{wheel}{extra}"], folder.parent)
        return folder / "bin"

    return make


@pytest.fixture(scope="session")
def tool(install):
    """bin folder of an environment that holds trainprof and what it depends on, and no torch."""
    return install(sys.executable)


@pytest.fixture(scope="session")
def editing_tool(tool, checked, tmp_path_factory):
    """The same with LibCST: a link to the one of the tests, as installing takes long."""
    folder = tmp_path_factory.mktemp("editing") / "venv"
    checked([sys.executable, "-m", "venv", "--without-pip", folder], folder.parent)
    (packages,) = folder.glob("lib/python3*/site-packages")
    (held,) = tool.parent.glob("lib/python3*/site-packages")
    (packages / "held.pth").write_text(f"{held}\n")
    for name in ("libcst", "yaml"):
        (packages / name).symlink_to(Path(importlib.util.find_spec(name).origin).parent)
    script = folder / "bin" / "trainprof"
    script.write_text((tool / "trainprof").read_text().replace(str(tool), str(folder / "bin")))
    script.chmod(0o755)
    return folder / "bin"


@pytest.fixture(scope="session")
def tuning_tool(install):
    """bin folder of an environment with the extra that `trainprof fix` needs."""
    return install(sys.executable, "[tune]")


@pytest.fixture(scope="session")
def training_bin(checked, tmp_path_factory):
    """bin folder of an environment that holds torch and no trainprof."""
    folder = tmp_path_factory.mktemp("training") / "venv"
    checked([sys.executable, "-m", "venv", "--without-pip", folder], folder.parent)
    (packages,) = folder.glob("lib/python3*/site-packages")
    torch = importlib.util.find_spec("torch")
    for entry in Path(torch.origin).parents[1].iterdir():
        # Links to all that is installed beside torch. Left out: trainprof, and the *.pth files
        # and finders through which an editable install of it would be found.
        foreign = "trainprof" not in entry.name and not entry.name.startswith("__editable__")
        if foreign and entry.suffix != ".pth" and not (packages / entry.name).exists():
            (packages / entry.name).symlink_to(entry)
    return folder / "bin"
