"""What looks at a run steps back behind the training, once, whatever priority it began with."""

import os
import sys
import threading

from trainprof.cli.dashboard_services import diagnosed
from trainprof.cli.looking_thread import NICENESS, step_back

LOW = 17
"""A niceness that the user gave the whole command."""


def in_a_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def niceness():
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_a_priority_that_is_lower_already_is_left():
    def low():
        os.setpriority(os.PRIO_PROCESS, 0, LOW)
        step_back()
        return niceness()

    assert in_a_thread(low) == LOW


def test_a_diagnosis_has_the_priority_of_the_thread_that_asks_for_it(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nnice > {tmp_path}/niceness\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    def ask():
        step_back()
        return diagnosed(tmp_path)

    assert in_a_thread(ask) is None
    assert int((tmp_path / "niceness").read_text()) == max(niceness(), NICENESS)
