"""What an interrupt costs that comes after the script has ended: never the end of its record."""

import json
import os
import signal
import sys

import pytest

from trainprof.cli.session import Session, Watched


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def session(tmp_path):
    return Session(
        tmp_path, "run", ("true",), Watched(None, True, 1.0, "off", stacks=False), quiet=True
    )


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
    with pytest.raises(KeyboardInterrupt):
        interrupt()  # what comes afterwards is minded as it was before


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
