import importlib
import json

import pytest

from trainprof.cli.main import main
from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Evidence,
    Finding,
    RunSummary,
    StepSummary,
)

FOUND = Finding("loop-gc", "warn", "Collections", "Collections take 12 %.", (Evidence("a", 1, ""),))
RUN = RunSummary("complete", path="runs/x")
DIAGNOSIS = Diagnosis(1, "run", RUN, "bottleneck", "Slow.", StepSummary(99, 90), (FOUND,))
HEALTHY = Diagnosis(1, "run", RUN, "healthy", "Healthy.", StepSummary(99, 90))


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Replaces reading and judging; the list tells which runs were asked for, with what."""
    # The package's attribute `diagnose` is not the module of that name, so it is looked up.
    module = importlib.import_module("trainprof.cli.diagnose")
    calls = []

    def fake(run, settings):
        calls.append((run, settings.select, settings.ignore))
        return HEALTHY if run == "healthy" else DIAGNOSIS

    monkeypatch.setattr(module, "_diagnosis", fake)
    monkeypatch.chdir(tmp_path)
    return calls


def test_the_latest_run_by_default(asked, capsys):
    assert main(["diagnose"]) == 0
    assert asked == [(None, (), ())]
    captured = capsys.readouterr()
    assert captured.out.startswith("Bottleneck: Slow.\n")
    assert captured.err == ""


@pytest.mark.parametrize(("threshold", "status"), [("warn", 1), ("critical", 0)])
def test_fail_on(asked, threshold, status):
    assert main(["diagnose", "--fail-on", threshold]) == status
    assert main(["diagnose", "healthy", "--fail-on", threshold]) == 0


def test_fail_on_looks_at_every_run(asked):
    assert main(["diagnose", "healthy", "bad", "--fail-on", "warn"]) == 1
    assert [call[0] for call in asked] == ["healthy", "bad"]


def test_json_is_one_object_on_stdout(asked, capsys):
    assert main(["diagnose", "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["findings"][0]["rule"] == "loop-gc"
    assert captured.err == ""


def test_markdown_and_github(asked, capsys):
    assert main(["diagnose", "--format", "markdown"]) == 0
    assert "### Bottleneck" in capsys.readouterr().out
    assert main(["diagnose", "--format", "github"]) == 0
    assert "::warning title=loop-gc::" in capsys.readouterr().out


def test_quiet_is_the_verdict_and_one_line_per_finding(asked, capsys):
    assert main(["diagnose", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Bottleneck: Slow.",
        "warn loop-gc: Collections take 12 %.",
    ]


def test_out_writes_a_file_and_nothing_to_stdout(asked, capsys, tmp_path):
    assert main(["diagnose", "--out", "report.txt"]) == 0
    assert capsys.readouterr().out == ""
    text = (tmp_path / "report.txt").read_text()
    assert text.startswith("Bottleneck: Slow.\n")
    assert "\x1b" not in text
    assert main(["diagnose", "--out", str(tmp_path)]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_settings_hold_where_no_option_is_given(asked, tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[tool.trainprof]\nselect = ["loop-gc"]\nignore = ["opt-unfused"]\nfail-on = "warn"\n'
    )
    assert main(["diagnose"]) == 1
    assert main(["diagnose", "--select", "a", "--select", "b", "--fail-on", "critical"]) == 0
    assert asked == [(None, ("loop-gc",), ("opt-unfused",)), (None, ("a", "b"), ("opt-unfused",))]
