"""What README, CONTRIBUTING and docs/ say still exists."""

import re
from pathlib import Path

import pytest

from trainprof.cli import write_page
from trainprof.cli.main import COMMANDS
from trainprof.rules.catalogue import catalogue
from trainprof.rules.registry import rules_of_traces

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
README = (REPOSITORY / "README.md").read_text()
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
FAMILIES = {rule.id.partition("-")[0] for rule in catalogue()}


def name_of(path):
    return path.relative_to(REPOSITORY).as_posix()


def code_of(text):
    """Code spans and blocks, a line each; of a console the commands, for outputs name anything."""
    return [
        line
        for match in CODE.findall(text)
        for line in match.splitlines()
        if not match.startswith("```console") or line.startswith("$ ")
    ]


def make_targets():
    text = (REPOSITORY / "Makefile").read_text()
    return set(re.findall(r"^([a-z]+):(?!=)", text, re.MULTILINE))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_commands_exist(path):
    typed = re.compile(r"^[`$\s]*trainprof ([a-z]+)\b(?!\.)")
    found = (typed.match(line) for line in code_of(path.read_text()))
    assert {match.group(1) for match in found if match} - set(COMMANDS) == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_make_targets_exist(path):
    named = {
        match
        for line in code_of(path.read_text())
        for match in re.findall(r"\bmake (?:[A-Z]+=\S+ )*([a-z]+)", line)
    }
    assert named - make_targets() == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_tables_are_whole(path):
    """What follows a blank line in a table has no head, and is shown as text."""
    lines = ["", *path.read_text().splitlines(), ""]
    headless = [
        line
        for before, line, after in zip(lines, lines[1:], lines[2:], strict=False)
        if line.startswith("|") and not before.startswith("|")
        if not re.fullmatch(r"\|[ :|-]+", after)
    ]
    assert headless == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_rules_exist(path):
    ids = {rule.id for rule in catalogue()}
    named = set(re.findall(rf"\b(?:{'|'.join(FAMILIES)})-[a-z0-9]+(?:-[a-z0-9]+)*", _code(path)))
    assert named - ids == set()


def _code(path):
    return "\n".join(code_of(path.read_text()))


def test_readme_names_every_command():
    table = set(re.findall(r"^\| `trainprof (\w+)", README, re.MULTILINE))
    assert table == set(COMMANDS)


def test_the_page_of_traces_names_every_rule_that_judges_them():
    page = (REPOSITORY / "docs" / "traces.md").read_text()
    table = re.findall(r"^\| \[([a-z0-9-]+)\]\(rules/", page, re.MULTILINE)
    assert sorted(table) == sorted(rules_of_traces())


def test_the_page_of_commands_is_that_of_the_commands():
    remedy = "write it again: python -m trainprof.cli.write_page"
    assert (REPOSITORY / write_page.PAGE).read_text() == write_page.page(), remedy


def test_ci_calls_the_test_command_of_the_readme():
    (line,) = re.findall(r"^make test\b.*$", README, re.MULTILINE)
    command = line.partition("#")[0].strip()
    script = (REPOSITORY / ".ci" / "run").read_text()
    assert re.search(rf"^{re.escape(command)}\b", script, re.MULTILINE)


def test_readme_opens_with_what_a_user_gets():
    """First an output of `trainprof run`, then the two commands, then pip."""
    places = [README.index(text) for text in ("trainprof run", "make demo", "pip install")]
    assert places == sorted(places)


def test_the_changelog_has_a_place_for_what_is_new():
    assert "## [Unreleased]" in (REPOSITORY / "CHANGELOG.md").read_text()
