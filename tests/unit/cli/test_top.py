"""`trainprof top` where it cannot show anything."""

import importlib.util
import io
import sys

from trainprof.cli import top
from trainprof.cli.main import main


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _run(tmp_path):
    (tmp_path / "run" / "procs").mkdir(parents=True)
    return str(tmp_path / "run")


def test_without_a_terminal_it_says_so(tmp_path, capsys):
    assert main(["top", _run(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        "trainprof: trainprof top needs a terminal; "
        "`trainprof diagnose` prints the same findings as text.\n"
    )


def test_without_textual_it_names_the_install_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stdout", Terminal())
    find = importlib.util.find_spec
    monkeypatch.setattr(top, "find_spec", lambda name: None if name == "textual" else find(name))
    assert main(["top", _run(tmp_path)]) == 2
    assert "pip install 'trainprof[tui]'" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_said_first(tmp_path, capsys):
    assert main(["top", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err
