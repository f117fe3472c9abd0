"""Data sets whose class is defined in the script: its definitions, not its deeds."""

import ast

import pytest
from torch.utils.data import DataLoader

from trainprof.profiler.probe.scratch.copied import Copied, NotTheScript
from trainprof.profiler.probe.scratch.definitions import is_definition

SCRIPT = '''
import json, os
from math import sqrt as root
from torch.utils.data import Dataset, DataLoader

SIZE = 2 * 8
NAMES = {"a": 1}
LOOKUP = dict(zip("ab", range(2)))
TRAINED = []

def doubled(x):
    """Uses a name of its own."""
    return 2 * x + SIZE

class Base(Dataset):
    def __len__(self):
        return 3

class Numbers(Base):
    def __init__(self, transform):
        self.transform = transform
    def __getitem__(self, index):
        return self.transform(doubled(index)) + NAMES["a"] + LOOKUP["b"]

def unrelated():
    return json

def collate(samples):
    return sorted(samples)

TRAINED.append("the script ran")
dataset = Numbers(lambda x: root(x * x))
'''


@pytest.fixture
def copied(script, copy, monkeypatch):
    module = script(SCRIPT)
    fact, path = copy(DataLoader(module.dataset, collate_fn=module.collate))
    assert "reason" not in fact, fact
    return module, Copied(path)


def test_items_are_the_same_without_running_the_script(copied):
    module, copied = copied
    dataset = copied.part("dataset")
    assert [dataset[i] for i in range(3)] == [module.dataset[i] for i in range(3)]
    assert copied.part("collate_fn")([2, 1]) == [1, 2]
    definitions = vars(copied.script_module())
    assert definitions["Numbers"] is not module.Numbers
    assert definitions.get("TRAINED", []) in ([], ["the script ran"])
    assert "unrelated" not in definitions
    assert "json" not in definitions


def test_values_of_the_training_win_over_the_source(script, copy):
    module = script(SCRIPT + "\nSIZE = 1000\n")
    fact, path = copy(DataLoader(module.dataset))
    assert "reason" not in fact
    assert Copied(path).part("dataset")[0] == module.dataset[0] > 1000


def test_a_script_without_source_is_said(script, copy):
    module = script(SCRIPT)
    del module.__file__
    _, path = copy(DataLoader(module.dataset))
    with pytest.raises(ValueError, match="no source file"):
        Copied(path).part("dataset")


def test_other_encodings_are_read(script, copy, tmp_path):
    module = script(SCRIPT)
    latin = "# -*- coding: latin-1 -*-\n# caf\xe9\n" + SCRIPT
    (tmp_path / "train.py").write_bytes(latin.encode("latin-1"))
    _, path = copy(DataLoader(module.dataset))
    assert Copied(path).part("dataset")[1] == module.dataset[1]


def test_the_script_is_never_imported(tmp_path, monkeypatch):
    script = tmp_path / "train_alone.py"
    script.write_text("raise SystemExit('it trained')")
    monkeypatch.syspath_prepend(str(tmp_path))
    finder = NotTheScript(str(script))
    with pytest.raises(ImportError, match="training script is not imported"):
        finder.find_spec("train_alone")
    assert finder.find_spec("json") is None


@pytest.mark.parametrize(
    ("source", "is_one"),
    [
        ("import torch", True),
        ("X: int = 3", True),
        ("X = a.b + [1, {'c': -2}][0]", False),
        ("X = (1, a.b)", True),
        ("X = f()", False),
        ("X = [f(i) for i in y]", False),
        ("f()", False),
        ("for i in x: pass", False),
        ("if __name__ == '__main__': main()", False),
        ("try:\n    import a\nexcept ImportError:\n    a = None", True),
        ("try:\n    train()\nexcept ImportError:\n    a = None", False),
        ("with open(x) as f: pass", False),
        ("class A: pass", True),
    ],
)
def test_what_counts_as_a_definition(source, is_one):
    assert is_definition(ast.parse(source).body[0]) is is_one
