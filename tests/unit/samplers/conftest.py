"""A fake NVIDIA driver library, and child processes to look at."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")


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
            command = [compiler, "-shared", "-fPIC", "-Wall", *flags, str(SOURCE), "-o", str(path)]
            subprocess.run(command, check=True)
            built[flags] = path
        return built[flags]

    return build


@pytest.fixture
def driver(nvml_library, tmp_path, monkeypatch):
    """The real pynvml on the fake library; driver("0 * temperature 91") says how cards fare."""
    state = tmp_path / "nvml-state"
    monkeypatch.setenv("FAKE_NVML_STATE", str(state))

    def use(scenario="", *flags):
        state.write_text(scenario)
        library = ctypes.CDLL(str(nvml_library(*flags)))
        library.fake_nvml_restart()
        monkeypatch.setattr(pynvml, "nvmlLib", library)
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    return use


@pytest.fixture
def no_driver(monkeypatch):
    """pynvml where no library can be loaded, whatever this machine has."""

    def refuse(name, *arguments, **options):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", refuse)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})


@pytest.fixture
def start():
    """Starts a Python program and waits until it prints a line; ends it after the test."""
    children = []

    def run(program):
        child = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        children.append(child)
        assert child.stdout.readline() != b""
        return child

    yield run
    for child in children:
        child.kill()
        child.stdin.close()
        child.stdout.close()
        child.wait()
