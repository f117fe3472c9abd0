"""Each gate catches the fault it exists for: one violation each, planted in a copy."""

import pytest

HEAD = '"""Planted."""\n\n'

PLANTS = {
    "an unused import": (
        "ruff",
        "profiler/planted.py",
        HEAD + "import os\n",
        "F401",
    ),
    "a blind except outside the guard": (
        "ruff",
        "profiler/planted.py",
        HEAD + "try:\n    VALUE = 1\nexcept Exception:\n    VALUE = 2\n",
        "BLE001",
    ),
    "`import profiler` instead of `import trainprof.profiler`": (
        "ruff",
        "rules/planted.py",
        HEAD + "import profiler.launch\n\nLAUNCH = profiler.launch\n",
        "TID251",
    ),
    "a public function without docstring": (
        "ruff",
        "reports/planted.py",
        HEAD + "def answer() -> int:\n    return 42\n",
        "D103",
    ),
    "other than the common format": (
        "format",
        "profiler/planted.py",
        HEAD + "VALUE = {'a':1}\n",
        "profiler/planted.py",
    ),
    "a wrong type": (
        "types",
        "profiler/planted.py",
        HEAD + 'VALUE: int = "one"\n',
        "assignment",
    ),
    "a function without types": (
        "types",
        "profiler/planted.py",
        HEAD + "def answer():\n    return 42\n",
        "no-untyped-def",
    ),
    "a lower layer that imports a higher one": (
        "imports",
        "profiler/planted.py",
        HEAD + "import trainprof.rules.rule\n",
        "trainprof.profiler.planted -> trainprof.rules.rule",
    ),
    "a report that imports a rule": (
        "imports",
        "reports/planted.py",
        HEAD + "import trainprof.rules.rule\n",
        "trainprof.reports.planted -> trainprof.rules.rule",
    ),
    "torch in trainprof's own process": (
        "imports",
        "rules/planted.py",
        HEAD + "import torch\n",
        "trainprof.rules.planted -> torch",
    ),
    "a part of the house without a place in the layers": (
        "imports",
        "trainprof/planted.py",
        HEAD,
        "trainprof.planted",
    ),
}


@pytest.mark.parametrize("fault", PLANTS)
def test_gate_catches(fault, scratch, gate):
    name, path, text, complaint = PLANTS[fault]
    planted = scratch / path
    planted.write_text(text)
    result = gate(name, scratch)
    assert result.returncode != 0, result.stdout
    assert complaint in " ".join((result.stdout + result.stderr).split())


def test_relative_imports_are_banned_outside_the_agent(scratch, gate):
    (scratch / "reports" / "planted.py").write_text(HEAD + "from . import json_report as REPORT\n")
    assert "TID252" in gate("ruff", scratch).stdout


@pytest.mark.parametrize("link", ["nowhere.md", "index.md#no-such-heading", "/absolute.md"])
def test_a_link_that_leads_nowhere_fails_the_site(link, repository, tmp_path, gate):
    settings = (repository / "mkdocs.yml").read_text().partition("\nnav:")[0]
    (tmp_path / "mkdocs.yml").write_text(settings)
    (tmp_path / "Makefile").write_bytes((repository / "Makefile").read_bytes())
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Home\n\n[A link]({link}).\n")
    result = gate("docs", tmp_path)
    assert result.returncode != 0
    assert f"link '{link}'" in result.stdout + result.stderr
