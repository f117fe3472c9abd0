"""Rules of the house that no linter knows."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("trainprof/cli", "profiler", "rules", "reports")
SOURCES = sorted(
    [*(REPOSITORY / "trainprof").glob("*.py")]
    + [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py")]
)
MAY_CATCH_ALL = {"profiler/agent/guard.py", "profiler/agent/bootstrap/sitecustomize.py"}
BLIND = {"Exception", "BaseException"}


def name_of(path):
    return path.relative_to(REPOSITORY).as_posix()


def blind_excepts(text):
    """Lines that catch everything and do not raise it again."""
    return [node.lineno for node in ast.walk(ast.parse(text)) if _is_blind(node)]


def _is_blind(node):
    if isinstance(node, ast.ExceptHandler):
        catches_all = node.type is None or bool(_names(node.type) & BLIND)
        return catches_all and not _raises_again(node)
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return any(_names(argument) & BLIND for argument in node.args)
    return False


def _names(expression):
    return {node.id for node in ast.walk(expression) if isinstance(node, ast.Name)}


def _raises_again(handler):
    return any(isinstance(node, ast.Raise) and node.exc is None for node in handler.body)


def test_only_the_guard_and_the_bootstrap_catch_everything():
    guilty = {
        f"{name_of(path)}:{line}" for path in SOURCES for line in blind_excepts(path.read_text())
    }
    assert {place for place in guilty if place.partition(":")[0] not in MAY_CATCH_ALL} == set()
    assert {place.partition(":")[0] for place in guilty} == MAY_CATCH_ALL


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("try:\n    f()\nexcept:\n    pass", [3]),
        ("try:\n    f()\nexcept Exception as error:\n    print(error)", [3]),
        ("try:\n    f()\nexcept (ValueError, BaseException):\n    pass", [3]),
        ("with contextlib.suppress(Exception):\n    f()", [1]),
        ("try:\n    f()\nexcept ValueError:\n    pass", []),
        ("try:\n    f()\nexcept BaseException:\n    undo()\n    raise", []),
    ],
)
def test_blind_excepts_are_recognised(text, lines):
    assert blind_excepts(text) == lines


def test_no_linter_is_switched_off_for_a_blind_except():
    assert [name_of(path) for path in SOURCES if "noqa: BLE" in path.read_text()] == []


# Put together here so that this file does not hold what it looks for.
FOREIGN = re.compile(
    "|".join((r"(?<![\w.])/" + "work/", "/" + r"opt/\w", "/" + "root/", r"\.\./" + "shared"))
)
READS_RECORDED_TRACES = "tests/"


def committed_texts():
    """Every tracked text file of the repository."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("this is no git checkout")
    for name in filter(None, listing.stdout.split("\0")):
        path = REPOSITORY / name
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if b"\0" not in data:
                yield name, data.decode()


def test_nothing_names_the_paths_of_one_machine():
    found = [
        f"{name}: {match.group()}"
        for name, text in committed_texts()
        for match in FOREIGN.finditer(text)
        if not (name.startswith(READS_RECORDED_TRACES) and "shared" in match.group())
    ]
    assert found == []


def test_nothing_knows_the_sample_runs():
    """A verdict on them must come from what was measured, so no source may name one."""
    stories = {path.name for path in (REPOSITORY / "sample_runs").iterdir() if path.is_dir()}
    assert stories
    named = re.compile(rf"\b({'|'.join(map(re.escape, sorted(stories)))})\b")
    assert [name_of(path) for path in SOURCES if named.search(path.read_text())] == []


def test_links_point_at_the_real_folders():
    for name in ("profiler", "rules", "reports"):
        link = REPOSITORY / "trainprof" / name
        assert link.is_symlink()
        assert link.readlink() == Path("..") / name
