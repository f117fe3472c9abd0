"""What the command line answers to every mistake: one sentence on stderr and status 2."""

import json
import subprocess
import sys

import click
import pytest

from trainprof.__main__ import main as program
from trainprof.cli import main as command_line
from trainprof.errors import TrainprofError


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["diagnosee"], ["diagnosee", "trainprof --help"]),
        (["--nonsense"], ["--nonsense", "trainprof --help"]),
        (["diagnose", "--format", "yaml"], ["yaml", "json", "trainprof diagnose --help"]),
        (["diagnose", "--fail-on", "info"], ["info", "critical"]),
        (["diagnose", "--format", "json", "a", "b"], ["one run at a time"]),
        (["run"], ["COMMAND", "trainprof run --help"]),
        (["schema", "--out", "/nowhere/schema.json"], ["/nowhere/schema.json", "--out"]),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(capsys, arguments, words):
    assert command_line.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("trainprof: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err


def test_no_command_shows_the_help(capsys):
    assert command_line.main([]) == 2
    assert "Usage: trainprof" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(command_line.COMMANDS))
def test_every_registered_command_loads_and_explains_itself(capsys, name):
    assert command_line.main([name, "--help"]) == 0
    captured = capsys.readouterr()
    assert f"Usage: trainprof {name}" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (TrainprofError("x is y; do z."), 2, "trainprof: x is y; do z.\n"),
        (OSError(28, "No space left on device"), 2, "No space left on device.\n"),
        (PermissionError(13, "Permission denied", "a.json"), 2, "a.json failed: Permission denied"),
        (KeyboardInterrupt(), 130, ""),
        (click.exceptions.Abort(), 130, ""),
    ],
)
def test_errors_become_statuses(capsys, monkeypatch, error, status, sentence):
    @click.command()
    def broken():
        raise error

    monkeypatch.setattr(command_line.LazyGroup, "get_command", lambda *_: broken)
    assert command_line.main(["broken"]) == status
    assert sentence in capsys.readouterr().err


def test_the_status_of_a_command_is_its_return_value(monkeypatch):
    monkeypatch.setattr(
        command_line.LazyGroup, "get_command", lambda *_: click.Command("x", callback=lambda: 7)
    )
    assert command_line.main(["x"]) == 7


def test_an_interrupt_before_the_command_line_is_there_is_no_traceback(monkeypatch):
    def interrupted(words):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainprof.cli.reading_ahead.reading_ahead", interrupted)
    monkeypatch.setattr("gc.freeze", lambda: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # for a process that ends
    with pytest.raises(SystemExit) as ended:
        program()
    assert ended.value.code == 130


LATE = """
import builtins, os, signal, sys

class Late:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGINT):
        kill(process, number)

builtins.late = Late()
sys.argv = ["trainprof", "diagnosee"]
from trainprof.__main__ import main
main()
"""


def test_an_interrupt_while_the_interpreter_ends_leaves_the_status():
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True)
    assert done.returncode == 2, done.stderr


@pytest.mark.parametrize("stream", ["sys.stdout", "sys.stderr"])
def test_a_trace_is_diagnosed_beside_a_closed_stream(tmp_path, monkeypatch, stream):
    event = {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 1, "dur": 5}
    path = tmp_path / "trace.json"
    path.write_text(json.dumps([event]))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(stream, None)
    assert command_line.main(["diagnose", str(path)]) == 0


def test_a_trace_is_not_written_over_by_its_diagnosis(tmp_path, capsys):
    path = tmp_path / "trace.json"
    path.write_text('[{"ph": "X", "cat": "cpu_op", "name": "aten::mm", "ts": 1, "dur": 5}]')
    before = path.read_bytes()
    assert command_line.main(["diagnose", str(path), "--out", str(path)]) == 2
    assert path.read_bytes() == before
    assert "is the trace itself; name another file with --out" in capsys.readouterr().err
