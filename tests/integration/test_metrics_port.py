"""`trainprof run --metrics-port`: what is scraped while the script runs is what the run records."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.store.reader import read_run

pytest.importorskip("prometheus_client", reason="needs: pip install 'trainprof[prometheus]'")
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed

PATIENCE_S = 200.0
STEPS, MEMORY = ("trainprof_steps_total", None), ("trainprof_resident_memory_bytes", None)
SCRIPT = """
import os, sys, time, torch

print("up", flush=True)
model = torch.nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.utils.data.DataLoader(torch.ones(120, 8), batch_size=4)
for batch in data:
    loss = model(batch).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
while not os.path.exists("seen"):
    time.sleep(0.05)
sys.exit(7)
"""


@pytest.fixture
def running(tmp_path):
    """A run that goes on until the file `seen` is there, and where its metrics are."""
    (tmp_path / "train.py").write_text(SCRIPT)
    command = ["-m", "trainprof", "run", "--metrics-port", "0", "--no-probe", "--no-stacks"]
    command += ["--trace", "off"]
    with subprocess.Popen(
        [sys.executable, *command, "--out", "run", "train.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            first = process.stderr.readline()
            assert first.startswith("trainprof: the metrics of this run are at http://127.0.0.1:")
            yield process, first.split()[-1]
        finally:
            (tmp_path / "seen").touch()


def scraped(url):
    request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    return {
        (sample.name, sample.labels.get("phase")): sample.value
        for family in parsed(text)
        for sample in family.samples
    }


def test_what_is_scraped_while_it_runs_is_what_the_run_records(running, tmp_path):
    process, url = running
    until_s = time.monotonic() + PATIENCE_S
    found = scraped(url)
    # All but the last step, which may end with the script, and a first look at the process.
    while found.get(STEPS, 0) < 29 or MEMORY not in found:
        assert time.monotonic() < until_s, found
        time.sleep(0.2)
        found = scraped(url)
    (tmp_path / "seen").touch()
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, stdout) == (7, "up\n")
    assert "train.py · crashed" in stderr
    with pytest.raises(urllib.error.URLError):  # it ends with trainprof
        urllib.request.urlopen(url, timeout=PATIENCE_S)
    (session,) = read_run(tmp_path / "run").sessions
    columns = session.trainers[0].steps.columns
    steps = int(found[STEPS])
    assert steps in (29, 30)  # the last one ends with the script
    assert len(columns["index"]) == 30
    assert found["trainprof_step_seconds_total", None] == sum(columns["wall_ns"][:steps]) / 1e9
    for phase in PHASES:
        of_phase_ns = sum(columns[f"{phase}_ns"][:steps])
        assert found["trainprof_phase_seconds_total", phase] == of_phase_ns / 1e9
    assert found["trainprof_samples_total", None] == sum(columns["samples"][:steps])
    assert found[MEMORY] > 0


@pytest.mark.parametrize("options", [[], ["--metrics-port", "0"]])
def test_nothing_listens_unless_it_is_asked_for(options, tmp_path):
    script = "import sys; from trainprof.cli.main import main; status = main(sys.argv[1:]); " + (
        "print(status, 'http.server' in sys.modules)"
    )
    disabled = {"TRAINPROF_DISABLE": "1"} if options else {}
    done = subprocess.run(
        [sys.executable, "-c", script, "run", "--quiet", *options, "--out", "run", "true"],
        cwd=tmp_path,
        env={**os.environ, **disabled},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("0 False\n", "")
