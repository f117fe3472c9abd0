"""Whatever stands in a file, `diagnose` and `export` read it or refuse it in a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spoilt_files import FORMATS, bombs, tried, try_many

SCRIPT = Path(__file__).with_name("spoilt_files.py")


def test_a_few_spoilt_files_of_every_kind(tmp_path):
    results, _, wrong = try_many(80, 5, tmp_path)
    assert not wrong, wrong[0]
    assert min(results["read"], results["refused"]) > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_ten_thousand_spoilt_files(seed):
    """In processes whose memory is bounded."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, SCRIPT, "1000", str(seed)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("name", "packed"), list(bombs()), ids=lambda one: str(one)[:25])
def test_what_unpacks_to_very_much_ends(tmp_path, name, packed):
    path = tmp_path / "trace.json.gz"
    path.write_bytes(packed)
    tried(path, tmp_path / "picture.json", "text")


NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(), st.integers(0, 3000), st.integers(0, 10)
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(
    (
        *("ProfilerStep#1", "ProfilerStep#2", "aten::mm", "aten::linear", "cudaLaunchKernel"),
        *("cudaMemcpyAsync", "cudaStreamSynchronize", "gemm", "ncclDevKernel_AllReduce"),
        *("Memcpy HtoD (Pageable -> Device)", "Optimizer.step#Adam.step", "record_param_comms"),
        *("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", "train.py(5): main"),
        "[memory]",
    )
)
CATEGORIES = st.sampled_from(
    ("kernel", "gpu_memcpy", "cuda_runtime", "cpu_op", "user_annotation", "python_function", "x")
)
KEYS = ("correlation", "External id", "device", "stream", "bytes", "Input Dims", "Input type")
KEYS += ("Bytes", "Total Allocated", "Device Id", "Collective name", "In msg nelems", "dtype")
ARGUMENTS = st.dictionaries(
    st.sampled_from((*KEYS, "Group size", "name", "Python id", "Python parent id")),
    st.one_of(st.integers(-1, 5), VALUES, st.lists(st.lists(st.integers(-5, 2**40), max_size=3))),
    max_size=6,
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "ph": st.one_of(st.just("X"), st.just("X"), st.sampled_from("BEiMsfC"), VALUES),
        "name": st.one_of(NAMES, NAMES, VALUES),
        "cat": st.one_of(CATEGORIES, CATEGORIES, VALUES),
        "ts": NUMBERS,
        "dur": NUMBERS,
        "pid": st.one_of(st.integers(0, 2), VALUES),
        "tid": st.one_of(st.integers(0, 2), VALUES),
        "args": st.one_of(ARGUMENTS, ARGUMENTS, VALUES),
    },
)


@settings(suppress_health_check=list(HealthCheck), max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(EVENTS, EVENTS, VALUES), max_size=25),
    st.dictionaries(
        st.sampled_from(("deviceProperties", "distributedInfo", "traceEvents2", "schemaVersion")),
        VALUES,
    ),
    st.sampled_from(FORMATS),
)
def test_any_events_are_read_or_refused(tmp_path, events, header, style):
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({**header, "traceEvents": events}))
    tried(path, tmp_path / "picture.json", style)
