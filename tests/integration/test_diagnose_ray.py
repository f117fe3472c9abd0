"""`diagnose --engine ray` on a Ray cluster of this machine, with two processors."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("ray")


def rank(folder, number, size):
    arrives = 590 if number == 1 else 100 + number
    events = [
        ("user_annotation", "ProfilerStep#1", 0, 1000, {}),
        ("kernel", "gemm", 0, arrives, {"device": 0, "stream": 7}),
        ("kernel", "ncclAllReduce", arrives, 600 - arrives, {"device": 0, "stream": 20}),
    ]
    names = ("cat", "name", "ts", "dur", "args")
    found = [
        {"ph": "X", "pid": 1, "tid": 1, **dict(zip(names, one, strict=True))} for one in events
    ]
    said = {"distributedInfo": {"rank": number, "world_size": size}, "traceEvents": found}
    path = folder / f"rank{number}.json"
    path.write_text(json.dumps(said))
    return str(path)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ranks_are_read_on_the_cluster_and_only_ours_is_printed(tmp_path, cluster):
    paths = [rank(tmp_path, number, 6) for number in range(5)]
    command = [sys.executable, "-m", "trainprof", "diagnose", *paths]
    here, there = (
        subprocess.run(
            [*command, "--engine", engine, "--format", "json"],
            env={**os.environ, "RAY_ADDRESS": cluster},
            capture_output=True,
            text=True,
            timeout=200,
        )
        for engine in ("local", "ray")
    )
    assert (there.returncode, there.stderr) == (0, "")
    assert json.loads(there.stdout) == json.loads(here.stdout)
    assert len(json.loads(there.stdout)["ranks"]) == 5
