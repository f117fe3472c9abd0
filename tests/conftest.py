"""What every test may use."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_state_of_the_user(tmp_path_factory):
    """What tunes of this user have measured changes no test, and tests add nothing to it."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield
    os.environ.pop("XDG_STATE_HOME")
    if before is not None:
        os.environ["XDG_STATE_HOME"] = before


@pytest.fixture(scope="session")
def interpreter():
    """Finds a Python by version, interpreter("3.10"); skips the test where there is none."""

    def find(version):
        pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
        candidates = [shutil.which(f"python{version}")]
        candidates += sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))
        for candidate in candidates:
            # A version manager's stand-in lies on PATH also where its Python is not selected.
            if candidate and _runs(candidate, version):
                return str(candidate)
        pytest.skip(f"there is no Python {version} on this machine")

    return find


def _runs(python, version):
    report = "import sys; print('%d.%d' % sys.version_info[:2])"
    result = subprocess.run([python, "-c", report], capture_output=True, text=True, check=False)
    return result.stdout.strip() == version
