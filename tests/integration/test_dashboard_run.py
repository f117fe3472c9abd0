"""`run --tui` in a real terminal: the script keeps its terminal, its signals and its status."""

import subprocess
import sys

import pexpect
import pytest

SCRIPT = """
import os, sys, time
try:
    print("a terminal:", sys.stdout.isatty(), sys.stdin.read() == "", flush=True)
    until = time.monotonic() + 240
    while not os.path.exists("enough") and time.monotonic() < until:
        time.sleep(0.05)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(7)
sys.exit(3)
"""


@pytest.fixture
def start(tmp_path):
    """Starts `trainprof run --tui` of a script that goes on until the file `enough` is there."""
    pytest.importorskip("textual")
    children = []

    def begin():
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        command = ["-m", "trainprof", "run", "--tui", "--no-stacks", "--out", str(tmp_path / "run")]
        child = pexpect.spawn(
            sys.executable,
            [*command, sys.executable, str(script)],
            cwd=str(tmp_path),
            dimensions=(24, 80),
            timeout=120,
            encoding="utf-8",
            codec_errors="replace",
        )
        children.append(child)
        return child

    yield begin
    (tmp_path / "enough").touch()
    for child in children:
        child.close(force=True)


def _left(child):
    child.send("q")
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus, child.before


def test_the_status_and_the_output_are_the_scripts(start, tmp_path):
    (tmp_path / "enough").touch()
    child = start()
    child.expect("exit status 3")  # the title of the dashboard
    status, after = _left(child)
    assert status == 3
    assert "a terminal: True True" in after
    assert b"a terminal: True True\r\n" in (tmp_path / "run" / "output.log").read_bytes()


def test_ctrl_c_reaches_the_script(start):
    child = start()
    child.expect("running for")
    child.send("o")
    child.expect("a terminal")
    child.send("\x03")
    child.expect("stopped after")
    status, after = _left(child)
    assert status == 7
    assert "interrupted" in after


def test_leaving_the_dashboard_leaves_the_script_running(start, tmp_path):
    child = start()
    child.expect("running for")
    child.send("q")
    child.expect_exact("\x1b[?1049l")  # the screen is as it was before
    (tmp_path / "enough").touch()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 3
    assert "a terminal: True True" in child.before


def test_a_dashboard_needs_a_terminal(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "trainprof", "run", "--tui", "--out", str(tmp_path / "run"), "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "trainprof: trainprof run --tui needs a terminal; leave --tui out where there is none.\n"
    )
    assert not (tmp_path / "run").exists()
