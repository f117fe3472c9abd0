"""At a terminal: prompts, the debugger and Ctrl-C belong to the script."""

from __future__ import annotations

import os
import sys
import textwrap

import pytest

pexpect = pytest.importorskip("pexpect")
pytest.importorskip("torch")

TRAINING = """
import sys, torch
torch.set_num_threads(1)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.utils.data.TensorDataset(torch.randn(96, 4))
def train(epochs=1):
    for _ in range(epochs):
        for (x,) in torch.utils.data.DataLoader(data, batch_size=2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
"""


@pytest.fixture
def terminal(tmp_path):
    """Starts a script under trainprof in a pseudo-terminal."""
    started = []

    def start(text):
        script = tmp_path / "train.py"
        script.write_text(TRAINING + textwrap.dedent(text))
        child = pexpect.spawn(
            sys.executable,
            ["-m", "trainprof", "run", "--out", "run", "train.py"],
            cwd=str(tmp_path),
            env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "80"},
            timeout=90,
            encoding="utf-8",
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.close(force=True)


def ended(child):
    """Exit status after the last output."""
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def test_a_prompt_and_the_debugger_work(terminal):
    child = terminal("train()\nname = input('name? ')\nbreakpoint()\nprint('hello', name)")
    child.expect(r"name\? ")
    child.sendline("Ada")
    child.expect(r"\(Pdb\) ")
    child.sendline("p name * 2")
    child.expect("'AdaAda'")
    child.sendline("continue")
    child.expect("hello Ada")
    assert ended(child) == 0
    assert "steps" in child.before, "the diagnosis follows"


def test_one_interrupt_reaches_the_script_once_and_trainprof_waits(terminal):
    child = terminal(
        """
        import time
        train()
        for seen in range(3):
            try:
                print('waiting', flush=True)
                time.sleep(60)
            except KeyboardInterrupt:
                print('interrupted', seen, flush=True)
                break
        train()
        print('saved', flush=True)
        """
    )
    child.expect("waiting")
    child.sendintr()
    child.expect("interrupted 0")
    child.expect("saved")
    assert ended(child) == 0
    assert "96" in child.before, "both trainings are in the report"


def test_a_second_interrupt_kills_a_script_that_will_not_listen(terminal):
    child = terminal(
        """
        import signal, time
        train()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print('deaf', flush=True)
        time.sleep(60)
        """
    )
    child.expect("deaf")
    # Two that come before the first is handled are one (signals do not queue), and who is angry
    # goes on pressing: what comes after the kill may cost the diagnosis, never the status.
    for _ in range(600):
        child.sendintr()
        if child.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=0.05) == 0:
            break
    child.close()
    assert (child.exitstatus, child.signalstatus) == (137, None)
