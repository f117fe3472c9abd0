"""A run as tables: CSV and Parquet say the same, and what the records say."""

import csv
import dataclasses
import math
import random
import sys
import time
from array import array

import pytest

from trainprof.errors import TrainprofError
from trainprof.profiler.model import records
from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Evidence,
    Finding,
    Gain,
    Location,
    RunSummary,
    StepSummary,
)
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import (
    GpuSample,
    LossValue,
    MachineSample,
    ProcessInfo,
    ProcessSample,
    RunInfo,
    Sample,
)
from trainprof.profiler.model.run import MISSING, STEP_COLUMNS, ProcessRecord, Run, Session, Steps
from trainprof.reports.table_files import write_tables
from trainprof.reports.tables import CELL_CHARACTERS, run_tables

parquet = pytest.importorskip("pyarrow.parquet")

BEGAN = 5_000_000_000
INFO = RunInfo(1, "run", ("train.py",), "/", 1000.0, BEGAN, "0.1", host="a")
NOTHING = Diagnosis(1, "run", RunSummary("complete"), "healthy", "Healthy.", StepSummary(0, 0))
KINDS = {"double": float, "int64": int, "bool": lambda cell: cell == "true", "string": str}


def some_steps(count):
    numbers = random.Random(1)
    columns = {name: array("q", [0]) * count for name in STEP_COLUMNS}
    for number in range(count):
        values = {f"{phase}_ns": numbers.randrange(10**7) * 100 for phase in PHASES}
        values["wall_ns"] = sum(values.values())
        values |= {"index": number, "start_ns": BEGAN + number * 1_300_000_007}
        values |= {"cpu_ns": 7_700 if number % 3 else MISSING, "run_queue_ns": MISSING}
        values |= {"micro_batches": 1, "samples": MISSING if number % 5 == 0 else 32}
        values |= {"flags": numbers.randrange(64), "inferred": numbers.choice([0, 8, 0b101000])}
        for name, value in values.items():
            columns[name][number] = value
    return Steps(columns)


def trainer(steps, losses=(), **info):
    own = ProcessInfo(100, 1, "a", "trainer", started_ns=BEGAN, **info)
    return ProcessRecord(own, "folder", steps=steps, losses=losses)


def run_of(*trainers, samples=()):
    sessions = tuple(Session((one,)) for one in trainers)
    return Run("run", INFO, "complete", sessions=sessions, samples=samples)


def written(run, tmp_path, diagnosis=NOTHING):
    """Each table of the run as rows, read back from CSV; they equal what Parquet holds."""
    write_tables(run_tables(run, diagnosis), tmp_path / "c", "csv")
    write_tables(run_tables(run, diagnosis), tmp_path / "p", "parquet")
    tables = {}
    for path in sorted((tmp_path / "c").iterdir()):
        table = parquet.read_table(tmp_path / "p" / f"{path.stem}.parquet")
        kinds = {field.name: KINDS[str(field.type)] for field in table.schema}
        with path.open(newline="", encoding="utf-8") as file:
            rows = [
                {name: kinds[name](cell) if cell else None for name, cell in row.items()}
                for row in csv.DictReader(file)
            ]
        assert repr(rows) == repr(table.to_pylist())  # repr: nan equals nan
        tables[path.stem] = rows
    return tables


def test_steps_are_those_of_the_records(tmp_path):
    steps = some_steps(200)
    rows = written(run_of(trainer(steps, rank=3)), tmp_path)["steps"]
    for position, row in enumerate(rows):
        record = steps.record(position)
        unasked = record.flags & records.NO_LOADER
        expected = dict(zip(PHASES, (ns / 1e9 for ns in record.phases_ns), strict=True))
        expected["data_wait"] = None if unasked else expected["data_wait"]
        assert {phase: row[f"{phase}_s"] for phase in PHASES} == expected
        assert row["wall_s"] == record.wall_ns / 1e9
        assert row["start_s"] == (record.start_ns - BEGAN) / 1e9
        assert row["cpu_s"] == (None if record.cpu_ns is None else record.cpu_ns / 1e9)
        assert row["samples"] == record.samples
        assert (row["training"], row["rank"], row["pid"], row["step"]) == (1, 3, 100, record.index)
        assert row["compiled"] == bool(record.flags & records.COMPILED)
    assert len(rows) == 200
    assert {row["inferred"] for row in rows} == {None, "loss", "loss optimizer"}


def test_what_was_not_measured_is_empty_and_no_zero(tmp_path):
    rows = written(run_of(trainer(some_steps(20))), tmp_path)["steps"]
    assert {row["run_queue_s"] for row in rows} == {None}
    assert {row["samples"] for row in rows} == {None, 32}
    assert {row["rank"] for row in rows} == {None}
    text = (tmp_path / "c" / "steps.csv").read_text()
    assert "-1" not in text
    assert "None" not in text


def test_two_trainings_and_losses_that_are_no_numbers(tmp_path):
    values = [1.5, math.nan, math.inf, -math.inf]
    losses = [LossValue(step, value) for step, value in enumerate(values)]
    run = run_of(trainer(some_steps(2), losses), trainer(some_steps(3)))
    tables = written(run, tmp_path)
    assert [row["training"] for row in tables["steps"]] == [1, 1, 2, 2, 2]
    assert repr([row["loss"] for row in tables["losses"]]) == repr(values)
    text = (tmp_path / "c" / "losses.csv").read_text()
    assert text.splitlines()[2:] == ["1,,100,1,NaN", "1,,100,2,Infinity", "1,,100,3,-Infinity"]


def test_every_field_of_a_sample_is_a_column(tmp_path):
    machine = MachineSample(cpu_busy_share=0.5, cpu_busy_per_core=(0.25, 0.75))
    own = ProcessSample(7, 1, "=cmd\nx\udc80", 1.5, 2**70, 3, "running")
    gpus = (GpuSample(0, power_w=71.0), GpuSample(1, rows_remap_failed=False))
    sample = Sample(BEGAN + 250_000_000, machine, (own,), gpus)
    tables = written(run_of(samples=(sample,)), tmp_path)
    for name, record in (("machine", MachineSample), ("gpus", GpuSample)):
        fields = [field.name for field in dataclasses.fields(record)]
        assert list(tables[name][0]) == ["at_s", *fields]
    assert tables["machine"][0]["cpu_busy_per_core"] == "[0.25,0.75]"
    assert [row["at_s"] for row in tables["gpus"]] == [0.25, 0.25]
    assert [row["power_w"] for row in tables["gpus"]] == [71.0, None]
    assert [row["rows_remap_failed"] for row in tables["gpus"]] == [None, False]
    assert tables["processes"][0]["name"] == "=cmd x\\udc80"
    assert tables["processes"][0]["rss_bytes"] is None  # more than a counter can hold


def test_findings_with_their_evidence(tmp_path):
    evidence = (
        Evidence("step.data_wait.share", 0.48, "share", 0.1, "marks"),
        Evidence("flags.anomaly_enabled", True, "bool"),
    )
    long_place = Location("x" * 100_000 + ".py", 34)
    finding = Finding(
        "data-workers-under", "critical", 'Few "workers"', "a\nb", evidence, long_place,
        share=0.48, gain=Gain(1.4, 2.1),
    )  # fmt: skip
    second = dataclasses.replace(
        NOTHING, run=RunSummary("complete", session=1), findings=(finding,)
    )
    diagnosis = dataclasses.replace(NOTHING, findings=(finding,), other_sessions=(second,))
    tables = written(run_of(), tmp_path, diagnosis)
    row = tables["findings"][0]
    assert (row["share"], row["gain_low"], row["gain_high"], row["line"]) == (0.48, 1.4, 2.1, 34)
    assert (row["title"], row["summary"]) == ('Few "workers"', "a b")
    assert len(row["file"]) == CELL_CHARACTERS
    assert row["recoverable_s_per_step"] is None
    assert [one["training"] for one in tables["evidence"]] == [1, 1, 2, 2]
    assert [one["value"] for one in tables["evidence"][:2]] == [0.48, None]
    assert tables["evidence"][1]["text"] == "True"


def test_units_are_in_the_names_and_told_to_parquet(tmp_path):
    write_tables(run_tables(run_of(), NOTHING), tmp_path, "parquet")
    units = {}
    for path in tmp_path.iterdir():
        for field in parquet.read_schema(path):
            units[field.name] = (field.metadata or {}).get(b"unit", b"").decode()
    assert units["wall_s"] == units["recoverable_s_per_step"] == "s"
    assert units["rss_bytes"] == "bytes"
    assert units["pcie_received_bytes_per_s"] == "bytes/s"
    assert units["temperature_c"] == "°C"
    assert units["step"] == units["rule"] == units["status"] == ""


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_hundred_thousand_steps_take_seconds(tmp_path, form):
    run = run_of(trainer(repeated(some_steps(1000), 100)))
    began = time.process_time()
    write_tables(run_tables(run, NOTHING), tmp_path, form)
    assert time.process_time() - began < 10  # 1.1 s and 0.3 s where this was written
    if form == "parquet":
        assert parquet.read_metadata(tmp_path / "steps.parquet").num_rows == 100_000
    else:
        assert (tmp_path / "steps.csv").read_bytes().count(b"\n") == 100_001


def repeated(steps, times):
    return Steps({name: column * times for name, column in steps.columns.items()})


def test_without_pyarrow_the_line_that_installs_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TrainprofError, match=r"pip install 'trainprof\[parquet\]'"):
        write_tables(run_tables(run_of(), NOTHING), tmp_path / "p", "parquet")
    assert not (tmp_path / "p").exists()
    write_tables(run_tables(run_of(), NOTHING), tmp_path / "c", "csv")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_failure_leaves_the_old_file(tmp_path, form):
    old = tmp_path / f"steps.{form}"
    old.write_text("old")
    (tmp_path / f".steps.{form}.part").mkdir()
    with pytest.raises(TrainprofError, match="name another folder with --out"):
        write_tables(run_tables(run_of(), NOTHING), tmp_path, form)
    assert old.read_text() == "old"
