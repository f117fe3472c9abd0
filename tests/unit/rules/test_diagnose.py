"""The whole way from a run to its diagnosis, and what a reader of its JSON may rely on."""

import json
import math
import subprocess
import sys
import time
from dataclasses import fields, is_dataclass, replace
from typing import get_args, get_type_hints

import jsonschema
import msgspec
import pytest
from builders import (
    MS,
    SECOND,
    START_NS,
    build_fetches,
    build_process,
    build_run,
    build_samples,
    build_steps,
    build_trainer,
    build_worker,
)

from trainprof.errors import UsageError
from trainprof.profiler.model import diagnosis as records
from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import (
    EPOCH_BOUNDARY,
    NO_LOADER,
    Event,
    LossValue,
    MemoryPoint,
    QueueDepth,
)
from trainprof.profiler.model.run import Session
from trainprof.reports.json_report import diagnosis_schema
from trainprof.rules.diagnose import diagnose
from trainprof.rules.nulls import REASONS
from trainprof.rules.series import MOST_BUCKETS

WAITING = {"data_wait": 34.0, "forward": 2.0, "backward": 3.0, "optimizer": 1.0}
COMPUTING = {"data_wait": 0.1, "forward": 4.0, "backward": 5.0, "optimizer": 0.3}
WHERE = {"file": "train.py", "line": 61, "function": "main"}
FLAGS = ("flags", "steady", {"anomaly_enabled": False, "num_threads": 1, "gc_enabled": True})
MODEL = (
    "model",
    "m0",
    {
        "type": "Net",
        "trained": True,
        "parameter_count": 1_000_000,
        "dtypes": {"float32": 1_000_000},
        "devices": {"cpu": 1_000_000},
    },
)


def loader(**values):
    data = {"role": "training", "num_workers": 0, "iterable": False, "where": WHERE}
    return ("loader", "l0", data | values)


def slow_storage(count=200):
    """No workers, and samples that wait for a server."""
    return build_run(
        build_trainer(
            build_steps(count, WAITING, cpu_share=0.15, run_queue_share=0.01),
            facts=[loader(), FLAGS, MODEL],
        ),
        samples=build_samples(count * 40 // 1_000 + 1, own_cores=0.2, busy_share=0.05),
    )


def healthy(count=1_000, **run):
    trainer = build_trainer(
        build_steps(count, COMPUTING, cpu_share=0.98, run_queue_share=0.01),
        facts=[loader(), FLAGS, MODEL],
        losses=[LossValue(step, 1.0 / (step + 1)) for step in range(count)],
    )
    return build_run(
        trainer, samples=build_samples(count // 100, own_cores=1.0), **({"cores": 1} | run)
    )


def everything():
    """A run that has something of every kind."""
    count = 400
    facts = [
        loader(num_workers=2, prefetch_factor=2),
        FLAGS,
        MODEL,
        ("optimizer", "o0", {"type": "Adam", "parameter_count": 9, "groups": [{"lr": math.inf}]}),
        ("agent", "cost", {"hook_ns_per_step": 8_000, "thread_cpu_ns": 800_000, "steps": count}),
    ]
    events = [
        Event("loader_start", START_NS, 90 * MS, {"loader": "l0"}),
        Event("collector_failed", START_NS, 0, {"collector": "losses", "error": "KeyError: 3"}),
        Event("data_missing", START_NS, 0, {"reason": "no space left on the device"}),
    ]
    trainer = build_trainer(
        build_steps(
            count,
            WAITING | {"residual": 8.0},
            cpu_share=0.5,
            run_queue_share=0.1,
            flags=lambda index: EPOCH_BOUNDARY if index % 50 == 0 else 0,
        ),
        facts=facts,
        events=events,
        losses=[LossValue(step, float("nan") if step > 300 else 1.0) for step in range(count)],
        memory=[MemoryPoint(step, START_NS + step * MS, 10**9) for step in range(0, count, 20)],
        queue=[QueueDepth(step, "l0", MS, 0) for step in range(0, count, 16)],
        rank=0,
        world_size=2,
    )
    other = build_trainer(build_steps(count, WAITING), rank=1, world_size=2, pid=101)
    workers = [build_worker(build_fetches(100, 60.0, worker=n), pid=200 + n) for n in range(2)]
    return build_run(
        Session((trainer, other), tuple(workers)),
        samples=build_samples(15, own_cores=1.0, psi_share=0.5, gpu_share=0.4),
        collectors=(CollectorStatus("gpu", "missing", "no NVIDIA driver"),),
        notes=("The run folder is on a network file system.",),
        steps_limit=500,
    )


SITUATIONS = {
    "nothing was recorded": lambda: build_run(),
    "no step": lambda: build_run(build_trainer(build_steps(0, {}), seen={"backwards": 1})),
    "one step": lambda: build_run(build_trainer(build_steps(1, WAITING))),
    "ten steps": lambda: build_run(build_trainer(build_steps(10, WAITING))),
    "waits for data": slow_storage,
    "healthy": healthy,
    "everything": everything,
    "still running": lambda: healthy(status="running", ended_ns=None, exit_status=None),
    "no loader": lambda: build_run(
        build_trainer(build_steps(60, {"forward": 9.0}, samples=None, flags=NO_LOADER))
    ),
}


@pytest.fixture(params=SITUATIONS, name="diagnosed")
def _diagnosed(request):
    return diagnose(SITUATIONS[request.param]())


def as_json(diagnosis):
    return json.loads(msgspec.json.encode(diagnosis), parse_constant=pytest.fail)


class TestVerdicts:
    def test_waiting_for_data(self):
        diagnosis = diagnose(slow_storage())

        assert diagnosis.verdict == "bottleneck"
        first = diagnosis.findings[0]
        assert (first.rule, first.severity) == ("data-workers-under", "critical")
        assert diagnosis.headline == first.summary
        assert "85 %" in diagnosis.headline
        assert first.where == records.Location("train.py", 61, "main")
        assert first.recoverable_s_per_step > 0.02
        assert diagnosis.steps.phases["data_wait"].share == pytest.approx(0.85)

    def test_healthy(self):
        diagnosis = diagnose(healthy())

        assert diagnosis.verdict == "healthy"
        assert [f.rule for f in diagnosis.findings if f.severity != "info"] == []
        assert diagnosis.headline.startswith("Healthy")

    def test_too_few_steps(self):
        diagnosis = diagnose(slow_storage(12))

        assert diagnosis.verdict == "insufficient"
        assert diagnosis.headline == (
            "Not enough evidence, because only 7 steady steps were recorded; 20 are needed."
        )
        assert diagnosis.steps.mean_s == pytest.approx(0.040)

    def test_select_and_ignore(self):
        assert diagnose(slow_storage(), ignore=["data-workers-under"]).findings == ()
        chosen = diagnose(slow_storage(), select=["loop-gc"])
        assert {skipped.rule for skipped in chosen.skipped_rules} <= {"loop-gc"}
        with pytest.raises(UsageError):
            diagnose(slow_storage(), select=["data-unheard"])

    def test_the_same_run_gives_the_same_diagnosis(self):
        assert as_json(diagnose(everything())) == as_json(diagnose(everything()))


class TestNoSteps:
    @pytest.mark.parametrize(
        ("others", "run", "because"),
        [
            ([], {}, "no Python of this command loaded trainprof's agent"),
            ([], {"argv": ("python", "-I", "train.py")}, "Python was started with -I"),
            ([], {"argv": ("/bin/python3", "-u", "-sE", "train.py")}, "started with -sE"),
            ([], {"argv": ("python", "train.py", "-S")}, "no Python of this command"),
            ([], {"argv": ("python", "-X", "importtime", "-S", "t.py")}, "started with -S"),
            ([], {"argv": ("bash", "-S")}, "no Python of this command"),
            (["python"], {}, "the script never imported torch"),
            (["python", "other"], {}, "torch was imported, but no backward"),
            ([], {"status": "crashed", "exit_status": 3}, "ended with status 3 before its first"),
            ([], {"status": "running"}, "no step has been completed yet"),
        ],
    )
    def test_are_explained(self, others, run, because):
        diagnosis = diagnose(build_run(others=[build_process(role) for role in others], **run))

        assert diagnosis.verdict == "insufficient"
        assert because in diagnosis.headline
        assert diagnosis.headline.startswith("Not enough evidence, because ")

    def test_tell_what_was_seen_of_a_loop(self):
        process = build_process("other", seen={"asks": 12, "forwards": 3, "backwards": 0})

        headline = diagnose(build_run(others=[process])).headline

        assert "(12 batches asked for, 3 forwards)" in headline

    def test_of_a_training_that_ended_in_its_first_step(self):
        trainer = build_trainer(build_steps(0, {}), seen={"asks": 1, "backwards": 1})

        assert "training began but no step was completed" in diagnose(build_run(trainer)).headline


class TestWhatIsShown:
    def test_several_trainings(self):
        short = build_trainer(build_steps(30, COMPUTING), pid=1)
        longest = build_trainer(build_steps(900, COMPUTING), pid=2)
        last = build_trainer(build_steps(60, COMPUTING), pid=3)

        diagnosis = diagnose(build_run(short, longest, last))

        assert (diagnosis.steps.count, diagnosis.run.session, diagnosis.run.sessions) == (900, 1, 3)
        assert [(d.steps.count, d.run.session) for d in diagnosis.other_sessions] == [
            (30, 0),
            (60, 2),
        ]

    def test_states_of_phases_add_up(self):
        from trainprof.profiler.model.run import PhaseStates

        cpu, queue = [0] * len(PHASES), [0] * len(PHASES)
        cpu[PHASES.index("forward")], queue[PHASES.index("forward")] = MS, MS // 2
        run = build_run(
            build_trainer(
                build_steps(64, WAITING), states=[PhaseStates(32, tuple(cpu), tuple(queue))]
            )
        )

        forward = diagnose(run).steps.phases["forward"]

        assert forward.cpu_s_per_step == pytest.approx(0.001)
        assert forward.run_queue_s_per_step == pytest.approx(0.0005)
        assert forward.blocked_s_per_step == pytest.approx(0.0005)

    def test_phases_sum_to_the_step(self, diagnosed):
        if diagnosed.steps.count:
            assert sum(time.share for time in diagnosed.steps.phases.values()) == pytest.approx(1)
            total = sum(time.s_per_step for time in diagnosed.steps.phases.values())
            assert total == pytest.approx(diagnosed.steps.mean_s)

    def test_what_no_phase_claims_is_said_and_is_no_finding(self):
        phases = COMPUTING | {"residual": 3.0}

        diagnosis = diagnose(build_run(build_trainer(build_steps(200, phases))))

        assert any("24 % of the step (3 ms) was not attributed" in p for p in diagnosis.problems)
        assert not any("residual" in finding.rule for finding in diagnosis.findings)

    def test_problems_of_the_run_are_told(self):
        text = " ".join(diagnose(everything()).problems)

        assert "no space left on the device" in text
        assert "network file system" in text
        assert "after 400 steps, before the limit of 500" in text

    def test_no_steady_state_is_said(self):
        growing = build_steps(300, lambda index: {"forward": 5.0 + index / 20})

        diagnosis = diagnose(build_run(build_trainer(growing)))

        assert any("No steady state: step times grew by" in p for p in diagnosis.problems)

    def test_collectors(self):
        named = {status.name: status for status in diagnose(everything()).collectors}

        assert named["gpu"].reason == "no NVIDIA driver"
        assert named["agent"].status == "partial"
        assert named["agent: losses"].reason == "KeyError: 3"
        without = diagnose(build_run(others=[build_process("python")])).collectors
        assert [(c.name, c.status) for c in without] == [("agent", "missing")]

    def test_overhead_is_measured_or_null(self):
        measured, unknown = diagnose(everything()).overhead, diagnose(healthy()).overhead

        assert measured.share == pytest.approx((8_000 + 2_000) / 48e6)
        assert unknown.share is None
        assert unknown.method.startswith("not measured")

    def test_ranks(self):
        first, second = diagnose(everything()).ranks

        assert (first.rank, second.rank) == (0, 1)
        assert first.phases_share["residual"] == pytest.approx(8 / 48)
        assert second.mean_s == pytest.approx(0.040)

    def test_series_are_few_and_ordered(self):
        series = {one.name: one for one in diagnose(everything()).series}

        assert {"step_s", "samples_per_s", "data_wait_share", "loss", "rss_bytes"} <= set(series)
        assert {"cpu_busy_share", "gpu0.utilization_share"} <= set(series)
        assert "h2d_share" not in series
        for one in series.values():
            times = [bucket.t_s for bucket in one.buckets]
            assert times == sorted(times)
            assert 1 <= len(times) <= MOST_BUCKETS
            assert all(b.low <= b.mean <= b.high for b in one.buckets), one.name

    def test_series_begin_with_the_process_and_keep_extremes(self):
        steps = build_steps(5_000, lambda index: {"forward": 500.0 if index == 777 else 1.0})

        (series,) = [
            s for s in diagnose(build_run(build_trainer(steps))).series if s.name == "step_s"
        ]

        assert series.buckets[0].t_s == pytest.approx(2.0)
        assert max(bucket.high for bucket in series.buckets) == pytest.approx(0.5)
        mean = sum(bucket.mean for bucket in series.buckets) / len(series.buckets)
        assert mean == pytest.approx((4_999 + 500) / 5_000 / 1e3, rel=1e-6)

    def test_a_loss_that_is_no_number_is_left_out_of_its_series(self):
        (loss,) = [one for one in diagnose(everything()).series if one.name == "loss"]

        assert all(math.isfinite(bucket.mean) for bucket in loss.buckets)


class TestJson:
    def test_holds_the_promised_keys(self, diagnosed):
        shown = as_json(diagnosed)

        assert shown["schema"] == 1
        assert shown["source"] == "run"
        assert shown["verdict"] in ("bottleneck", "healthy", "insufficient")
        assert {"run", "steps", "findings", "skipped_rules", "missing", "collectors"} <= set(shown)
        assert {"overhead", "experiments", "headline"} <= set(shown)
        assert "status" in shown["run"]
        assert {"count", "mean_s", "samples_per_s", "phases"} <= set(shown["steps"])
        for phase, taken in shown["steps"]["phases"].items():
            assert phase in PHASES
            assert {"share", "s_per_step"} <= set(taken)
        for finding in shown["findings"]:
            assert {
                "rule", "severity", "title", "summary", "evidence", "where", "share",
                "recoverable_s_per_step", "gain", "confidence", "fixes", "suppresses",
            } <= set(finding)  # fmt: skip
            assert finding["evidence"]
            for evidence in finding["evidence"]:
                assert {"signal", "value", "unit", "threshold", "source"} <= set(evidence)
            for fix in finding["fixes"]:
                assert {"fix", "params", "safety"} <= set(fix)
        assert all({"rule", "reason"} <= set(rule) for rule in shown["skipped_rules"])
        assert {"share", "method"} <= set(shown["overhead"])

    def test_keeps_its_schema(self, diagnosed):
        jsonschema.validate(as_json(diagnosed), diagnosis_schema())

    def test_every_null_number_has_a_reason(self, diagnosed):
        nulls = set(_null_numbers(diagnosed, ""))

        assert nulls <= set(diagnosed.missing)
        for path, reason in diagnosed.missing.items():
            assert reason, path
            assert path in nulls or path.startswith("steps.phases.")

    def test_every_phase_is_there_or_missing(self, diagnosed):
        for phase in PHASES:
            assert (phase in diagnosed.steps.phases) != (
                f"steps.phases.{phase}" in diagnosed.missing
            )

    def test_findings_are_in_order_of_what_they_give_back(self, diagnosed):
        lost = [f.severity == "critical" and f.gain is None for f in diagnosed.findings]
        seconds = [f.recoverable_s_per_step for f in diagnosed.findings if f.gain is not None]

        assert lost == sorted(lost, reverse=True)  # what ends the training comes first
        assert seconds == sorted(seconds, reverse=True)

    def test_every_field_that_may_be_null_has_a_reason_in_store(self):
        """A new number in the records must say why it may be null."""
        classes = [c for c in vars(records).values() if is_dataclass(c) and isinstance(c, type)]
        for cls in classes:
            for name, hint in get_type_hints(cls).items():
                if _may_be_a_missing_number(hint) and cls is not records.Evidence:
                    assert (cls, name) in REASONS, f"{cls.__name__}.{name}"


def _may_be_a_missing_number(hint):
    kinds = get_args(hint)
    return type(None) in kinds and bool({int, float, records.Gain} & set(kinds))


def _null_numbers(value, path):
    """Paths of numbers that are null, found by the types of the records."""
    if is_dataclass(value):
        hints = get_type_hints(type(value))
        for field in fields(value):
            inner = getattr(value, field.name)
            here = f"{path}.{field.name}".lstrip(".")
            number = _may_be_a_missing_number(hints[field.name])
            if inner is None and number and not isinstance(value, records.Evidence):
                yield here
            elif field.name not in ("series", "other_sessions"):
                yield from _null_numbers(inner, here)
    elif isinstance(value, dict) and not path.startswith("facts"):
        for key, inner in value.items():
            yield from _null_numbers(inner, f"{path}.{key}")
    elif isinstance(value, tuple):
        for place, inner in enumerate(value):
            yield from _null_numbers(inner, f"{path}.{place}")


class TestCost:
    def test_ten_thousand_steps_take_less_than_a_second(self):
        """Of CPU time, with the imports, in a process of its own (0.3 s measured)."""
        script = (
            f"import sys, time; sys.path.insert(0, {str(__file__).rpartition('/')[0]!r})\n"
            "from builders import build_run, build_steps, build_trainer\n"
            "phases = {'data_wait': 3.0, 'forward': 4.0, 'backward': 3.0}\n"
            "run = build_run(build_trainer(build_steps(10_000, phases, cpu_share=0.5)))\n"
            "begin = time.process_time()\n"
            "from trainprof.rules.diagnose import diagnose\n"
            "diagnose(run)\n"
            "print(time.process_time() - begin)\n"
        )
        command = [sys.executable, "-c", script]

        seconds = min(
            float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            for _ in range(2)
        )

        assert seconds < 1.0

    def test_a_million_steps_take_less_than_five_seconds(self):
        trainer = build_trainer(build_steps(10_000, COMPUTING, cpu_share=0.9))
        columns = {name: column * 100 for name, column in trainer.steps.columns.items()}
        period_ns = int(trainer.steps.columns["wall_ns"][0]) * 10_000
        for place in range(1, 100):
            first = place * 10_000
            for name, shift in (("index", first), ("start_ns", place * period_ns)):
                for at in range(first, first + 10_000):
                    columns[name][at] += shift
        run = build_run(replace(trainer, steps=replace(trainer.steps, columns=columns)))
        begin = time.process_time()

        diagnosis = diagnose(run)

        assert time.process_time() - begin < 5.0
        assert diagnosis.steps.count == 1_000_000
        assert diagnosis.steps.phases["forward"].share == pytest.approx(4.0 / 9.4)
        assert columns["start_ns"][-1] > 9_000 * SECOND
