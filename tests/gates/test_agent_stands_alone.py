"""What runs inside the user's process needs nothing installed there, and claims no name there."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROFILER = Path(__file__).resolve().parents[2] / "profiler"
STARTS = ("agent/**/*.py", "model/**/*.py", "store/writer.py", "probe/scratch/**/*.py")
BOOTSTRAP = PROFILER / "agent" / "bootstrap" / "sitecustomize.py"


def files_in_the_users_process():
    """The agent, the records, the writer, and whatever these import relatively."""
    waiting = [path for pattern in STARTS for path in PROFILER.glob(pattern) if path != BOOTSTRAP]
    found = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            for node, _ in imports_of(ast.parse(path.read_text())):
                waiting += relative_targets(path, node)
    return sorted(found)


def imports_of(node, at_import=True):
    """Every import statement below `node`, and whether it runs when the file is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, at_import
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue  # only type checkers read it
        else:
            later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from imports_of(child, at_import and not later)


def relative_targets(path, node):
    """The files that a relative import loads; empty for other imports."""
    if not isinstance(node, ast.ImportFrom) or not node.level:
        return []
    base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
    if base.with_suffix(".py").is_file() and base.is_relative_to(PROFILER):
        return [base.with_suffix(".py")]
    inside = [base / "__init__.py", *(base / f"{alias.name}.py" for alias in node.names)]
    inside += [base / alias.name / "__init__.py" for alias in node.names]
    return [file for file in inside if file.is_file() and file.is_relative_to(PROFILER)]


def absolute_names(node):
    """Top-level names of the packages that an absolute import statement loads."""
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    return set() if node.level else {(node.module or "").partition(".")[0]}


def faults(path, text):
    """What is wrong with the imports of a file that runs in the user's process."""
    found = []
    for node, at_import in imports_of(ast.parse(text)):
        names = absolute_names(node)
        if at_import:
            found += [f"{name} at the top" for name in names - sys.stdlib_module_names]
        found += [f"{name} by its installed name" for name in names & OWN_NAMES]
        if isinstance(node, ast.ImportFrom) and node.level and not relative_targets(path, node):
            found.append(f"line {node.lineno} leaves the profiler")
    return found


OWN_NAMES = {"trainprof", "profiler", "rules", "reports", "_trainprof"}
FILES = files_in_the_users_process()


def test_the_files_are_found():
    names = {path.relative_to(PROFILER).as_posix() for path in FILES}
    assert {"agent/boot.py", "agent/segment.py", "model/records.py", "store/writer.py"} <= names
    assert len(names) > len(list((PROFILER / "agent").glob("*.py")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PROFILER).as_posix())
def test_imports_only_relatively_and_from_the_standard_library(path):
    assert faults(path, path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "import torch",
        "from trainprof.errors import TrainprofError",
        "def late():\n    import trainprof",
        "def late():\n    from ...rules import rule",
        "from ..nowhere import nothing",
        "try:\n    import psutil\nexcept ImportError:\n    psutil = None",
    ],
)
def test_a_wrong_import_would_be_found(line):
    assert faults(PROFILER / "agent" / "planted.py", line)


@pytest.mark.parametrize(
    "line",
    [
        "import os.path",
        "from ..model.records import StepRecord",
        "from . import guard",
        "def late():\n    import torch",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch",
    ],
)
def test_a_right_import_is_not_complained_about(line):
    assert faults(PROFILER / "agent" / "planted.py", line) == []


LOAD_ALL = """
import importlib, json, sys
home, names = sys.argv[1], json.loads(sys.argv[2])
root = type(sys)("_trainprof")
root.__path__ = [home]
sys.modules["_trainprof"] = root
for name in names:
    importlib.import_module(name)
foreign = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(json.dumps(sorted(foreign)))
"""


@pytest.mark.parametrize("version", ["this", "3.10", "3.11", "3.12", "3.13", "3.14"])
def test_loads_under_the_private_name_in_a_bare_interpreter(version, interpreter, tmp_path):
    python = sys.executable if version == "this" else interpreter(version)
    names = [
        ".".join(("_trainprof", *path.relative_to(PROFILER.parent).with_suffix("").parts))
        for path in FILES
        if path.name != "__init__.py"
    ]
    home = PROFILER.parent / "trainprof"
    result = subprocess.run(
        [python, "-I", "-S", "-B", "-c", LOAD_ALL, str(home), json.dumps(names)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == ["__main__", "_trainprof"]


def test_the_bootstrap_folder_holds_nothing_else():
    """It goes on PYTHONPATH: whatever lies there would be importable in the user's process."""
    entries = {path.name for path in BOOTSTRAP.parent.iterdir()} - {"__pycache__"}
    assert entries == {"sitecustomize.py"}


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.9"])
def test_an_older_python_passes_the_bootstrap_in_silence(version, interpreter, tmp_path):
    python = interpreter(version)
    copy = shutil.copy(BOOTSTRAP, tmp_path)
    environment = {"PYTHONPATH": str(tmp_path), "TRAINPROF_HOME": "/nowhere", "TRAINPROF_RUN": "x"}
    result = subprocess.run(
        [python, "-c", "import sys; print('ran with ' + repr(sys.path))"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("ran with")
    assert str(tmp_path) not in result.stdout
    subprocess.run([python, "-m", "py_compile", copy], check=True)


NEWER_THAN_PYTHON_2_7 = (
    ast.JoinedStr,
    ast.AnnAssign,
    ast.NamedExpr,
    ast.AsyncFunctionDef,
    ast.Await,
    ast.Nonlocal,
    ast.Starred,
    ast.YieldFrom,
    ast.MatMult,
    ast.Match,
)


def newer_syntax(text):
    """Names of the syntax in `text` that Python 2.7 does not know, where `ast` tells."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, NEWER_THAN_PYTHON_2_7):
            found.add(type(node).__name__)
        if isinstance(node, ast.arg) and node.annotation:
            found.add("annotation")
        if isinstance(node, ast.FunctionDef) and (node.returns or node.args.kwonlyargs):
            found.add("signature")
        if isinstance(node, ast.Raise) and node.cause:
            found.add("raise from")
        if isinstance(node, ast.ClassDef) and node.keywords:
            found.add("class keywords")
    return found


def test_the_bootstrap_uses_no_newer_syntax():
    assert newer_syntax(BOOTSTRAP.read_text()) == set()
    assert BOOTSTRAP.read_bytes().isascii(), "Python 2.7 wants an encoding line for other letters"
    assert newer_syntax("def f(a: int) -> int:\n    raise A from f'{a}'\n") == {
        "annotation",
        "signature",
        "raise from",
        "JoinedStr",
    }


READS_GRADIENTS = {
    "denormals.py": {"_gradients"},  # after a backward, in the training thread
    "kept_gradients.py": {"_compare", "_gradients"},  # before a backward, in the training thread
    "operator_window.py": {"_storages"},  # after an update, in the training thread
}


def test_gradients_are_read_where_the_training_thread_is() -> None:
    """The engine replaces gradients without Python's lock: reading one meanwhile is a crash."""
    found: dict[str, set[str]] = {}
    for path in sorted((PROFILER / "agent").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef) and any(
                isinstance(node, ast.Attribute) and node.attr == "grad"
                for node in ast.walk(function)
            ):
                found.setdefault(path.name, set()).add(function.name)
    assert found == READS_GRADIENTS
