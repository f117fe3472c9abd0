"""A machine without a driver, and child processes to look at."""

import os
import subprocess
import sys

import pynvml
import pytest


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
