"""A copy as the agent makes it, and the scratch process's view of it, both in this process."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from trainprof.profiler.agent.dataset_copy import LEAST_STEPS, DatasetCopy
from trainprof.profiler.probe.scratch.copied import Copied


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Copies the data set of a loader; gives the fact and the path."""
    monkeypatch.setenv("TRAINPROF_PROBE", "1")

    def make(loader):
        entry = SimpleNamespace(loader=lambda: loader)
        loaders = SimpleNamespace(entries=[entry])
        made = DatasetCopy(torch, lambda: str(tmp_path)).attempt(loaders, {0}, LEAST_STEPS)
        return made[1], str(tmp_path / "dataset-l0")

    return make


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Runs a source as the script `__main__` of this process; gives its names."""
    from types import ModuleType

    def run(source, name="train.py"):
        path = tmp_path / name
        path.write_text(source)
        module = ModuleType("__main__")
        module.__file__ = str(path)
        monkeypatch.setitem(sys.modules, "__main__", module)
        exec(compile(source, str(path), "exec"), vars(module))
        return module

    return run


@pytest.fixture
def reread(copy, monkeypatch):
    """The data set of a loader, copied and read back as the scratch process does."""

    def again(dataset, **settings):
        fact, path = copy(DataLoader(dataset, **settings))
        assert "reason" not in fact, fact
        for name in ("__main__", "__mp_main__"):
            monkeypatch.setitem(sys.modules, name, sys.modules["__main__"])
        return Copied(path)

    return again
