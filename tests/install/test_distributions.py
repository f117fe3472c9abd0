"""The wheel and the source distribution hold what they must, and nothing else."""

import sys
import tarfile
import zipfile
from email.parser import HeaderParser

import pytest

BOOTSTRAP = "trainprof/profiler/agent/bootstrap/"
SHIPPED = {".py", ".typed", ".json", ".html", ".css", ".js", ".txt"}


@pytest.fixture(scope="module")
def wheel_names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return HeaderParser().parsestr(archive.read(name).decode())


def test_every_source_file_ships_under_its_import_name(wheel_names, source):
    folders = {"profiler": "trainprof/profiler", "rules": "trainprof/rules"}
    folders |= {"reports": "trainprof/reports", "trainprof": "trainprof"}
    expected = {
        f"{name}/{path.relative_to(source / folder).as_posix()}"
        for folder, name in folders.items()
        for path in (source / folder).rglob("*")
        if path.suffix in SHIPPED and not path.is_symlink()
    }
    assert len(expected) > 50
    assert expected - wheel_names == set()


def test_nothing_else_ships(wheel_names):
    assert {name.partition("/")[0].partition("-")[0] for name in wheel_names} == {"trainprof"}
    assert [name for name in wheel_names if name.rpartition("/")[2].startswith("test_")] == []
    assert [name for name in wheel_names if name.endswith((".pyc", "/"))] == []


def test_the_bootstrap_ships_alone_in_its_folder(wheel_names):
    assert [name for name in wheel_names if name.startswith(BOOTSTRAP)] == [
        f"{BOOTSTRAP}sitecustomize.py"
    ]


def test_the_typing_marker_and_the_licence_ship(wheel_names):
    assert "trainprof/py.typed" in wheel_names
    assert [name for name in wheel_names if name.endswith(".dist-info/licenses/LICENSE")]


def test_torch_is_the_users_and_not_forced_on_the_tool(metadata):
    required = metadata.get_all("Requires-Dist")
    core = [line for line in required if "extra ==" not in line]
    assert any(line.startswith("click") for line in core)
    assert [line for line in core if line.startswith("torch")] == []
    assert [line for line in required if line.startswith("torch") and 'extra == "torch"' in line]
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_readme_is_the_long_description(metadata, source):
    assert metadata.get_payload().strip() == (source / "README.md").read_text().strip()


def test_the_version_is_said_once(metadata, checked, tool, tmp_path):
    printed = checked([tool / "trainprof", "--version"], tmp_path)
    assert printed.split() == ["trainprof,", "version", metadata["Version"]]
    attribute = [tool / "python", "-c", "import trainprof; print(trainprof.__version__)"]
    assert checked(attribute, tmp_path).strip() == metadata["Version"]


def test_the_sdist_builds_the_same_wheel(sdist, wheel_names, checked, tmp_path):
    """In it the links are folders; a build from it needs nothing from the checkout."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("trainprof-*")
    assert not (unpacked / "trainprof" / "profiler").is_symlink()
    build = ["-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "again", sdist]
    checked([sys.executable, *build], tmp_path)
    (again,) = (tmp_path / "again").glob("*.whl")
    with zipfile.ZipFile(again) as archive:
        assert set(archive.namelist()) == wheel_names
