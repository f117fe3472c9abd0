"""What a run has recorded so far as metric families of prometheus_client.

prometheus_client is imported here and nowhere else, in trainprof's own process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from prometheus_client import generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from trainprof.profiler.model.diagnosis import Diagnosis, Finding
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import GpuSample
from trainprof.reports.openmetrics.quantities import GPU, MACHINE, RANK, STEPS, Quantity, T
from trainprof.reports.openmetrics.run_so_far import (
    COUNTED_EVENTS,
    Machine,
    Ranks,
    RunSoFar,
    Trainer,
)
from trainprof.reports.run_clock import RunClock
from trainprof.reports.source import place
from trainprof.reports.text import SHORT, printable

MOST_RANKS = 64
"""Ranks of a training with all metrics, the lowest; the others have their steps alone. Each rank in
full is some 30 series, of which a server of Prometheus keeps some millions."""
MOST_TRAININGS = 8
"""The latest ones: elastic restarts, or trials in a shell script."""
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = openmetrics.CONTENT_TYPE_LATEST

Values = Iterable[tuple[Mapping[str, str], float | None]]
Labelled = Iterable[tuple[Mapping[str, str], Trainer]]


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def render(run: RunSoFar, as_openmetrics: bool) -> bytes:
    """The run in OpenMetrics 1.0, or in Prometheus's own text format 0.0.4."""
    write = openmetrics.generate_latest if as_openmetrics else generate_latest
    return write(_Families(families(run)))


def families(run: RunSoFar) -> Iterator[Metric]:
    """The metrics that have a value; what was not measured is left out."""
    found = chain(_of_run(run), _of_trainings(run), _of_machine(run.machine), _diagnosed(run))
    return (family for family in found if family.samples)


def _family(quantity: Quantity[T], values: Values) -> Metric:
    """One metric with the values that were measured."""
    kind = CounterMetricFamily if quantity.counts else GaugeMetricFamily
    family = kind(f"trainprof_{quantity.name}", quantity.meaning, unit=quantity.unit)
    suffix = "_total" if quantity.counts else ""
    for labels, value in values:
        if value is not None:
            family.add_sample(family.name + suffix, dict(labels), value)
    return family


def _plain(name: str, meaning: str, unit: str, values: Values, counts: bool = False) -> Metric:
    return _family(Quantity(name, meaning, unit, lambda _: None, counts), values)


def _of_run(run: RunSoFar) -> Iterator[Metric]:
    info = run.info
    trainer = next((one for ranks in run.trainings() for one in ranks.trainers), None)
    told = {
        "run": info.name,
        "trainprof": info.trainprof,
        "python": trainer and trainer.info.python,
        "torch": trainer and trainer.info.torch,
    }
    labels = {name: printable(text, SHORT) for name, text in told.items() if text}
    yield InfoMetricFamily("trainprof_run", "Which run this is.", labels)
    meaning = "When the run began, in Unix time."
    yield _plain("run_start_timestamp_seconds", meaning, "seconds", [({}, info.started_unix_s)])


def _of_trainings(run: RunSoFar) -> Iterator[Metric]:
    shown = run.trainings()[-MOST_TRAININGS:]
    ranks = [({"training": str(one.number)}, len(one.trainers)) for one in shown]
    yield _plain("ranks", "Processes that train together and have completed a step.", "", ranks)
    everybody = [one for ranks in shown for one in _labelled(ranks)]
    in_full = [one for ranks in shown for one in _labelled(ranks)[:MOST_RANKS]]
    for quantity in STEPS:
        yield _family(quantity, ((labels, quantity.read(one)) for labels, one in everybody))
    for quantity in RANK:
        yield _family(quantity, ((labels, quantity.read(one)) for labels, one in in_full))
    yield from _phases(in_full)
    yield from _events(in_full)
    yield from _of_processes(run, in_full)


def _labelled(ranks: Ranks) -> list[tuple[dict[str, str], Trainer]]:
    """The ranks with their labels; where they have no numbers, their places."""
    return [
        (
            {
                "training": str(ranks.number),
                "rank": str(number if one.info.rank is None else one.info.rank),
            },
            one,
        )
        for number, one in enumerate(ranks.trainers)
    ]


def _phases(ranks: Labelled) -> Iterator[Metric]:
    values = [
        ({**labels, "phase": phase}, one.phases_ns[number] / 1e9)
        for labels, one in ranks
        for number, phase in enumerate(PHASES)
        if phase not in one.unmeasured
    ]
    meaning = "Wall time of all steps by phase; the phases exclude each other."
    yield _plain("phase_seconds", meaning, "seconds", values, counts=True)


def _events(ranks: Labelled) -> Iterator[Metric]:
    seen = [
        ({**labels, "kind": kind}, one.events[kind])
        for labels, one in ranks
        for kind in COUNTED_EVENTS
        if kind in one.events
    ]
    counts = ((labels, count) for labels, (count, _) in seen)
    meaning = "Checkpoints, compilations, collections of garbage, and validations."
    yield _plain("events", meaning, "", counts, counts=True)
    lengths = ((labels, length_ns / 1e9) for labels, (_, length_ns) in seen)
    meaning = "How long they took, inside of steps and between them."
    yield _plain("event_seconds", meaning, "seconds", lengths, counts=True)


def _of_processes(run: RunSoFar, ranks: Labelled) -> Iterator[Metric]:
    clock = RunClock(run.info)
    ends = (
        (labels, run.info.started_unix_s + (one.last_end_ns + clock.of(one.info)) / 1e9)
        for labels, one in ranks
    )
    meaning = "When the latest step ended, in Unix time."
    yield _plain("last_step_timestamp_seconds", meaning, "seconds", ends)
    sample = run.machine.latest[-1] if run.machine.latest else None
    resident = {one.pid: one.rss_bytes for one in sample.processes} if sample else {}
    memory = (
        (labels, resident.get(one.info.pid) if one.info.host == run.info.host else None)
        for labels, one in ranks
    )
    meaning = "Resident memory of the training process."
    yield _plain("resident_memory_bytes", meaning, "bytes", memory)


def _of_machine(machine: Machine) -> Iterator[Metric]:
    meaning = "CPU time of all processes of the run, as far as they were seen."
    yield _plain("process_cpu_seconds", meaning, "seconds", [({}, machine.cpu_s)], counts=True)
    processes = len(machine.latest[-1].processes) if machine.latest else 0
    yield _plain("processes", "Processes of the run.", "", [({}, processes or None)])
    of_machine = [sample.machine for sample in machine.latest]
    for quantity in MACHINE:
        yield _family(quantity, [({}, _latest(of_machine, quantity))])
    of_gpus: dict[int, list[GpuSample]] = {}
    for gpu in (gpu for sample in machine.latest for gpu in sample.gpus):
        of_gpus.setdefault(gpu.index, []).append(gpu)
    devices = [({"device": str(index)}, of_gpus[index]) for index in sorted(of_gpus)]
    names = InfoMetricFamily("trainprof_gpu", "Which GPU a device is.")
    for labels, gpus in devices:
        told = {"name": _text(gpus[-1].name), "uuid": _text(gpus[-1].uuid)}
        names.add_sample("trainprof_gpu_info", {**labels, **told}, 1)
    yield names
    for of_gpu in GPU:
        yield _family(of_gpu, ((labels, _latest(gpus, of_gpu)) for labels, gpus in devices))


def _latest(readings: Sequence[T], quantity: Quantity[T]) -> float | None:
    """The value of the newest reading that has one."""
    values = (quantity.read(one) for one in reversed(readings))
    return next((value for value in values if value is not None), None)


def _text(value: str | None) -> str:
    return "" if value is None else printable(value, SHORT)


def _diagnosed(run: RunSoFar) -> Iterator[Metric]:
    if run.diagnosis is None:
        return
    diagnosis, at_unix_s = run.diagnosis
    meaning = "When the latest diagnosis was made, in Unix time."
    yield _plain("diagnosis_timestamp_seconds", meaning, "seconds", [({}, at_unix_s)])
    every = sorted((diagnosis, *diagnosis.other_sessions), key=lambda one: one.run.session)
    told = [({"training": str(one.run.session + 1)}, one) for one in every[-MOST_TRAININGS:]]
    verdicts = InfoMetricFamily("trainprof_diagnosis", "The verdict of the latest diagnosis.")
    for labels, one in told:
        labels_of_verdict = {**labels, "verdict": printable(one.verdict, SHORT)}
        verdicts.add_sample("trainprof_diagnosis_info", labels_of_verdict, 1)
    yield verdicts
    steady = ((labels, one.steps.mean_s) for labels, one in told)
    yield _plain("steady_step_seconds", "Mean steady step, as diagnosed.", "seconds", steady)
    yield from _findings(told)


def _findings(told: Iterable[tuple[Mapping[str, str], Diagnosis]]) -> Iterator[Metric]:
    """Findings by rule and place; of several at one place the first, which costs most."""
    found: dict[tuple[str, ...], tuple[dict[str, str], Finding]] = {}
    for labels, one in told:
        for finding in one.findings:
            of_finding = {
                **labels,
                "rule": printable(finding.rule, SHORT),
                "severity": printable(finding.severity, SHORT),
                "place": "" if finding.where is None else place(finding.where)[-SHORT:],
            }
            found.setdefault(tuple(of_finding.values()), (of_finding, finding))
    shares = ((labels, one.share) for labels, one in found.values())
    meaning = "Part of the step that the cause of a finding accounts for."
    yield _plain("finding_share_ratio", meaning, "ratio", shares)
    gains = ((labels, one.recoverable_s_per_step) for labels, one in found.values())
    meaning = "Time of each step that the fix of a finding would give back, as predicted."
    yield _plain("finding_recoverable_seconds", meaning, "seconds", gains)
    names = InfoMetricFamily("trainprof_finding", "What was found, in a few words.")
    for labels, finding in found.values():
        names.add_sample("trainprof_finding_info", {**labels, "title": _text(finding.title)}, 1)
    yield names
