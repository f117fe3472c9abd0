"""The commands that show a recorded run, as installed, on a real one: that of `trainprof demo`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pexpect
import pytest

TRAINPROF = str(Path(sys.executable).parent / "trainprof")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
RULE = "data-workers-under"


def trainprof(*arguments, cwd, **variables):
    return subprocess.run(
        [TRAINPROF, *map(str, arguments)],
        cwd=cwd,
        env={**ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "tour"
    return folder, trainprof("demo", "--out", folder, "--yes", "--no-tui", cwd=folder.parent)


@pytest.fixture(scope="module")
def recorded(tour):
    """The run without its samples of the machine: what else ran there must not decide a test."""
    folder = tour[0] / "recorded"
    shutil.copytree(tour[0] / "run", folder)
    (folder / "host.jsonl").unlink()
    return folder


def test_the_tour_shows_the_diagnosis_and_what_to_try_next(tour):
    folder, result = tour
    assert result.returncode == 0
    assert "$ trainprof run" in result.stdout
    assert "80 steps, loss" in result.stdout
    assert "Try next:" in result.stdout
    assert str(folder / "repaired") in result.stdout
    assert "data wait" in result.stderr
    assert " · complete in " in result.stderr


def test_the_run_has_its_page_and_says_where(tour):
    folder, result = tour
    assert "report.html" in result.stderr
    page = (folder / "run" / "report.html").read_text()
    data = page.partition('id="report-data">')[2].partition("</script>")[0]
    shown = json.loads(data)
    diagnosis = json.loads((folder / "run" / "diagnosis.json").read_text())
    assert shown["sections"][0]["blocks"][0]["headline"] == diagnosis["headline"]
    assert [one["id"] for one in shown["sections"]][:4] == [
        "verdict",
        "composition",
        "findings",
        "timeline",
    ]
    assert '"diff":true' in data
    again = trainprof("report", folder / "run", "--out", folder / "again.html", cwd=folder.parent)
    assert again.returncode == 0, again.stderr
    assert data.partition('"findings"')[0] in (folder / "again.html").read_text()


def test_text_goes_to_stdout_without_control_codes(recorded):
    result = trainprof("diagnose", recorded, cwd=recorded, FORCE_COLOR="1", TERM="xterm")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines()[:20])) <= 80
    assert f" critical {RULE}: " in result.stdout
    assert "| loader = DataLoader(data, batch_size=16," in result.stdout


def test_run_and_diagnose_say_the_same(tour):
    folder, result = tour
    again = trainprof("diagnose", folder / "run", cwd=folder.parent)
    assert again.stdout == result.stderr.partition("\nThe same as a page")[0]
    read = trainprof("diagnose", folder / "run", "--format", "json", cwd=folder.parent)
    assert json.loads(read.stdout) == json.loads((folder / "run" / "diagnosis.json").read_text())


def test_json_is_one_object_of_the_published_schema(recorded):
    result = trainprof("diagnose", recorded, "--format", "json", cwd=recorded)
    assert result.stderr == ""
    diagnosis = json.loads(result.stdout)
    schema = json.loads(trainprof("schema", cwd=recorded).stdout)
    jsonschema.Draft202012Validator(schema).validate(diagnosis)
    assert diagnosis["verdict"] == "bottleneck"
    assert diagnosis["findings"][0]["rule"] == RULE
    assert diagnosis["findings"][0]["where"]["file"].endswith("train.py")


def test_exit_statuses(recorded):
    def status(*arguments):
        return trainprof("diagnose", recorded, "--quiet", *arguments, cwd=recorded).returncode

    assert status() == 0
    assert status("--fail-on", "warn") == 1
    assert status("--fail-on", "warn", "--ignore", RULE) == 0
    assert status("--fail-on", "warn", "--select", "loop-gc") == 0
    assert status("--fail-on", "never") == 2


@pytest.mark.parametrize("option", ["--select", "--ignore"])
def test_an_unknown_rule_is_one_sentence(recorded, option):
    result = trainprof("diagnose", recorded, option, "no-such-rule", cwd=recorded)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "no-such-rule" in result.stderr
    assert result.stderr.count("\n") == 1


def test_no_such_run_is_one_sentence(tmp_path):
    for arguments in (["nowhere"], []):
        result = trainprof("diagnose", *arguments, cwd=tmp_path)
        assert result.returncode == 2
        assert result.stderr.startswith("trainprof: there is no run")
        assert result.stderr.count("\n") == 1


def test_a_comment_in_the_source_leaves_the_finding_out(recorded):
    script = recorded.parent / "train.py"
    source = script.read_text()
    found = json.loads(trainprof("diagnose", recorded, "--format", "json", cwd=recorded).stdout)
    lines = source.splitlines(keepends=True)
    number = found["findings"][0]["where"]["line"] - 1
    lines[number] = f"{lines[number].rstrip()}  # trainprof: ignore[{RULE}]\n"
    script.write_text("".join(lines))
    try:
        result = trainprof("diagnose", recorded, "--fail-on", "warn", cwd=recorded)
    finally:
        script.write_text(source)
    assert result.returncode == 0
    assert f"1 finding ignored by a comment in the source: {RULE}" in result.stdout


def test_a_reader_that_leaves_early_causes_no_traceback(recorded):
    command = f"{TRAINPROF} diagnose {recorded} --format json | head -c 1"
    result = subprocess.run(
        ["bash", "-c", command], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert result.stdout == "{"
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("variables", "styled"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
    ],
)
def test_on_a_terminal(recorded, variables, styled):
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "COLUMNS"}
    environment.pop("NO_COLOR", None)
    output = pexpect.run(
        f"{TRAINPROF} diagnose {recorded}",
        env={**environment, **variables},
        dimensions=(40, 60),
        timeout=60,
    ).decode()  # fmt: skip
    assert RULE in output
    assert ("\x1b[" in output) is styled
