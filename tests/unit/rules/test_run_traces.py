"""What the traces of a run add to its diagnosis."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from builders import build_run, build_samples, build_steps, build_trainer

from trainprof.profiler.model.records import Event
from trainprof.profiler.model.run import TraceRecord
from trainprof.rules import run_traces
from trainprof.rules.diagnose import diagnose
from trainprof.rules.registry import chosen_rules

LOADER = ("loader", "l0", {"role": "training", "num_workers": 4, "iterable": False})
MODEL = (
    "model",
    "m0",
    {"type": "Net", "trained": True, "parameter_count": 9, "devices": {"cuda:0": 9}},
)
STEP_US, WAIT_US = 1000, 500


def write_trace(path, wait_us=WAIT_US, **header):
    """Three steps whose device waits for a batch, then works until the end of the step."""
    events = []

    def add(category, name, start, length, thread=1, **arguments):
        row = {"ph": "X", "cat": category, "name": name, "pid": 1, "tid": thread}
        events.append({**row, "ts": start, "dur": length, "args": arguments})

    for number in range(3):
        start = 10_000 + number * STEP_US
        add("user_annotation", f"ProfilerStep#{120 + number}", start, STEP_US)
        add("user_annotation", "enumerate(DataLoader)#_Iter.__next__", start, wait_us)
        add("cuda_runtime", "cudaLaunchKernel", start + wait_us, 5, correlation=number + 1)
        work = STEP_US - wait_us - 5
        where = {"device": 0, "stream": 7, "correlation": number + 1}
        add("kernel", "gemm", start + wait_us + 5, work, 7, **where)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**header, "traceEvents": events}))
    return path


def healthy_run(*traces, **trainer):
    phases = {"data_wait": 0.1, "forward": 4.0, "backward": 5.0, "optimizer": 0.3}
    steps = build_steps(400, phases, cpu_share=0.5, run_queue_share=0.01)
    built = build_trainer(steps, facts=[LOADER, MODEL], **trainer)
    return replace(build_run(built, samples=build_samples(5)), traces=traces)


def process_of(run):
    return Path(run.sessions[0].trainers[0].folder).name


def with_trace(tmp_path, **how):
    run = healthy_run()
    path = write_trace(tmp_path / "traces" / "a-step-120.pt.trace.json", **how)
    record = TraceRecord(process_of(run), 120, 3, str(path))
    return replace(run, traces=(record,))


def test_the_cause_that_only_the_trace_tells_becomes_the_verdict(tmp_path):
    assert diagnose(healthy_run()).verdict == "healthy"
    found = diagnose(with_trace(tmp_path))
    assert found.verdict == "bottleneck"
    (finding,) = [one for one in found.findings if one.rule == "data-device-starved"]
    assert finding.summary.endswith("(steps 120 to 122).")
    assert finding.share == pytest.approx(WAIT_US / STEP_US, abs=0.02)
    (device,) = found.devices
    assert device.window == "3 whole steps, steps 120 to 122"
    assert sum(device.shares.values()) == pytest.approx(1.0)


def test_the_operators_of_its_steps_are_told(tmp_path):
    run = with_trace(tmp_path)
    path = Path(run.traces[0].path)
    trace = json.loads(path.read_text())
    row = {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1}
    trace["traceEvents"].append({**row, "ts": 10_000 + WAIT_US, "dur": 300})
    path.write_text(json.dumps(trace))
    found = diagnose(run).operators
    assert (found.window, found.device.name, found.names) == (
        "3 whole steps, steps 120 to 122",
        "0",
        1,
    )
    (row,) = found.rows
    assert (row.name, row.host.s, row.host.share) == ("aten::mm", 300e-6, pytest.approx(0.1))
    assert row.device.s == pytest.approx(495e-6)  # of the kernel of the first step
    assert found.device.unlinked_s == pytest.approx(990e-6)
    assert diagnose(healthy_run()).operators is None


def test_every_null_of_its_findings_has_a_reason(tmp_path):
    found = diagnose(with_trace(tmp_path))
    for place, finding in enumerate(found.findings):
        if finding.recoverable_s_per_step is None:
            assert f"findings.{place}.recoverable_s_per_step" in found.missing


def test_a_busy_device_changes_no_verdict(tmp_path):
    found = diagnose(with_trace(tmp_path, wait_us=5))
    assert (found.verdict, len(found.devices)) == ("healthy", 1)


def test_rules_that_are_not_asked_say_nothing(tmp_path):
    found = diagnose(with_trace(tmp_path), ignore=["data-device-starved"])
    assert "data-device-starved" not in [one.rule for one in found.findings]
    assert diagnose(with_trace(tmp_path), select=["loop-gc"]).verdict == "healthy"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "could not be read"), ('{"traceEvents": [{"ph"', "could not be read")],
)
def test_a_torn_trace_is_a_sentence(tmp_path, text, sentence):
    run = with_trace(tmp_path)
    Path(run.traces[0].path).write_text(text)
    found = diagnose(run)
    assert found.verdict == "healthy"
    assert any(sentence in problem for problem in found.problems)


def test_half_a_trace_gives_what_it_holds(tmp_path):
    run = with_trace(tmp_path)
    path = Path(run.traces[0].path)
    path.write_text(path.read_text()[:-200])
    found = diagnose(run)
    assert any("ends in the middle" in problem for problem in found.problems)
    assert found.devices


def test_a_trace_that_has_gone_is_a_sentence(tmp_path):
    run = with_trace(tmp_path)
    Path(run.traces[0].path).unlink()
    assert any("could not be read" in problem for problem in diagnose(run).problems)


def test_a_large_trace_is_left_to_another_command(tmp_path, monkeypatch):
    monkeypatch.setattr(run_traces, "MOST_BYTES", 10)
    found = diagnose(with_trace(tmp_path))
    assert any("is large; read it: `trainprof diagnose" in problem for problem in found.problems)


def test_of_several_windows_the_latest_is_read(tmp_path):
    run = with_trace(tmp_path)
    earlier = TraceRecord(process_of(run), 7, 3, str(tmp_path / "none"))
    found = diagnose(replace(run, traces=(earlier, *run.traces)))
    assert len(found.devices) == 1
    assert any("from step 7" in problem for problem in found.problems)


def test_windows_that_came_to_nothing_say_why():
    run = healthy_run()
    refused = TraceRecord(process_of(run), 7, 3, None, "the disk is full")
    cut_off = TraceRecord(process_of(run), 50, 5)
    problems = diagnose(replace(run, traces=(refused, refused, cut_off))).problems
    wanted = "A trace of a few steps was wanted and not taken: the disk is full."
    assert [one for one in problems if one == wanted] == [wanted]
    assert "The training ended before its trace of steps 50 to 54 was whole." in problems


def test_traces_of_another_training_are_not_ours(tmp_path):
    run = with_trace(tmp_path)
    (record,) = run.traces
    found = diagnose(replace(run, traces=(replace(record, process="another"),)))
    assert found.devices == ()


def test_of_the_same_rule_the_runs_finding_is_kept(tmp_path):
    told = diagnose(with_trace(tmp_path)).findings
    own = tuple(replace(one, summary="of the run") for one in told)
    signals = None
    for evidence, kept in ((told[0].evidence, "of the run"), ((), told[0].summary)):
        mine = [replace(own[0], evidence=evidence)]
        found = run_traces.with_traces(mine, told[:1], (), signals or empty_signals())
        assert [one.summary for one in found] == [kept]


def test_a_finding_goes_under_its_cause(tmp_path):
    told = diagnose(with_trace(tmp_path)).findings[:1]
    symptom = replace(told[0], rule="data-symptom", severity="info", share=0.1)

    class Explains:
        id = told[0].rule
        yields_to = ()
        suppresses = ("data-symptom",)

    found = run_traces.with_traces([symptom], told, [Explains], empty_signals())
    assert [(one.rule, one.suppresses) for one in found] == [(told[0].rule, ("data-symptom",))]


@pytest.mark.parametrize(
    ("rule", "severity", "left"),
    [
        ("data-workers-under", "critical", False),
        ("data-workers-under", "info", True),
        ("loop-gc", "critical", True),
    ],
)
def test_where_the_run_knows_the_cause_better_the_trace_is_silent(tmp_path, rule, severity, left):
    told = diagnose(with_trace(tmp_path)).findings[:1]
    assert told[0].rule == "data-device-starved"
    own = replace(told[0], rule=rule, severity=severity)
    found = run_traces.with_traces([own], told, chosen_rules(), empty_signals())
    assert ("data-device-starved" in [one.rule for one in found]) is left


@pytest.mark.parametrize("severity", ["critical", "warn", "info"])
def test_devices_that_take_turns_are_told_once(tmp_path, severity):
    """By the trace, or by the samples of the whole run."""
    template = diagnose(with_trace(tmp_path)).findings[0]
    turns = replace(template, rule="dist-taking-turns", severity="critical", share=0.5)
    naive = replace(template, rule="dist-naive-mp", severity=severity, share=0.4)
    found = run_traces.with_traces([naive], [turns], chosen_rules(), empty_signals())
    kept = "dist-taking-turns" if severity == "info" else "dist-naive-mp"
    assert [one.rule for one in found] == [kept]


def test_a_fault_that_one_step_explains_is_a_note(tmp_path):
    """A quarter of three steps: all of it may lie in one."""
    (finding,) = [
        one
        for one in diagnose(with_trace(tmp_path, wait_us=250)).findings
        if one.rule == "data-device-starved"
    ]
    assert finding.severity == "info"
    assert finding.share == pytest.approx(0.25, abs=0.02)


def empty_signals():
    from trainprof.profiler.model.signals import Signals

    return Signals()


def test_the_steps_of_a_window_count_in_no_timing():
    """Every tenth step takes ten times as long, under a window that says so."""

    def phases(index):
        return {"forward": 50.0 if index % 10 == 0 else 5.0}

    steps = build_steps(400, phases)
    starts, walls = steps.columns["start_ns"], steps.columns["wall_ns"]
    windows = [Event("window", starts[at], walls[at], {"number": 1}) for at in range(0, 400, 10)]
    built = build_trainer(steps, facts=[LOADER, MODEL], events=windows)
    disturbed = build_run(build_trainer(steps, facts=[LOADER, MODEL]))
    assert diagnose(build_run(built)).steps.mean_s == pytest.approx(0.005)
    assert diagnose(disturbed).steps.mean_s > 0.009
