"""What every test may use, and what properties may take: any time at all."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# On a busy machine an example may take long for no reason of ours.
settings.register_profile(
    "busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy machine")

FAKE_NVML = Path(__file__).with_name("unit") / "samplers" / "fake_nvml.c"


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


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory):
    """Compiles the fake library; nvml_library("-DOLD_DRIVER") gives its path."""
    built = {}

    def build(*flags):
        compiler = shutil.which("gcc")
        if compiler is None:
            pytest.skip("there is no gcc to compile the fake NVML library with")
        if flags not in built:
            path = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
            command = [
                compiler,
                "-shared",
                "-fPIC",
                "-Wall",
                *flags,
                str(FAKE_NVML),
                "-o",
                str(path),
            ]
            subprocess.run(command, check=True)
            built[flags] = path
        return built[flags]

    return build


@pytest.fixture
def driver(nvml_library, tmp_path, monkeypatch):
    """The real pynvml on the fake library; driver("0 * temperature 91") says how cards fare."""
    import pynvml

    state = tmp_path / "nvml-state"
    monkeypatch.setenv("FAKE_NVML_STATE", str(state))

    def use(scenario="", *flags):
        state.write_text(scenario)
        library = ctypes.CDLL(str(nvml_library(*flags)))
        library.fake_nvml_restart()
        monkeypatch.setattr(pynvml, "nvmlLib", library)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    return use


def _runs(python, version):
    report = "import sys; print('%d.%d' % sys.version_info[:2])"
    result = subprocess.run([python, "-c", report], capture_output=True, text=True, check=False)
    return result.stdout.strip() == version
