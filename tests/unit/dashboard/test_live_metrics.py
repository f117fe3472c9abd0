"""A run served to Prometheus: each number is that of the run folder; the unmeasured is absent."""

import dataclasses
import json
import math
import re
import socket
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_writer import BASE_NS, STARTED_UNIX_S, RunWriter

pytest.importorskip("prometheus_client", reason="needs: pip install 'trainprof[prometheus]'")
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed
from prometheus_client.parser import text_string_to_metric_families as parsed_as_text

from trainprof.cli.judgement import judge
from trainprof.cli.live_metrics import LiveMetrics, open_server
from trainprof.cli.main import main
from trainprof.cli.settings import Settings
from trainprof.errors import RunFolderError, UsageError
from trainprof.profiler.model.diagnosis import Evidence, Finding, Location
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import NO_LOADER, GpuSample, ProcessInfo, StepRecord
from trainprof.profiler.store.reader import read_run
from trainprof.profiler.store.writer import write_process_info
from trainprof.reports.live_diagnosis import FIRST_DIAGNOSIS_STEPS
from trainprof.reports.openmetrics.families import MOST_RANKS
from trainprof.reports.openmetrics.quantities import GPU, MACHINE, RANK, STEPS

DOCUMENT = Path(__file__).parents[3] / "docs" / "prometheus.md"
RANK_0 = {"training": "1", "rank": "0"}


class NoServer:
    """Takes the place of the server where only the page is looked at."""

    def start(self, page):
        pass

    def close(self):
        pass


@pytest.fixture
def run(tmp_path):
    return RunWriter(tmp_path / "run")


def live(run):
    return LiveMetrics(run.folder, run.info, NoServer())


def page(metrics):
    """What is served now, by name and labels, once OpenMetrics' own parser has read it."""
    metrics.look()
    _, text = metrics.page("application/openmetrics-text")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parsed(text.decode())
        for sample in family.samples
    }


def value(found, name, **labels):
    return found.get((f"trainprof_{name}", frozenset(labels.items())))


def names(found):
    return {name for name, _ in found}


def test_counters_equal_the_run_folder_and_the_diagnosis(run):
    metrics = live(run)
    for loss in (0.5, 0.25):
        run.steps(30, wall_ns=31_234_500, loss=loss).flush()
        found = page(metrics)
    run.write_info(status="complete")
    diagnosis = judge(run.folder, Settings(calibration=False))
    (trainer,) = read_run(run.folder).sessions[0].trainers
    assert value(found, "steps_total", **RANK_0) == diagnosis.steps.count == 60
    assert value(found, "samples_total", **RANK_0) == sum(trainer.steps.columns["samples"])
    walls_s = sum(trainer.steps.columns["wall_ns"]) / 1e9
    assert value(found, "step_seconds_total", **RANK_0) == walls_s
    assert walls_s / 60 == pytest.approx(diagnosis.steps.mean_s)
    for phase in PHASES:
        of_phase_s = sum(trainer.steps.columns[f"{phase}_ns"]) / 1e9
        assert value(found, "phase_seconds_total", phase=phase, **RANK_0) == of_phase_s
        assert of_phase_s / walls_s == pytest.approx(diagnosis.steps.phases[phase].share)
    assert value(found, "loss", **RANK_0) == trainer.losses[-1].value == 0.25


def test_both_formats_tell_the_same(run):
    run.steps(3, loss=0.5)
    run.sample(1.0, gpus=(0.9,), memory_total_bytes=1 << 34)
    run.event("checkpoint", 1.0, 0.5)
    run.flush()
    metrics = live(run)
    found = page(metrics)
    content_type, text = metrics.page("text/plain")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    plain = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parsed_as_text(text.decode())
        for sample in family.samples
    }
    assert plain == found


def test_a_run_that_has_recorded_nothing_tells_only_which_it_is(run):
    assert names(page(live(run))) == {
        "trainprof_run_info",
        "trainprof_run_start_timestamp_seconds",
    }


def test_what_was_not_measured_is_absent(run):
    step = StepRecord(0, BASE_NS, 1000, (0,) * (len(PHASES) - 1) + (1000,), flags=NO_LOADER)
    run.writers[0].step(step)
    run.sample(1.0, cpu=None)
    found = page(live(run.flush()))
    assert value(found, "steps_total", **RANK_0) == 1
    assert value(found, "phase_seconds_total", phase="data_wait", **RANK_0) is None
    assert value(found, "phase_seconds_total", phase="h2d", **RANK_0) == 0.0
    absent = {
        f"trainprof_{name}"
        for name in ("samples_total", "loss", "loader_ready_batches", "events_total")
    }
    assert names(found) & absent == set()
    assert not [name for name in names(found) if re.match("trainprof_(machine|gpu|process)", name)]


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_served_as_it_is(run, loss):
    found = page(live(run.steps(1, loss=loss).flush()))
    assert str(value(found, "loss", **RANK_0)) == str(loss)


def test_a_phase_is_told_as_long_as_its_collector_works(run):
    metrics = live(run.steps(2).flush())
    assert value(page(metrics), "phase_seconds_total", phase="forward", **RANK_0) > 0
    run.event("collector_failed", 1.0, collector="modules", error="KeyError")
    found = page(live(run.flush()))
    lost = [phase for phase in PHASES if not value_of_phase(found, phase)]
    assert {"forward", "loss"} <= set(lost)
    assert value_of_phase(found, "backward") > 0


def value_of_phase(found, phase):
    return value(found, "phase_seconds_total", phase=phase, **RANK_0)


def judged(folder):
    """A diagnosis with two findings of a rule at one place, and one that has no figures."""
    evidence = (Evidence("step.data_wait_share", 0.4, "share"),)
    finding = Finding("data-x", "warn", 'a "b"\nc', "", evidence, Location("t.py", 3), share=0.4)
    finding = dataclasses.replace(finding, recoverable_s_per_step=0.01)
    second = dataclasses.replace(finding, share=0.1)
    note = Finding("flags-y", "info", "d", "", evidence)
    found = judge(folder, Settings(calibration=False))
    return dataclasses.replace(found, findings=(finding, second, note))


def test_the_findings_are_those_of_the_latest_diagnosis(run):
    metrics = LiveMetrics(run.folder, run.info, NoServer(), judged)
    run.steps(FIRST_DIAGNOSIS_STEPS - 1).flush()
    metrics.look()
    metrics.look_for_findings()
    assert not [name for name in names(page(metrics)) if "diagnos" in name or "finding" in name]
    run.steps(200).flush()
    metrics.look()
    metrics.look_for_findings()
    found, diagnosis = page(metrics), judged(run.folder)
    assert value(found, "diagnosis_info", training="1", verdict=diagnosis.verdict) == 1
    assert value(found, "steady_step_seconds", training="1") == diagnosis.steps.mean_s
    warning = {"training": "1", "rule": "data-x", "severity": "warn", "place": "t.py:3"}
    note = {"training": "1", "rule": "flags-y", "severity": "info", "place": ""}
    assert value(found, "finding_share_ratio", **warning) == 0.4
    assert value(found, "finding_recoverable_seconds", **warning) == 0.01
    assert value(found, "finding_info", title='a "b" c', **warning) == 1
    assert value(found, "finding_share_ratio", **note) is None
    assert value(found, "finding_info", title="d", **note) == 1


def test_of_many_trainings_the_latest_are_told_also_where_the_last_is_the_longest(run):
    def of_ten(folder):
        found = judge(folder, Settings(calibration=False))
        last, *others = (
            dataclasses.replace(found, run=dataclasses.replace(found.run, session=place))
            for place in (9, *range(9))
        )
        return dataclasses.replace(last, other_sessions=tuple(others))

    metrics = LiveMetrics(run.folder, run.info, NoServer(), of_ten)
    run.steps(FIRST_DIAGNOSIS_STEPS).flush()
    metrics.look()
    metrics.look_for_findings()
    told = {
        dict(labels)["training"]
        for name, labels in page(metrics)
        if name == "trainprof_diagnosis_info"
    }
    assert told == {str(number) for number in range(3, 11)}


def test_a_run_is_diagnosed_only_when_there_is_something_new(run):
    asked = []
    metrics = LiveMetrics(run.folder, run.info, NoServer(), asked.append)
    for new in (100, 0, 0, 1):
        run.steps(new).flush()
        metrics.look()
        metrics.look_for_findings()
    assert asked == [run.folder] * 2


def test_events_are_counted_once(run):
    run.steps(1)
    run.event("checkpoint", 1.0, 0.5)
    run.event("checkpoint", 3.0, 0.25)
    run.event("gc", 3.0, 0.2, generation=2)  # this long one is in the sums as well
    run.event("gc", 3.0, 1.0, count=[5, 1, 1], total_ns=[1_000_000, 0, 200_000_000])
    run.event("gc", 4.0, 1.0, count=7, total_ns="much")  # nothing that trainprof has written
    run.event("loader_start", 4.0, 0.5)
    found = page(live(run.flush()))
    told = [
        (kind, value(found, "events_total", kind=kind, **RANK_0))
        for kind in ("checkpoint", "gc", "loader_start")
    ]
    assert told == [("checkpoint", 2), ("gc", 7), ("loader_start", None)]
    assert value(found, "event_seconds_total", kind="checkpoint", **RANK_0) == 0.75
    assert value(found, "event_seconds_total", kind="gc", **RANK_0) == pytest.approx(0.201)


def test_the_recent_steps_are_those_of_the_last_ten_seconds(run):
    metrics = live(run)
    run.steps(10, wall_ns=1_000_000_000).flush()
    page(metrics)
    run.steps(40, wall_ns=250_000_000).flush()
    found = page(metrics)
    assert value(found, "recent_step_seconds", **RANK_0) == 0.25
    assert value(found, "recent_samples_per_second", **RANK_0) == 32.0
    assert value(found, "last_step_timestamp_seconds", **RANK_0) == STARTED_UNIX_S + 21.0


def test_cpu_time_of_processes_that_ended_is_kept(run):
    metrics = live(run)
    run.sample(1.0, processes=((100, 5.0), (101, 2.0)))
    run.flush()
    page(metrics)
    run.sample(2.0, processes=((100, 6.0),))
    run.sample(3.0, processes=((100, 7.0), (101, 0.5)))
    run.steps(1).flush()
    found = page(metrics)
    assert value(found, "process_cpu_seconds_total") == 9.5
    assert value(found, "processes") == 2
    assert value(found, "resident_memory_bytes", **RANK_0) is None  # it is of another machine


def test_a_figure_that_the_last_look_could_not_read_is_that_of_the_look_before(run):
    metrics = live(run)
    run.sample(1.0, cpu=0.5)
    run.sample(2.0, cpu=None)
    run.flush()
    assert value(page(metrics), "machine_cpu_busy_ratio") == 0.5
    run.sample(3.0, cpu=None)
    run.flush()
    assert value(page(metrics), "machine_cpu_busy_ratio") is None


def test_of_many_ranks_the_lowest_are_told_in_full(tmp_path):
    run = RunWriter(tmp_path / "run", ranks=MOST_RANKS + 2)
    for rank in range(MOST_RANKS + 2):
        run.steps(rank + 1, rank=rank)
    found = page(live(run.flush()))
    steps = {labels for name, labels in found if name == "trainprof_steps_total"}
    waits = {labels for name, labels in found if name == "trainprof_phase_seconds_total"}
    assert len(steps) == MOST_RANKS + 2
    assert {dict(labels)["rank"] for labels in waits} == {str(one) for one in range(MOST_RANKS)}
    assert value(found, "ranks", training="1") == MOST_RANKS + 2
    assert value(found, "steps_total", training="1", rank="65") == 66


def process(run, pid, started_ns, **fields):
    """Says of a process that it trains."""
    folder = run.folder / "procs" / f"vm-{pid}-{BASE_NS}"
    folder.mkdir(exist_ok=True)
    info = ProcessInfo(pid, 10, "vm", "trainer", started_ns=started_ns, **fields)
    write_process_info(str(folder), info)


@pytest.mark.parametrize("ended_ns", [BASE_NS - 1, None])
def test_a_training_that_crashed_within_its_first_step_has_its_number(run, ended_ns):
    process(run, 99, BASE_NS - 1_000_000_000, ended_ns=ended_ns)
    found = page(live(run.steps(60).flush()))
    run.write_info(status="complete")
    assert judge(run.folder, Settings(calibration=False)).run.session + 1 == 2
    assert value(found, "steps_total", training="2", rank="0") == 60
    assert {dict(labels).get("training") for _, labels in found} == {None, "2"}


def test_a_rank_that_has_not_completed_a_step_trains_with_the_others(tmp_path):
    run = RunWriter(tmp_path / "run", ranks=2)
    process(run, 101, BASE_NS + 1_000_000, rank=1, world_size=2)
    metrics = live(run.steps(3, rank=1).flush())
    found = page(metrics)
    assert value(found, "ranks", training="1") == 1
    assert value(found, "steps_total", training="1", rank="1") == 3
    run.steps(2, rank=0).flush()
    assert value(page(metrics), "ranks", training="1") == 2


def test_a_rank_that_is_lost_keeps_its_counts(tmp_path):
    run = RunWriter(tmp_path / "run", ranks=2)
    metrics = live(run)
    run.steps(3, rank=0).steps(3, rank=1).flush()
    page(metrics)
    run.steps(5, rank=0).flush()
    found = page(metrics)
    assert [value(found, "steps_total", training="1", rank=rank) for rank in "01"] == [8, 3]


def test_hostile_names_arrive_as_they_are_shown_everywhere(run):
    run.write_info(name='a"b\\c\nd\x1b[31m\udce9' + "x" * 100_000)
    (labels,) = (dict(labels) for name, labels in page(live(run)) if name == "trainprof_run_info")
    assert labels["run"].startswith('a"b\\c d\\x1b[31m\\udce9xxx')
    assert len(labels["run"]) == 80


@settings(deadline=None, max_examples=20)
@given(cuts=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 10**10)), min_size=1, max_size=6))
def test_however_a_run_is_cut_into_looks_the_numbers_are_the_same(tmp_path_factory, cuts):
    run = RunWriter(tmp_path_factory.mktemp("cut") / "run")
    watched, late = live(run), live(run)
    for number, (steps, wall_ns) in enumerate(cuts):
        run.steps(steps, wall_ns=wall_ns, loss=float(number))
        run.event("checkpoint", number, 0.5)
        run.sample(number, processes=((100, float(number)),))
        run.flush()
        found = page(watched)
    assert found == page(late)


def test_one_text_serves_all_who_ask_between_two_looks(run, monkeypatch):
    metrics = live(run.steps(1).flush())
    metrics.look()
    first = metrics.page("")[1]
    run.steps(1).flush()
    assert metrics.page("")[1] is first
    metrics.look()
    assert metrics.page("")[1] != first


def test_every_metric_is_named_in_the_document(run):
    run.steps(1, loss=1.0)
    run.sample(1.0, processes=((100, 1.0),), gpus=(0.5,))
    run.event("checkpoint", 1.0, 0.5)
    metrics = LiveMetrics(run.folder, run.info, NoServer(), judged)
    run.steps(FIRST_DIAGNOSIS_STEPS).flush()
    metrics.look()
    metrics.look_for_findings()
    served = names(page(metrics))
    quantities = (*STEPS, *RANK, *MACHINE, *GPU)
    served |= {f"trainprof_{one.name}{'_total' * one.counts}" for one in quantities}
    documented = set(re.findall(r"`(trainprof_[a-z0-9_]+)", DOCUMENT.read_text()))
    assert documented == served | {"trainprof_resident_memory_bytes"}  # there is no such process


def test_units_end_the_names():
    for one in (*STEPS, *RANK, *MACHINE, *GPU):
        assert not one.unit or one.name.endswith(f"_{one.unit}"), one.name


def test_what_other_reports_draw_is_told_in_base_units():
    gpu = GpuSample(0, utilization_share=0.5, memory_used_bytes=7, power_w=70.5)
    gpu = dataclasses.replace(gpu, temperature_c=41, sm_clock_mhz=1500)
    measured = {one.name: value for one in GPU if (value := one.read(gpu)) is not None}
    assert measured == {
        "gpu_utilization_ratio": 0.5,
        "gpu_memory_used_bytes": 7,
        "gpu_power_watts": 70.5,
        "gpu_temperature_celsius": 41,
        "gpu_sm_clock_hertz": 1.5e9,
    }
    assert {one.read(GpuSample(0)) for one in GPU} == {None}


def test_a_run_that_cannot_be_read_is_served_no_more_and_that_is_said(run, monkeypatch, capsys):
    monkeypatch.setattr("trainprof.cli.live_metrics.INTERVAL_S", 0.0)
    metrics = live(run)
    (run.folder / "host.jsonl").write_text(json.dumps({"format": 99}) + "\n")
    metrics.start()
    assert metrics._thread.ends_within(60)
    with pytest.raises(RunFolderError, match="format 99"):
        metrics.page("")
    metrics.finish(None)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("trainprof: the metrics ended before the run (")


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError):
            open_server(port)
        assert main(["run", "--metrics-port", str(port), "touch", "started"]) == 2
    assert capsys.readouterr().err == (
        f"trainprof: Port {port} of 127.0.0.1 cannot be had (Address already in use); name another "
        "with --metrics-port PORT, or 0 for any that is free.\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_without_its_package_the_line_that_installs_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert main(["run", "--metrics-port", "0", "touch", "started"]) == 2
    assert capsys.readouterr().err == (
        "trainprof: Metrics need prometheus-client, which is not installed: "
        "pip install 'trainprof[prometheus]'\n"
    )
    assert list(tmp_path.iterdir()) == []
