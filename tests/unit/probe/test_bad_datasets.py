"""Data sets that misbehave, copied by the agent and looked at by the real scratch process.

Each ends in one sentence, and in no figure that was not seen.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from trainprof.profiler.agent.dataset_copy import LEAST_STEPS, DatasetCopy
from trainprof.profiler.launch import home
from trainprof.profiler.probe import supervise
from trainprof.profiler.probe.supervise import Probe, read_journal

HEAD = """
import itertools, os, time
import torch
from torch.utils.data import Dataset, IterableDataset

COUNT = 0

class Numbers(Dataset):
    def __init__(self, folder=None):
        self.folder = folder

    def __len__(self):
        return 200

    def __getitem__(self, index):
        return torch.full((8,), float(index))

"""

SOURCES = {
    "healthy": "dataset = Numbers()",
    "some raise": """
class Some(Numbers):
    def __getitem__(self, index):
        if index % 100 == 57:
            raise KeyError(f"no picture {index}")
        return super().__getitem__(index)

dataset = Some()
""",
    "all raise": """
class All(Numbers):
    def __getitem__(self, index):
        raise OSError("the archive is closed")

dataset = All()
""",
    "files are gone": """
class Files(Numbers):
    def __getitem__(self, index):
        with open(f"{self.folder}/{index}.bin", "rb") as file:
            return file.read()

dataset = Files("/nowhere/at/all")
""",
    "a file goes meanwhile": """
class Going(Numbers):
    def __getitem__(self, index):
        global COUNT
        COUNT += 1
        if COUNT > 260:
            raise FileNotFoundError(2, "gone", "rows.bin")
        return super().__getitem__(index)

dataset = Going()
""",
    "needs an accelerator": """
class OnDevice(Numbers):
    def __getitem__(self, index):
        return super().__getitem__(index).to("cuda")

dataset = OnDevice()
""",
    "trains": """
class Trains(Numbers):
    def __getitem__(self, index):
        torch.ones(1, requires_grad=True).sum().backward()
        return super().__getitem__(index)

dataset = Trains()
""",
    "changes": """
class Changing(Numbers):
    def __getitem__(self, index):
        global COUNT
        COUNT += 1
        return super().__getitem__(index) + COUNT

dataset = Changing()
""",
    "a huge length": """
class Huge(Numbers):
    def __len__(self):
        return 2**62

dataset = Huge()
""",
    "a longer length than there can be": """
class Longer(Numbers):
    def __len__(self):
        return 2**70

dataset = Longer()
""",
    "without an end": """
class Endless(IterableDataset):
    def __iter__(self):
        for number in itertools.count():
            yield torch.full((8,), float(number % 7))

dataset = Endless()
""",
    "only once": """
class Once(IterableDataset):
    def __init__(self):
        self.left = list(range(5))

    def __iter__(self):
        while self.left:
            yield self.left.pop()

dataset = Once()
""",
    "stops early": """
class Stops(IterableDataset):
    def __iter__(self):
        yield from range(10)
        raise ConnectionError("the server has gone")

dataset = Stops()
""",
    "nothing": """
class Nothing(IterableDataset):
    def __iter__(self):
        return iter(())

dataset = Nothing()
""",
}

FORKING = """
import json, os, sys
from importlib import import_module
home, jobs = sys.argv[1], json.loads(sys.argv[2])
root = type(sys)("_trainprof")
root.__path__ = [home]
sys.modules["_trainprof"] = root
import torch, torch.utils.data
look = import_module("_trainprof.profiler.probe.scratch.look").look
for copy, out in jobs:
    child = os.fork()
    if not child:
        look(copy, out, 3.0)
        os._exit(0)
    os.waitpid(child, 0)
"""
"""Imports torch once for all of them."""


def copy_of(source, folder):
    """The agent's copy of the data set that a script of this source makes."""
    folder.mkdir(parents=True)
    path = folder / "train.py"
    path.write_text(HEAD + source)
    module = ModuleType("__main__")
    module.__file__ = str(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRAINPROF_PROBE", "1")
        patch.setitem(sys.modules, "__main__", module)
        exec(compile(path.read_text(), str(path), "exec"), vars(module))
        loader = DataLoader(module.dataset, batch_size=8)
        loaders = SimpleNamespace(entries=[SimpleNamespace(loader=lambda: loader)])
        made = DatasetCopy(torch, lambda: str(folder)).attempt(loaders, {0}, LEAST_STEPS)
    assert "reason" not in made[1], made
    return made[1]


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """What was found of each, by name."""
    base = tmp_path_factory.mktemp("looked")
    jobs = {}
    for number, (name, source) in enumerate(SOURCES.items()):
        copy_of(source, base / str(number))
        jobs[name] = (str(base / str(number) / "dataset-l0"), str(base / f"{number}.jsonl"))
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FORKING, str(home()), json.dumps(list(jobs.values()))]
    subprocess.run(command, check=True, env=environment, timeout=120)
    return {name: read_journal(Path(out)) for name, (_, out) in jobs.items()}


def test_a_healthy_one_is_seen_whole(looked):
    found = looked["healthy"]
    assert (found.problems, found.done) == ([], True)
    assert found.data["repeatable"] is True
    assert found.data["distinct_items"] == found.data["hashed_items"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("all raise", "and 8 others could not be made (OSError: the archive is closed)"),
        ("files are gone", "FileNotFoundError"),
        ("needs an accelerator", "could not be made"),
        ("trains", "the probe does not train"),
        ("a longer length than there can be", "asking for its length failed (OverflowError"),
        ("nothing", "there are no items"),
    ],
)
def test_what_makes_no_item_has_no_figures(looked, name, problem):
    found = looked[name]
    assert len(found.problems) == 1
    assert problem in found.problems[0]
    assert found.data == {}


def test_items_that_raise_are_passed_over_and_the_first_is_named(looked):
    found = looked["some raise"]
    assert found.problems[0].startswith("item ")
    assert "no picture" in found.problems[0]
    assert found.data["items"] > 10
    assert 50 < found.data["hashed_items"] <= 198
    assert found.data["hashed_all"] is False


def test_what_was_seen_before_the_files_went_counts(looked):
    found = looked["a file goes meanwhile"]
    assert any("FileNotFoundError" in problem for problem in found.problems)
    assert found.data["items"] > 10
    assert "hashed_items" not in found.data


def test_a_data_set_that_changes_is_said_to(looked):
    assert looked["changes"].data["repeatable"] is False


def test_a_huge_length_is_no_trouble(looked):
    found = looked["a huge length"]
    assert found.problems == []
    assert found.data["length"] == 2**62
    assert found.data["hashed_all"] is False


def test_what_has_no_end_is_looked_at_from_its_beginning(looked):
    found = looked["without an end"]
    assert found.problems == []
    assert found.data["items"] > 1
    assert found.data["repeatable"] is True
    assert (found.data["hashed_all"], found.data["hashed_at_random"]) == (False, False)
    assert "length" not in found.data


def test_what_can_be_iterated_once_is_said(looked):
    found = looked["only once"]
    assert found.problems == ["iterating the data set again gives fewer items"]
    assert found.data.get("hashed_items") is None


def test_a_stream_that_breaks_off_is_known_up_to_there(looked):
    found = looked["stops early"]
    assert "item 10 could not be made (ConnectionError" in found.problems[0]
    assert found.data["items"] == 9


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("while True: time.sleep(60)", "was over before the stage 'items' had ended"),
        ("os._exit(3)", "ended by itself (status 3) in 'items'"),
    ],
    ids=["hangs", "exits"],
)
def test_what_does_not_come_back_is_ended_with_its_copy(tmp_path, monkeypatch, body, problem):
    monkeypatch.setattr(supervise, "START_S", 60.0)  # importing torch on a busy machine
    source = f"""
class Bad(Numbers):
    def __getitem__(self, index):
        {body}

dataset = Bad()
"""
    folder = tmp_path / "procs" / "a"
    fact = {"kind": "copy", "key": "l0", "at_ns": 1, "data": copy_of(source, folder)}
    (folder / "facts.jsonl").write_text('{"format": 1, "base_ns": 0}\n' + json.dumps(fact))
    status = Probe(tmp_path, 0.5).run()
    assert status.status == "partial"
    assert problem in status.reason
    assert not (folder / "probe.jsonl").exists()
    assert list(folder.glob("dataset-*")) == []
