"""`trainprof compare` on run folders: arguments, exit statuses, files."""

import json
from pathlib import Path

import jsonschema
import pytest

from trainprof.cli.main import main
from trainprof.reports.comparison.json_report import comparison_schema


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def groups(write_run):
    """Folders `old`, `same` and `slow` of three runs each; `slow` takes 20 % longer."""
    for number in range(3):
        write_run(f"old/run-{number}", 0.0100, seed=number)
        write_run(f"same/run-{number}", 0.0100, seed=number + 10)
        write_run(f"slow/run-{number}", 0.0120, seed=number + 20)


@pytest.mark.parametrize(("candidate", "status"), [("same", 0), ("slow", 1)])
def test_folders_of_runs_and_the_gate(groups, capsys, candidate, status):
    assert main(["compare", "old", candidate, "--fail-if-slower", "5%"]) == status
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("Slower: " if status else "No difference shown: ")
    assert ("failed:" in out) == bool(status)
    assert max(map(len, out.splitlines())) <= 80


def test_without_the_gate_slower_is_no_failure(groups):
    assert main(["compare", "old", "slow"]) == 0


def test_runs_by_name_and_separated_by_commas(write_run, capsys):
    for number in range(3):
        write_run(f"trainprof-runs/a-{number}", seed=number)
        write_run(f"trainprof-runs/b-{number}", 0.012, seed=number + 10)
    names = [",".join(f"{arm}-{number}" for number in range(3)) for arm in "ab"]
    assert main(["compare", *names, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in found["base"]] == ["a-0", "a-1", "a-2"]
    assert found["verdict"] == "slower"


def test_a_list_of_runs_may_be_longer_than_the_name_of_a_file(write_run, capsys):
    for arm in "ab":
        for number in range(3):
            write_run(f"trainprof-runs/{arm * 100}-{number}", seed=number)
    names = [",".join(f"{arm * 100}-{number}" for number in range(3)) for arm in "ab"]
    assert main(["compare", *names, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (len(found["base"]), len(found["candidate"])) == (3, 3)


def test_json_holds_to_its_schema(groups, write_run, capsys):
    write_run("empty", steps=0)
    for sides in (["old", "slow"], ["old/run-0", "slow/run-0"], ["old", "empty"]):
        assert main(["compare", *sides, "--fail-if-slower", "500%", "--format", "json"]) == 0
        jsonschema.validate(json.loads(capsys.readouterr().out), comparison_schema())


def test_the_schema_is_printed_and_published(capsys):
    assert main(["schema", "comparison"]) == 0
    assert json.loads(capsys.readouterr().out) == comparison_schema()
    published = Path(__file__).parents[3] / "docs" / "comparison.schema.json"
    assert json.loads(published.read_text()) == comparison_schema(), (
        "run `trainprof schema comparison --out docs/comparison.schema.json`"
    )


def test_its_step_time_is_that_of_the_diagnosis(groups, capsys):
    assert main(["compare", "old/run-0", "slow/run-0", "--format", "json"]) == 0
    compared = json.loads(capsys.readouterr().out)
    assert main(["diagnose", "old/run-0", "--format", "json"]) == 0
    steps = json.loads(capsys.readouterr().out)["steps"]
    for name in ("mean_s", "mean_s_low", "mean_s_high", "steady"):
        assert compared["base"][0][name] == steps[name]
    forward = next(one for one in compared["phases"] if one["phase"] == "forward")
    assert forward["base_s"] == steps["phases"]["forward"]["s_per_step"]


@pytest.mark.parametrize("style", ["text", "json", "html", "markdown"])
def test_out_writes_a_file_and_nothing_to_stdout(groups, tmp_path, capsys, style):
    assert main(["compare", "old", "slow", "--format", style, "--out", "found"]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "found").read_text(encoding="utf-8")
    assert main(["compare", "old", "slow", "--format", style, "--out", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["old", "old"], "is on both sides"),
        (["old/run-0", "same,old/run-0"], "is on both sides"),
        (["old/run-0,old/run-0", "same"], "named twice"),
        (["old", "absent"], "there is no run folder absent"),
        (["old", ","], "names no run"),
        (["old"], "Missing argument"),
        (["old", "same", "--fail-if-slower", "5"], "write it as in 5%"),
        (["old", "same", "--fail-if-slower", "-5%"], "write it as in 5%"),
        (["old", "same", "--fail-if-slower", "nan%"], "write it as in 5%"),
        (["old", "same", "--fail-if-slower", "inf%"], "write it as in 5%"),
        (["old", "same", "--fail-if-slower", "5%%"], "write it as in 5%"),
    ],
)
def test_a_usage_error_is_one_sentence_and_status_2(groups, capsys, arguments, said):
    assert main(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("poor", "why"),
    [
        ({"steps": 0}, "no step was recorded"),
        ({"steps": 1}, "are needed"),
        ({"process": False}, "no step was recorded"),
        ({"status": "running"}, None),
        ({"ranks": 2}, "ranks"),
    ],
)
def test_poor_runs_are_told_and_never_fail(groups, write_run, capsys, poor, why):
    write_run("poor", 0.05, **poor)
    status = main(["compare", "old", "poor", "--fail-if-slower", "5%"])
    out = " ".join(capsys.readouterr().out.split())
    if why is None:  # it counts as far as it came
        assert "is incomplete; the steps that it did count" in out
        assert status == 1
    else:
        assert out.startswith("Cannot be decided, because ")
        assert why in out
        assert status == 0


def test_a_run_whose_name_holds_a_comma(write_run):
    write_run("a,b")
    write_run("c", seed=1)
    assert main(["compare", "a,b", "c"]) == 0


def test_batches_of_one_size_are_compared_by_step_however_slow_a_run_was(write_run, capsys):
    """The throughput of a whole run, over time of its own, once stood for the size of a batch."""
    write_run("quick", 0.005)
    write_run("slow", 0.020, steps=60, seed=1)
    write_run("large", 0.020, steps=60, seed=2, batch=64)
    for candidate, per, ratio in (("slow", "step", 4.0), ("large", "sample", 2.0)):
        assert main(["compare", "quick", candidate, "--format", "json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["per"] == per
        assert found["ratio"]["point"] == pytest.approx(ratio, rel=0.05)
