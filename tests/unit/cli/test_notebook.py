"""`%%trainprof`, by IPython's own shell."""

import atexit
import json

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from trainprof.cli import notebook


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A shell in an empty folder; no history: its database would outlive the test."""
    monkeypatch.chdir(tmp_path)
    settings = Config()
    settings.HistoryManager.enabled = False
    made = InteractiveShell(config=settings, ipython_dir=str(tmp_path / ".ipython"))
    made.run_line_magic("load_ext", "trainprof")
    yield made
    atexit.unregister(made.atexit_operations)
    made.atexit_operations()
    made.restore_sys_module_state()


@pytest.fixture
def runs(monkeypatch):
    """What would be started, and an exit status of 0."""
    started = []
    monkeypatch.setattr(notebook, "_run", lambda arguments: started.append(arguments) or 0)
    return started


def test_the_cell_runs_as_a_script_and_its_run_is_recorded(shell, tmp_path, capsys):
    (tmp_path / "beside.py").write_text("WORD = 'found'\n")
    cell = "import sys, beside\nprint(beside.WORD, sys.argv[1:])\n"
    shell.run_cell_magic("trainprof", "--no-probe -- --lr 0.1", cell)
    shown = capsys.readouterr().out
    assert "found ['--lr', '0.1']" in shown
    assert "No training steps" in shown or "not enough evidence" in shown.lower()
    (record,) = tmp_path.glob("trainprof-runs/*/run.json")
    (script,) = tmp_path.glob("trainprof-runs/cells/*.py")
    assert json.loads(record.read_text())["exit_status"] == 0
    assert script.read_text() == cell


def test_a_cell_that_needs_the_notebook_fails_with_a_sentence(shell, capsys):
    shell.run_cell("here = 1")
    shell.run_cell_magic("trainprof", "--quiet", "print(here)")
    shown = capsys.readouterr().out
    assert "NameError: name 'here' is not defined" in shown
    assert shown.strip().splitlines()[-1] == notebook.FAILED


def test_an_interrupt_ends_the_training_and_the_diagnosis_follows(shell, monkeypatch, capsys):
    show, seen = notebook._show, []

    def interrupted_once(stream):
        if not seen:
            seen.append(stream.readline())
            raise KeyboardInterrupt
        show(stream)

    monkeypatch.setattr(notebook, "_show", interrupted_once)
    shell.run_cell_magic("trainprof", "--no-probe", "print('up')\nimport time\ntime.sleep(120)")
    assert seen == [b"up\n"]
    shown = capsys.readouterr().out
    assert "KeyboardInterrupt" in shown
    assert "stopped" in shown


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("", ["--", "SCRIPT"]),
        ("--steps 20", ["--steps", "20", "--", "SCRIPT"]),
        ("--steps 20 -- --lr '0 1'", ["--steps", "20", "--", "SCRIPT", "--lr", "0 1"]),
        ("-- a -- b", ["--", "SCRIPT", "a", "--", "b"]),
    ],
)
def test_options_go_to_run_and_the_rest_to_the_script(shell, runs, line, arguments):
    cell = "x = 1\n"
    shell.run_cell_magic("trainprof", line, cell)
    script = str(notebook._script_of(cell))
    assert runs == [[script if word == "SCRIPT" else word for word in arguments]]


@pytest.mark.parametrize(
    ("line", "cell", "words"),
    [
        ("train.py", "x = 1", "train.py is no option of `trainprof run`"),
        ("--nope", "x = 1", "--nope is no option"),
        ("--steps 0", "x = 1", "0 is not in the range"),
        ("'open", "x = 1", "No closing quotation"),
        ("", "x = 1\n%matplotlib inline", "line 2 of the cell is not Python"),
        ("", "x = '\0'", "null bytes"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(shell, runs, capsys, tmp_path, line, cell, words):
    shell.run_cell_magic("trainprof", line, cell)
    shown = capsys.readouterr().out
    assert words in shown
    assert len(shown.splitlines()) == 1
    assert runs == []
    assert not list(tmp_path.glob("trainprof-runs/**/*.py"))


def test_a_folder_that_cannot_be_written_is_named(shell, runs, capsys, tmp_path):
    (tmp_path / "trainprof-runs").write_text("a file")
    shell.run_cell_magic("trainprof", "", "x = 1")
    assert "cannot be written to" in capsys.readouterr().out
    assert runs == []


def test_one_text_has_one_file(shell, runs, tmp_path):
    for cell in ("x = 1", "x = 2", "x = 1"):
        shell.run_cell_magic("trainprof", "", cell)
    assert len(list(tmp_path.glob("trainprof-runs/cells/*.py"))) == 2
