"""The gates pass on the repository, and pytest itself is set to be strict."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["ruff", "format", "types", "imports", "docs"])
def test_gate_passes_on_the_repository(name, gate, repository):
    result = gate(name, repository)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]


def test_warnings_are_errors(repository, tmp_path):
    test = "import warnings\n\ndef test_it():\n    warnings.warn('old', stacklevel=1)\n"
    assert _pytest(repository, tmp_path, test).returncode == 1


def test_unknown_marks_are_errors(repository, tmp_path):
    test = "import pytest\n\n@pytest.mark.gpuu\ndef test_it():\n    pass\n"
    assert _pytest(repository, tmp_path, test).returncode != 0


def test_a_plain_test_passes_under_these_settings(repository, tmp_path):
    result = _pytest(repository, tmp_path, "def test_it():\n    pass\n")
    assert result.returncode == 0, result.stdout


def _pytest(repository, tmp_path, text):
    (tmp_path / "pyproject.toml").write_bytes((repository / "pyproject.toml").read_bytes())
    (tmp_path / "test_it.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
