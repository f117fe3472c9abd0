"""Every report gets the same diagnoses: none fails, leaks control codes or invents a number."""

import json
import math
import re
import shlex
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from trainprof.cli.main import COMMANDS
from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.diagnosis import (
    Bucket,
    CriticalPathTime,
    DeviceTime,
    Diagnosis,
    Evidence,
    Finding,
    FixAdvice,
    Gain,
    KernelTime,
    Location,
    OperatorDevice,
    OperatorTime,
    OperatorTimes,
    Overhead,
    OwnTime,
    PhaseTime,
    RankSummary,
    RunSummary,
    Series,
    SimulatedChange,
    SkippedRule,
    StepSummary,
)
from trainprof.reports.github import GithubReport
from trainprof.reports.json_report import JsonReport, diagnosis_schema
from trainprof.reports.markdown import MarkdownReport
from trainprof.reports.next_commands import next_commands
from trainprof.reports.terminal import TerminalReport

RUN = RunSummary(
    status="complete",
    name="train",
    path="trainprof-runs/20260101-120000-train",
    argv=("train.py", "--epochs", "3"),
    cwd="/nowhere/project",
    started_unix_s=1_767_268_800.0,
    wall_s=12.34,
    exit_status=0,
    python="3.11.7",
    torch="2.13.0",
    device="cpu",
    sessions=1,
    startup_s=2.1,
)
PHASES = {
    "data_wait": PhaseTime(0.482, 0.0198, 0.012, 0.003, 0.0048),
    "h2d": PhaseTime(0.0, 0.0),
    "forward": PhaseTime(0.2, 0.0082, 0.008, 0.0002, 0.0),
    "loss": PhaseTime(0.02, 0.0008, inferred=True),
    "backward": PhaseTime(0.25, 0.0103),
    "optimizer": PhaseTime(0.04, 0.0016),
    "gc": PhaseTime(0.003, 0.0001),
    "residual": PhaseTime(0.005, 0.0002),
}
STEPS = StepSummary(312, 290, 0.0412, 0.0398, 0.0429, 776.4, PHASES)
FIX = FixAdvice(
    fix="loader-workers",
    params={"num_workers": 2},
    safety="numerics",
    text="Let 2 worker processes prepare the batches while the model trains.",
    code="loader = DataLoader(dataset, batch_size=32, num_workers=2, persistent_workers=True)",
)
FINDING = Finding(
    rule="data-workers-under",
    severity="critical",
    title="Too few loader workers",
    summary="Each step waits 19.8 ms (48 %) for its next batch: one process prepares them all.",
    evidence=(
        Evidence("step.data_wait.share", 0.482, "share", 0.1, "marks of 290 steps"),
        Evidence("loader.num_workers", 0, "count", source="DataLoader constructor"),
        Evidence("host.idle_cores", 3.2, "cores", 1.0),
    ),
    where=Location("/nowhere/project/train.py", 34, "main"),
    share=0.482,
    recoverable_s_per_step=0.0172,
    gain=Gain(1.41, 2.08),
    confidence="high",
    fixes=(FIX,),
    suppresses=("loop-threads",),
    next_bottleneck="backward",
)
HEALTHY = Diagnosis(
    schema=1,
    source="run",
    run=RUN,
    verdict="healthy",
    headline="Healthy: nothing worth changing in 290 steady steps.",
    steps=STEPS,
    collectors=(CollectorStatus("steps", "ok"), CollectorStatus("host", "ok")),
    overhead=Overhead(0.004, "hooks timed at the end of the run"),
)
ONE_FINDING = replace(
    HEALTHY,
    verdict="bottleneck",
    headline="48 % of each step waits for the next batch.",
    findings=(FINDING,),
    skipped_rules=(
        SkippedRule("mem-leak-graph", "fewer than 200 steps"),
        SkippedRule("loop-contention", "the kernel has no /proc/pressure"),
    ),
    missing={"steps.phases.h2d": "the run used no device"},
    collectors=(CollectorStatus("gpu", "missing", "no NVIDIA driver on this machine"),),
    series=(Series("step_s", "s", (Bucket(0.0, 0.04, 0.041, 0.05),)),),
)
NO_STEPS = Diagnosis(
    schema=1,
    source="run",
    run=replace(RUN, status="crashed", exit_status=1),
    verdict="insufficient",
    headline="Not enough evidence: the script never imported torch.",
    steps=StepSummary(0, 0),
    missing={"steps.mean_s": "no step was seen", "steps.samples_per_s": "no step was seen"},
)
NASTY = (
    "</script><img src=x onerror=alert(1)> [red]red[/red] [/] \x1b[31mansi\x1b]0;title\x07\r\n"
    "::error::injected **bold** `code` | cell \u202egnol \udcff <!-- @all "
)
LONG = "n" * 100_000
HOSTILE_FINDING = Finding(
    rule=NASTY,
    severity=NASTY,
    title=NASTY,
    summary=NASTY,
    evidence=(Evidence(NASTY, NASTY, NASTY, NASTY, NASTY), Evidence(LONG, LONG, LONG, LONG, LONG)),
    where=Location(f"/nowhere/{NASTY}.py", 3, NASTY),
    gain=Gain(0.97, 1.05),
    confidence=NASTY,
    fixes=(FixAdvice(NASTY, {NASTY: NASTY}, NASTY, NASTY, f"{NASTY}\n```\n{LONG}"),),
    suppresses=(NASTY, LONG),
    next_bottleneck=NASTY,
)
HOSTILE = replace(
    ONE_FINDING,
    run=replace(
        RUN,
        status=NASTY,
        name=NASTY,
        path=NASTY,
        argv=(NASTY, LONG),
        cwd=NASTY,
        python=NASTY,
        torch=LONG,
        device=NASTY,
        stopped_by=NASTY,
    ),
    verdict=NASTY,
    headline=NASTY + LONG,
    findings=(HOSTILE_FINDING, replace(FINDING, rule=LONG, summary=LONG)),
    steps=replace(STEPS, phases={NASTY: PhaseTime(0.5, 0.02), "forward": PhaseTime(0.5, 0.02)}),
    skipped_rules=(SkippedRule(NASTY, NASTY), SkippedRule(LONG, LONG)),
    missing={NASTY: NASTY},
    collectors=(CollectorStatus(NASTY, NASTY, NASTY),),
    overhead=Overhead(None, NASTY),
    facts={NASTY: [NASTY]},
    problems=(NASTY, LONG),
    ignored=(HOSTILE_FINDING,),
)
NOT_A_NUMBER = replace(
    ONE_FINDING,
    run=replace(RUN, wall_s=math.nan),
    steps=StepSummary(30, 30, math.nan, math.nan, math.inf, math.nan, {}),
    findings=(
        replace(
            FINDING,
            evidence=(Evidence("a", math.nan, "s", math.inf),),
            gain=Gain(math.nan, math.inf),
            recoverable_s_per_step=math.nan,
        ),
    ),
    overhead=Overhead(math.nan, "hooks"),
)
GRADES = ("critical", "warn", "info")
TRACE = Diagnosis(
    schema=1,
    source="trace",
    run=RunSummary("complete", name="rank0.pt.trace.json.gz", path="rank0.pt.trace.json.gz"),
    verdict="bottleneck",
    headline=FINDING.summary,
    steps=StepSummary(6, 6, 0.175),
    findings=(FINDING,),
    devices=(
        DeviceTime(
            "0 (Tesla V100-SXM2-32GB)",
            "6 whole steps",
            1.05,
            {"compute": 0.55, "exposed communication": 0.0, "exposed copies": 0.011, "idle": 0.439},
            {"data wait": 0.34, "operator": 0.085, "other work of the host": 0.014},
        ),
    ),
    kernels=(
        KernelTime(
            "convolution",
            "void cudnn::detail::dgrad_engine<float, 512, 6>(int, float const*)",
            1186,
            0.382,
            {"fp32": 0.62, "fp16": 0.38},
            0.38,
            "aten::convolution_backward",
        ),
        KernelTime("matrix product", "volta_sgemm_64x64_tn", 347, 0.25, {"fp32": 1.0}, 0.0),
        KernelTime("pooling", "max_pool", 9, 0.004, {"fp32": 1.0}),
    ),
    operators=OperatorTimes(
        "6 whole steps",
        1.05,
        OperatorDevice("0 (Tesla V100-SXM2-32GB)", 0.0071),
        89,
        (
            OperatorTime(
                "aten::mm",
                347,
                OwnTime(0.0121, 0.0115),
                OwnTime(0.145, 0.138),
                "[[64, 32], [32, 16]]",
                3,
            ),
            OperatorTime(
                "aten::copy_", 1600, OwnTime(0.0574, 0.0547), OwnTime(0.00318, 0.00303), None, 0
            ),
        ),
    ),
    critical_path=CriticalPathTime(
        "6 whole steps", 1.07, {"data wait": 0.39, "operator": 0.35, "computation": 0.26}
    ),
    what_if=(
        SimulatedChange(
            "no-data-wait", "no wait for batches", Gain(1.24, 1.5), 0.128, "computation | device"
        ),
    ),
)
SCENARIOS = {
    "healthy": HEALTHY,
    "insufficient": replace(
        HEALTHY,
        verdict="insufficient",
        headline="Not enough evidence: 12 steady steps, 20 are needed.",
        steps=replace(STEPS, count=14, steady=12),
    ),
    "no steps": NO_STEPS,
    "lost collector": replace(
        NO_STEPS, collectors=(CollectorStatus("steps", "failed", "the disk is full"),)
    ),
    "one finding": ONE_FINDING,
    "a trace": TRACE,
    "twelve findings": replace(
        ONE_FINDING,
        findings=tuple(
            replace(FINDING, rule=f"loop-rule-{index}", severity=GRADES[index % 3])
            for index in range(12)
        ),
    ),
    "hostile": HOSTILE,
    "not a number": NOT_A_NUMBER,
    "missing everything": Diagnosis(1, "run", RunSummary("incomplete"), "insufficient", "", STEPS),
    "bare finding": replace(
        ONE_FINDING, findings=(Finding("loop-gc", "warn", "Collections", "", ()),)
    ),
    "several sessions": replace(ONE_FINDING, other_sessions=(HEALTHY, NO_STEPS)),
    "several ranks": replace(
        ONE_FINDING,
        run=replace(RUN, world_size=4),
        ranks=tuple(RankSummary(rank, 100 + rank, 312, 0.04 + rank / 1e3) for rank in range(3)),
    ),
    "crashed": replace(ONE_FINDING, run=replace(RUN, status="crashed", exit_status=137)),
    "running": replace(ONE_FINDING, run=replace(RUN, status="running", wall_s=None)),
    "ignored": replace(HEALTHY, ignored=(FINDING, replace(FINDING, rule="loop-gc"))),
}
REPORTS = {
    "terminal 80": TerminalReport(width=80),
    "terminal 40": TerminalReport(width=40),
    "terminal styled": TerminalReport(width=100, styled=True),
    "terminal brief": TerminalReport(brief=True),
    "json": JsonReport(),
    "markdown": MarkdownReport(),
    "github": GithubReport(),
}
PROSE = [name for name in REPORTS if name != "json"]
COPYABLE = ("  --> ", "  trainprof ")
"""Lines left for the terminal to wrap, so that they can be copied whole."""
STYLE_CODE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(params=REPORTS)
def report_name(request):
    return request.param


@pytest.fixture(params=SCENARIOS)
def diagnosis(request):
    return SCENARIOS[request.param]


def test_text_is_one_that_any_stream_can_take(report_name, diagnosis):
    text = REPORTS[report_name].render(diagnosis)
    assert text.endswith("\n")
    text.encode("utf-8")
    visible = STYLE_CODE.sub("", text) if report_name == "terminal styled" else text
    controls = {character for character in visible if not character.isprintable()}
    allowed = {"\n", "\u202e"} if report_name == "json" else {"\n"}  # JSON is data, not prose
    assert controls <= allowed


def test_same_diagnosis_gives_the_same_text(report_name, diagnosis):
    report = REPORTS[report_name]
    assert report.render(diagnosis) == report.render(diagnosis)


@pytest.mark.parametrize("report_name", PROSE)
def test_a_gap_is_never_printed_as_a_number(report_name, diagnosis):
    text = REPORTS[report_name].render(diagnosis)
    assert not re.search(r"\b(nan|inf|None|null)\b", text.replace("n" * 20, ""))
    assert "0.00 " not in text


@pytest.mark.parametrize("report_name", PROSE)
def test_hostile_names_are_cut_and_never_become_markup(report_name):
    text = REPORTS[report_name].render(HOSTILE)
    assert len(text) < 60_000
    assert "n" * 1000 not in text
    assert not any(line.startswith("::error::") for line in text.splitlines())


def test_markdown_renders_to_the_text_and_no_markup_of_its_own():
    text = REPORTS["markdown"].render(HOSTILE)
    outside = re.sub(r"(?ms)^  (`{3,})python$.*?^  \1$|(`+).*?\2", "", text)
    for tag in re.findall(r"(?<!\\)<[^ \n]+", outside):
        assert re.fullmatch(r"</?(details|summary)>.*", tag)
    assert not re.search(r"(?<!\\)\[", outside)


def test_every_finding_is_named_with_its_severity_and_place(report_name):
    text = REPORTS[report_name].render(ONE_FINDING)
    shown = " ".join(STYLE_CODE.sub("", text).replace("\\", "").split())
    assert "data-workers-under" in shown
    assert "critical" in shown or "::error file=" in shown
    assert "/nowhere/project/train.py" in shown
    assert "48 %" in shown.replace("%25", "%")


def test_twelve_findings_are_all_there(report_name):
    text = REPORTS[report_name].render(SCENARIOS["twelve findings"])
    for index in range(12):
        assert f"loop-rule-{index}" in text


def test_every_training_of_a_command_is_shown(report_name):
    text = REPORTS[report_name].render(SCENARIOS["several sessions"])
    flat = " ".join(STYLE_CODE.sub("", text).split())
    for word in ("48 % of each step", "nothing worth changing", "never imported torch"):
        assert word in flat.replace("%25", "%")


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_no_line_is_wider_than_the_terminal(width, diagnosis):
    from rich.cells import cell_len

    text = TerminalReport(width=width).render(diagnosis)
    wrapped = (line for line in text.splitlines() if not line.startswith(COPYABLE))
    assert max(cell_len(line) for line in wrapped) <= width


def test_json_is_one_object_with_the_contract_keys(diagnosis):
    data = json.loads(JsonReport().render(diagnosis))
    assert {
        "schema", "source", "run", "verdict", "steps", "findings", "skipped_rules", "missing",
        "collectors", "overhead", "experiments",
    } <= set(data)  # fmt: skip
    assert {"count", "mean_s", "samples_per_s", "phases"} <= set(data["steps"])
    for finding in data["findings"]:
        assert {
            "rule", "severity", "title", "summary", "evidence", "where", "share",
            "recoverable_s_per_step", "gain", "confidence", "fixes", "suppresses",
        } <= set(finding)  # fmt: skip


def test_json_turns_what_is_no_number_into_null():
    data = json.loads(JsonReport().render(NOT_A_NUMBER), parse_constant=pytest.fail)
    assert data["steps"]["mean_s"] is None


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name != "hostile"])
def test_json_keeps_to_its_schema(name):
    data = json.loads(JsonReport().render(SCENARIOS[name]))
    if name == "not a number":  # null stands in a place of a number that is always measured
        data["findings"][0]["evidence"][0]["value"] = 0
        data["findings"][0]["gain"] = None
    jsonschema.Draft202012Validator(diagnosis_schema()).validate(data)


@pytest.mark.parametrize(
    ("key", "value"),
    [("verdict", "fine"), ("schema", 2), ("findings", None), ("steps", {"count": 1})],
)
def test_the_schema_refuses_what_is_no_diagnosis(key, value):
    data = {**json.loads(JsonReport().render(ONE_FINDING)), key: value}
    assert not jsonschema.Draft202012Validator(diagnosis_schema()).is_valid(data)


def test_the_published_schema_is_the_one_of_this_version():
    published = Path(__file__).parents[2] / "docs" / "diagnosis.schema.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(diagnosis_schema())), (
        "run `trainprof schema --out docs/diagnosis.schema.json`"
    )


def test_suggested_commands_exist(diagnosis):
    for command, _ in next_commands(diagnosis):
        program, name, *_ = shlex.split(command)
        assert program == "trainprof"
        assert name in COMMANDS


@pytest.mark.parametrize("report_name", ["terminal 80", "markdown"])
def test_a_trace_shows_its_critical_path_and_what_changes_would_do(report_name):
    text = " ".join(REPORTS[report_name].render(TRACE).replace("\\", "").split())
    assert "Critical path: shares of 6 whole steps, 1.07 s" in text
    for part in ("39 %", "417 ms", "no wait for batches", "1.2-1.5x", "128 ms", "computation |"):
        assert part in text


@pytest.mark.parametrize("report_name", ["terminal 80", "markdown"])
def test_a_trace_shows_what_its_devices_did(report_name):
    text = REPORTS[report_name].render(TRACE).replace("\\", "")
    assert "Device 0 (Tesla V100-SXM2-32GB): shares of 6 whole steps, 1.05 s" in text
    for part in ("compute", "55 %", "578 ms", "idle", "44 %", "data wait", "34 %", "357 ms"):
        assert part in text
    assert "exposed communication" not in text
    assert "trainprof itself" not in text


@pytest.mark.parametrize("report_name", ["terminal 80", "markdown"])
def test_a_trace_shows_which_kernels_its_device_ran(report_name):
    text = REPORTS[report_name].render(TRACE).replace("\\", "")
    assert "shares of the time in which the device was busy" in text
    for part in (
        "convolution",
        "38 %",
        "1,186",
        "fp32 62 %",
        "convolution_backward:",
        "volta_sgemm_64x64",
    ):
        assert part in text
    assert "pooling" not in text
    assert "namespace" not in text
