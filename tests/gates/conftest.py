"""The repository under the gates, copies of it to break, and the agent's files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CHECKED = ("trainprof", "profiler", "rules", "reports", "pyproject.toml", "Makefile")


@pytest.fixture(scope="session")
def repository():
    return REPOSITORY


@pytest.fixture
def scratch(tmp_path):
    """A copy of what the gates look at, links included, to plant a violation in."""
    for name in CHECKED:
        source = REPOSITORY / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tmp_path / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


@pytest.fixture(scope="session")
def gate(tmp_path_factory):
    """Runs one gate, as the Makefile states it, in a folder: gate("ruff", folder)."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed here")
    caches = tmp_path_factory.mktemp("caches")
    environment = {
        **os.environ,
        "MYPY_CACHE_DIR": str(caches / "mypy"),
        "RUFF_CACHE_DIR": str(caches / "ruff"),
        "NO_COLOR": "1",
    }
    environment["SITE"] = str(tmp_path_factory.mktemp("site"))
    environment.pop("MAKEFLAGS", None)  # when `make test` runs us, its flags are not ours
    tools = Path(sys.executable).parent

    def run(name, folder):
        command = ["make", "--no-print-directory", "-C", str(folder), f"BIN={tools}/", name]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=240, check=False
        )

    return run
