"""`trainprof rules`: the list, a page, and a name that does not exist."""

from __future__ import annotations

import json

import pytest

from trainprof.cli.main import main
from trainprof.cli.rules import PAGE_WIDTH
from trainprof.rules.catalogue import catalogue
from trainprof.rules.rule import SECTIONS


def test_lists_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [rule.id for rule in catalogue()]
    assert all(len(line) <= PAGE_WIDTH for line in lines)


@pytest.mark.parametrize("rule", [rule.id for rule in catalogue()])
def test_prints_a_page_as_plain_text(rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", rule]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert all(heading in text for heading in SECTIONS)
    long = [line for line in text.splitlines() if len(line) > PAGE_WIDTH]
    assert all("https://" in line for line in long)


def test_styles_the_page_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainprof.cli.rules.is_styled", lambda stream: True)
    assert main(["rules", "opt-unfused"]) == 0
    assert "\x1b[" in capsys.readouterr().out


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [rule["id"] for rule in listed["rules"]] == [rule.id for rule in catalogue()]

    assert main(["rules", "loop-gc", "--format", "json"]) == 0
    page = json.loads(capsys.readouterr().out)
    assert page["family"] == "loop"
    assert list(page["sections"]) == list(SECTIONS)


def test_markdown_of_one_and_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("# Rules\n")
    assert main(["rules", "loop-gc", "--format", "markdown"]) == 0
    assert capsys.readouterr().out.startswith("# loop-gc: ")


def test_unknown_rule_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "data-worker-under"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "data-workers-under" in captured.err


def test_unknown_rule_far_from_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "zzz"]) == 2
    assert "`trainprof rules` lists all" in capsys.readouterr().err
