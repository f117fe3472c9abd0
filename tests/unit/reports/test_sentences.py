from dataclasses import replace

import pytest

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Evidence,
    Finding,
    Gain,
    Overhead,
    PhaseTime,
    RankSummary,
    RunSummary,
    SkippedRule,
    StepSummary,
    ThreadTime,
)
from trainprof.reports import sentences, trace_sentences


@pytest.mark.parametrize("name", ["thread 7 (python)", "7 (python)"])
def test_the_training_thread_is_called_a_thread_once(name):
    told = trace_sentences.thread_heading(ThreadTime(name, "2 whole steps", 1.5, {}))
    assert told == "Training thread 7 (python): shares of 2 whole steps, 1.5 s"


def diagnosis(status="complete", steps=100, **fields):
    run = RunSummary(status=status, wall_s=12.3, exit_status=fields.pop("exit_status", None))
    summary = StepSummary(steps, steps)
    return Diagnosis(1, "run", run, "healthy", "Healthy.", summary, **fields)


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (RunSummary("complete", wall_s=12.3), "complete in 12.3 s"),
        (RunSummary("complete"), "complete"),
        (RunSummary("crashed", exit_status=1, wall_s=3), "crashed with exit status 1 after 3 s"),
        (RunSummary("crashed", exit_status=137), "crashed, killed by SIGKILL"),
        (RunSummary("crashed"), "crashed"),
        (RunSummary("stopped", stopped_by="steps"), "stopped by --steps"),
        (RunSummary("stopped", stopped_by="SIGINT", wall_s=2), "stopped by SIGINT after 2 s"),
        (RunSummary("running", wall_s=90), "still running after 90 s"),
    ],
)
def test_ending(run, text):
    assert sentences.ending(run) == text


def test_caution_only_where_the_run_did_not_end_by_itself():
    assert sentences.caution(diagnosis()) is None
    crashed = sentences.caution(diagnosis("crashed", exit_status=1))
    assert crashed is not None
    assert "exit status 1" in crashed
    assert "the 100 steps" in crashed
    killed = sentences.caution(diagnosis("incomplete", steps=1))
    assert killed.endswith("the one step seen until then.")
    assert sentences.caution(diagnosis("running", steps=0)) == "The run goes on; no step was seen."


def test_a_value_that_was_not_measured_is_left_out_of_the_header():
    lines = dict(sentences.run_lines(diagnosis()))
    assert lines == {"run": "complete in 12.3 s", "steps": "100 (100 steady)"}


def test_ranks_name_the_slowest_and_those_not_seen():
    ranks = (RankSummary(0, 1, 10, 0.04), RankSummary(1, 2, 10, 0.05))
    lines = dict(sentences.run_lines(diagnosis(ranks=ranks)))
    assert lines["ranks"] == "2 · mean step 40 ms (rank 0) to 50 ms (rank 1)"
    run = RunSummary("complete", world_size=4)
    seen = Diagnosis(1, "run", run, "healthy", "", StepSummary(1, 1), ranks=ranks)
    assert dict(sentences.run_lines(seen))["ranks"].startswith("4, 2 seen")


def test_like_reasons_are_folded():
    skipped = tuple(SkippedRule(f"rule-{index}", "no GPU") for index in range(7))
    lines = sentences.unseen(
        diagnosis(
            skipped_rules=(*skipped, SkippedRule("other", "too few steps")),
            collectors=(
                CollectorStatus("gpu", "missing", "no driver"),
                CollectorStatus("host", "ok", "fine"),
            ),
        )
    )
    assert lines == [
        "gpu missing: no driver",
        "7 rules skipped (rule-0, rule-1, rule-2, rule-3 and 3 more): no GPU",
        "1 rule skipped (other): too few steps",
    ]


def test_remarks_name_what_was_ignored_first():
    ignored = tuple(Finding(rule, "warn", "t", "s", ()) for rule in ("loop-gc", "loop-gc", "a-b"))
    lines = sentences.remarks(diagnosis(ignored=ignored, problems=("steps.jsonl is torn.",)))
    assert lines == [
        "3 findings ignored by a comment in the source: a-b, loop-gc",
        "steps.jsonl is torn.",
    ]
    assert sentences.remarks(diagnosis()) == []


def test_a_gap_that_the_report_shows_elsewhere_is_not_told_again():
    missing = {
        "findings.0.gain": "no model",
        "steps.samples_per_s": "no batch size",
        "steps.phases.h2d": "no device",
        "steps.phases.gc.cpu_s_per_step": "not read",
        "steps.phases.forward.cpu_s_per_step": "not read",
        "steps.phases.forward.blocked_s_per_step": "not read, and no schedstat",
    }
    phases = {"gc": PhaseTime(0.001, 1e-5), "forward": PhaseTime(0.999, 1e-2)}
    steps = StepSummary(100, 90, 0.01, phases=phases)
    lines = sentences.unseen(replace(diagnosis(missing=missing), steps=steps))
    assert lines == [
        "1 value missing (steps.samples_per_s): no batch size",
        "1 value missing (steps.phases.h2d): no device",
        "1 value missing (thread states of forward): not read",
    ]


def test_many_reasons_end_in_a_count():
    skipped = tuple(SkippedRule(f"rule-{index}", f"reason {index}") for index in range(9))
    assert sentences.unseen(diagnosis(skipped_rules=skipped))[-1] == (
        "5 more rules skipped, for other reasons"
    )


def test_evidence_tells_signal_value_threshold_and_source():
    evidence = Evidence("step.data_wait.share", 0.48, "share", 0.1, "290 steps")
    assert sentences.evidence_line(evidence) == (
        "step.data_wait.share = 48 % (threshold 10 %; 290 steps)"
    )
    assert sentences.evidence_line(Evidence("loader.num_workers", 0, "count")) == (
        "loader.num_workers = 0"
    )


def test_gain_tells_what_bounds_the_step_next():
    finding = Finding(
        "r", "warn", "t", "s", (), gain=Gain(1.4, 2.1), recoverable_s_per_step=0.0172,
        next_bottleneck="backward",
    )  # fmt: skip
    assert sentences.gain_line(finding) == (
        "1.4-2.1x faster steps (about 17.2 ms a step less, medium confidence); "
        "what bounds the step then: backward"
    )
    assert sentences.gain_line(Finding("r", "warn", "t", "s", ())) == (
        "no speed-up predicted (medium confidence)"
    )


@pytest.mark.parametrize(
    ("overhead", "text"),
    [
        (Overhead(0.004, "hooks timed"), "0.4 % of a step (hooks timed)"),
        (Overhead(None, "no step was seen"), "not measured (no step was seen)"),
        (Overhead(None, "not measured"), "not measured"),
        (Overhead(None, "not measured: it was killed"), "not measured: it was killed"),
        (Overhead(None, ""), "not measured"),
    ],
)
def test_overhead(overhead, text):
    assert sentences.overhead_line(diagnosis(overhead=overhead)) == text
