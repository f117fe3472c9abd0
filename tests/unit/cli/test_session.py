"""What an interrupt costs that comes after the script has ended: never the end of its record."""

import json
import os
import signal
import subprocess
import sys

import pytest

from trainprof.cli.ending_signals import ENDING
from trainprof.cli.session import Session, Watched


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def session(tmp_path):
    held = {number: signal.getsignal(number) for number in ENDING}
    yield Session(
        tmp_path, "run", ("true",), Watched(None, True, 1.0, "off", stacks=False), quiet=True
    )
    for number, handler in held.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("status", [0, 3])
def test_while_the_end_is_written(session, tmp_path, monkeypatch, status):
    update = session._update

    def interrupted(**changes):
        if "exit_status" in changes:
            interrupt()
        update(**changes)

    monkeypatch.setattr(session, "_update", interrupted)

    assert session.run([sys.executable, "-c", f"raise SystemExit({status})"]) == status
    assert json.loads((tmp_path / "run.json").read_text())["exit_status"] == status
    interrupt()
    with pytest.raises(KeyboardInterrupt), session.interruptible():
        interrupt()


def test_the_second_does_not_disturb_what_minds_the_first(session):
    session.run([sys.executable, "-c", ""])
    minded = []

    def interrupted():
        try:
            interrupt()
        finally:
            interrupt()
            minded.append("to its end")

    with pytest.raises(KeyboardInterrupt), session.interruptible():
        interrupted()
    interrupt()
    assert minded == ["to its end"]


ENDED = """
import os, signal, sys
from contextlib import nullcontext
from trainprof.profiler.launch import Child
child = Child(["true"], os.environ)
child.wait()
with child.interruptible() if sys.argv[1] == "inside" else nullcontext():
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.parametrize(("place", "status"), [("inside", -signal.SIGTERM), ("outside", 0)])
def test_who_is_told_to_end_while_it_diagnoses_does(place, status):
    assert subprocess.run([sys.executable, "-c", ENDED, place]).returncode == status


def test_while_the_data_set_is_looked_at_it_ends_the_look(session, tmp_path, monkeypatch):
    asked = []

    def interrupted(folder, wall_s):
        interrupt()
        asked.append("after the interrupt")

    monkeypatch.setattr(session, "_watched", Watched(None, None, 1.0, "off", stacks=False))
    monkeypatch.setattr("trainprof.cli.looking.why_not", interrupted)

    assert session.run([sys.executable, "-c", ""]) == 0
    assert asked == []
    collectors = json.loads((tmp_path / "run.json").read_text())["collectors"]
    reasons = [one["reason"] for one in collectors if one["name"] == "probe"]
    assert reasons == ["the look at the data set was interrupted"]
