import io
import re

import pytest

from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Finding,
    Location,
    PhaseTime,
    RunSummary,
    StepSummary,
)
from trainprof.reports.terminal import (
    TerminalReport,
    is_styled,
    print_diagnosis,
    terminal_width,
    write_text,
)

PHASES = {
    "data_wait": PhaseTime(0.5, 0.02, 0.012, 0.003, 0.005),
    "forward": PhaseTime(0.2, 0.008, inferred=True),
    "backward": PhaseTime(0.3, 0.012),
}


def diagnosis(**fields):
    steps = StepSummary(100, 90, 0.04, phases=PHASES)
    run = fields.pop("run", RunSummary("complete"))
    return Diagnosis(1, "run", run, fields.pop("verdict", "healthy"), "Fine.", steps, **fields)


class Terminal(io.StringIO):
    def __init__(self, tty):
        super().__init__()
        self.tty = tty

    def isatty(self):
        return self.tty


@pytest.mark.parametrize(
    ("tty", "environment", "styled"),
    [
        (True, {"TERM": "xterm"}, True),
        (False, {"TERM": "xterm"}, False),
        (False, {"TERM": "xterm", "FORCE_COLOR": "1"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
        (True, {}, False),
    ],
)
def test_control_codes_only_where_they_are_wanted(tty, environment, styled):
    assert is_styled(Terminal(tty), environment) is styled


def test_print_to_a_terminal_and_to_a_pipe(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, pipe = Terminal(True), Terminal(False)
    print_diagnosis(diagnosis(), terminal)
    print_diagnosis(diagnosis(), pipe)
    assert "\x1b[" in terminal.getvalue()
    assert "\x1b" not in pipe.getvalue()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert "data wait" in plain
    assert plain.split()[0] == "Healthy:"


def test_rich_takes_no_orders_from_the_environment(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert "\x1b" not in TerminalReport().render(diagnosis())


@pytest.mark.parametrize(
    ("environment", "width"),
    [({"COLUMNS": "132"}, 132), ({"COLUMNS": "x"}, 80), ({"COLUMNS": "0"}, 80), ({}, 80)],
)
def test_width(environment, width):
    assert terminal_width(io.StringIO(), environment) == width


def test_a_stream_gets_what_its_encoding_holds():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    write_text("41 µs · ok\n", stream)
    assert raw.getvalue() == b"41 ?s ? ok\n"


def test_a_closed_stream_gets_nothing(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    print_diagnosis(diagnosis())
    write_text("x", None)


def test_bar_shows_the_shares_by_letters_alone():
    bar = TerminalReport(width=60).render(diagnosis()).splitlines()[5]
    assert bar == "D" * 30 + "F" * 12 + "B" * 18


def test_styled_bar_names_each_phase_once():
    text = TerminalReport(width=60, styled=True).render(diagnosis())
    bar = re.sub(r"\x1b\[[0-9;]*m", "", text.splitlines()[5])
    assert bar.split() == ["D", "F", "B"]
    assert len(bar) == 60


@pytest.mark.parametrize(("width", "beside"), [(80, True), (40, False)])
def test_thread_states_stand_beside_the_phases_or_below(width, beside):
    text = TerminalReport(width=width).render(diagnosis())
    words = " ".join(text.split())
    assert ("share a step on CPU waiting for a CPU blocked" in words) is beside
    assert ("data wait: 12 ms on CPU, 3 ms waiting for a CPU" in words) is not beside
    assert "5 ms" in words
    assert "~forward" in words
    assert "inferred" in words


def test_finding_shows_its_source_line_stripped_of_control_codes(tmp_path):
    (tmp_path / "train.py").write_text("\n    loader = DataLoader(d)  # \x1b[31m[bold]\n")
    finding = Finding("r-x", "warn", "t", "s", (), Location("train.py", 2, "main"))
    run = RunSummary("complete", cwd=str(tmp_path))
    text = TerminalReport().render(diagnosis(run=run, findings=(finding,), verdict="bottleneck"))
    assert "  --> train.py:2 in main\n" in text
    assert "2 | loader = DataLoader(d)  # \\x1b[31m[bold]\n" in text


def test_healthy_run_is_short():
    text = TerminalReport().render(diagnosis())
    assert len(text.splitlines()) <= 14


def test_a_finding_does_not_repeat_the_headline():
    finding = Finding("r-x", "warn", "Too few workers", "Fine.", ())
    text = TerminalReport().render(diagnosis(findings=(finding,), verdict="bottleneck"))
    assert text.count("Fine.") == 1
    assert "1. warn r-x: Too few workers (see above)\n" in text


def test_commands_and_places_are_left_whole_for_copying(tmp_path):
    run = RunSummary("complete", path=str(tmp_path / ("run-" + "x" * 60)))
    finding = Finding("r-x", "warn", "t", "s", (), Location("a " + "long " * 20 + "path.py", 2))
    shown = diagnosis(run=run, findings=(finding,), verdict="bottleneck")
    lines = TerminalReport(width=40).render(shown).splitlines()
    assert f"  trainprof diagnose {run.path} --format markdown" in lines
    assert f"  --> a {'long ' * 20}path.py:2" in lines
