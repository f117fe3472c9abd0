"""Fixes whose place lies in another module of the user's project than the script."""

import os

import pytest

from trainprof.profiler.model.plan import Application, Target
from trainprof.rules.source_edits.own_modules import own_modules
from trainprof.rules.source_edits.patch import make_patch

SCRIPT = "import torch\nfrom project.loop import train\nfrom project import data\n\ntrain(data)\n"
LOOP = """\
import gc

import torch

from .validation import evaluate


def train(loader):
    for batch in loader:
        loss = model(batch)
        loss.backward()
        gc.collect()
    evaluate(loader)
"""
VALIDATION = """\
import torch


def evaluate(loader):
    model.eval()
    for batch in loader:
        model(batch)
"""
DATA = "from torch.utils.data import DataLoader\n\nloader = DataLoader(rows, num_workers=2)\n"


@pytest.fixture
def project(tmp_path):
    files = {"loop": LOOP, "validation": VALIDATION, "data": DATA, "__init__": "", "unused": LOOP}
    (tmp_path / "project").mkdir()
    for name, text in files.items():
        (tmp_path / "project" / f"{name}.py").write_text(text)
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def patch_of(project, fix, target=None, **params):
    return make_patch([Application(fix, params, target)], script=str(project / "train.py"))


def test_what_a_script_imports(project):
    names = [os.path.relpath(path, project) for path in own_modules(str(project / "train.py"))]
    wanted = {"__init__.py", "loop.py", "data.py", "validation.py"}
    assert {os.path.basename(name) for name in names} == wanted


@pytest.mark.parametrize(
    ("fix", "name", "old", "new"),
    [
        ("gc-manual-off", "loop", "        gc.collect()\n", ""),
        ("validation-inference-mode", "validation", "def eval", "@torch.no_grad()\ndef eval"),
        ("gc-freeze", "loop", "    for b", "    gc.collect()\n    gc.freeze()\n    for b"),
        ("autocast-bf16", "loop", "        loss = ", "        with torch.autocast("),
    ],
)
def test_the_only_module_that_it_is_for_is_changed(project, fix, name, old, new):
    patch = patch_of(project, fix)
    assert patch.by_hand == ()
    (file,) = patch.files
    assert file.path == str(project / "project" / f"{name}.py")
    if new.endswith("("):
        assert new in file.new.decode()
    else:
        wanted = (LOOP if name == "loop" else VALIDATION).replace(old, new)
        assert file.new.decode() == wanted.replace("import gc\n\n", "", not new)


def test_a_target_in_another_module(project):
    target = Target(str(project / "project" / "data.py"), 3)
    patch = patch_of(project, "loader-workers", target, persistent_workers=True)
    (file,) = patch.files
    assert file.new.decode() == DATA.replace("=2)", "=2, persistent_workers=True)")


def test_two_modules_that_could_be_meant_are_left_to_a_person(project):
    (project / "train.py").write_text(SCRIPT + "import project.unused\n")
    patch = patch_of(project, "gc-freeze")
    assert patch.files == ()
    assert patch.by_hand[0].path == str(project / "train.py")


def test_calls_for_the_whole_process_stand_in_the_script(project):
    (file,) = patch_of(project, "intra-op-threads", num_threads=2).files
    assert file.path == str(project / "train.py")


def test_several_modules_at_once(project):
    applications = [Application("gc-manual-off"), Application("validation-inference-mode")]
    patch = make_patch(applications, script=str(project / "train.py"))
    assert [os.path.basename(file.path) for file in patch.files] == ["loop.py", "validation.py"]


def test_a_module_that_cannot_be_read_is_passed_over(project):
    (project / "project" / "data.py").write_text("def (\n")
    assert len(patch_of(project, "gc-manual-off").files) == 1
