"""A run as tracks: every step of every rank with its phases, on one clock."""

from __future__ import annotations

import sys
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from trainprof.cli.main import main
from trainprof.profiler.model.diagnosis import Diagnosis, RunSummary, StepSummary
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import (
    Event,
    Fetch,
    GpuSample,
    MachineSample,
    MemoryPoint,
    MicroBatch,
    ProcessInfo,
    RunInfo,
    Sample,
)
from trainprof.profiler.model.run import STEP_COLUMNS, ProcessRecord, Run, Session, Steps
from trainprof.reports.perfetto import perfetto_file
from trainprof.reports.run_tracks import run_tracks

sys.path.insert(0, str(Path(__file__).parents[1] / "traces"))
from plain_picture import nested, plain_picture

BEGAN = 5_000_000_000
NOTHING = Diagnosis(1, "run", RunSummary("complete"), "healthy", "Healthy.", StepSummary(0, 0))
INFO = RunInfo(1, "run", ("train.py",), "/", 1000.0, BEGAN, "0.1", host="a")


def steps(count, start_ns=BEGAN, wall_ns=100, **phases):
    columns = {name: array("q", [0]) * count for name in STEP_COLUMNS}
    rest = wall_ns - sum(phases.values())
    for number in range(count):
        values = {"index": number, "start_ns": start_ns + number * wall_ns, "wall_ns": wall_ns}
        values |= {"samples": -1, "residual_ns": rest}
        values |= {f"{phase}_ns": length for phase, length in phases.items()}
        for name, value in values.items():
            columns[name][number] = value
    return Steps(columns)


def trainer(rank=None, host="a", **fields):
    info = ProcessInfo(100 + (rank or 0), 1, host, "trainer", started_ns=BEGAN, rank=rank)
    return ProcessRecord(info, "folder", **fields)


def pictured(tmp_path, *sessions, samples=(), name="run.json", diagnosis=NOTHING):
    run = Run("run", INFO, "complete", sessions=sessions, samples=samples)
    with perfetto_file(tmp_path / name) as file:
        for track in run_tracks(run, diagnosis):
            file.put(track)
        file.finish({})
    rows, counters, _ = plain_picture(tmp_path / name)
    for row in rows.values():
        nested(row)
    return rows, counters


def test_steps_and_phases_have_their_lengths_on_the_run_s_clock(tmp_path):
    own = trainer(steps=steps(3, BEGAN + 1000, forward=30, backward=50))
    rows, _ = pictured(tmp_path, Session((own,)))
    assert rows["process 100", "start-up"] == [("start-up", 0, 1000)]
    assert rows["process 100", "steps"] == [
        ("step 0", 1000, 1100),
        ("step 1", 1100, 1200),
        ("step 2", 1200, 1300),
    ]
    assert rows["process 100", "phases, one after another"][:3] == [
        ("forward", 1000, 1030),
        ("backward", 1030, 1080),
        ("residual", 1080, 1100),
    ]
    assert len(PHASES) > 3


def test_micro_batches_workers_events_and_counters(tmp_path):
    micro = (MicroBatch(BEGAN, 50, 10, 20, 15), MicroBatch(BEGAN + 50, 50, 5, 20, 25))
    summary = Event("gc", BEGAN, 1000, {"count": [2, 0, 0], "total_ns": [60, 0, 0]})
    events = (
        Event("gc", BEGAN + 10, 30),
        Event("gc", BEGAN + 20, 30),
        Event("checkpoint", BEGAN),
        summary,
    )
    own = trainer(
        rank=0,
        steps=steps(1),
        micro={0: micro},
        events=events,
        memory=(MemoryPoint(0, BEGAN, 512),),
    )
    worker = ProcessRecord(
        ProcessInfo(200, 100, "a", "worker"), "folder", fetches=(Fetch(1, BEGAN + 5, 10, 8, 4),)
    )
    gpu = GpuSample(0, utilization_share=0.5, power_w=float("nan"))
    sample = Sample(BEGAN + 7, MachineSample(cpu_busy_share=0.25), gpus=(gpu,))
    rows, counters = pictured(tmp_path, Session((own,), (worker,)), samples=(sample,))
    assert rows["rank 0", "micro-batches"] == [
        ("step 0, micro-batch 1", 0, 50),
        ("data wait", 0, 10),
        ("forward", 10, 30),
        ("backward", 30, 45),
        ("step 0, micro-batch 2", 50, 100),
        ("data wait", 50, 55),
        ("forward", 55, 75),
        ("backward", 75, 100),
    ]
    assert rows["rank 0", "gc"] == [("gc", 10, 40)]
    assert rows["rank 0", "gc (2)"] == [("gc", 20, 50)]
    assert rows["rank 0", "checkpoint"] == [("checkpoint", 0, 0)]
    assert rows["loader workers", "worker 1, process 200"] == [("batch", 5, 15)]
    assert {name for _, name in counters} == {
        "resident memory (bytes)",
        "CPU busy (share)",
        "GPU 0 use (share)",
    }


def test_a_rank_on_another_machine_is_put_on_the_same_clock(tmp_path):
    far = trainer(rank=1, host="b", steps=steps(1, start_ns=77))
    far = replace(far, info=replace(far.info, clock={"unix_s": 1002.0, "perf_ns": 77}))
    rows, _ = pictured(tmp_path, Session((trainer(rank=0, steps=steps(1)), far)))
    assert rows["rank 0", "steps"] == [("step 0", 0, 100)]
    assert rows["rank 1", "steps"] == [("step 0", 2_000_000_000, 2_000_000_100)]


def test_a_thousand_ranks_and_several_trainings(tmp_path):
    many = Session(tuple(trainer(rank=rank, steps=steps(2)) for rank in range(1000)))
    rows, _ = pictured(tmp_path, many, Session((trainer(steps=steps(1)),)), name="run.json.gz")
    assert rows["training 1, rank 999", "steps"][1] == ("step 1", 100, 200)
    assert ("training 2, process 100", "steps") in rows


def test_a_run_without_steps_has_no_rows(tmp_path):
    assert pictured(tmp_path, Session((trainer(),))) == ({}, {})
    assert pictured(tmp_path) == ({}, {})


def test_no_run_is_a_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--to", "perfetto", "--out", "a.json"]) == 2
    assert "there is no run" in capsys.readouterr().err
    with pytest.raises(StopIteration):
        next(tmp_path.iterdir())
