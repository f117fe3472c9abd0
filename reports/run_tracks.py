"""A recorded run as tracks: steps, phases, events, loader workers and what the machine did."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import Fetch, MicroBatch, Sample
from trainprof.profiler.model.run import MISSING, ProcessRecord, Run, Session
from trainprof.profiler.model.tracks import CounterTrack, Slice, Track, apart
from trainprof.reports.machine_readings import GPU, MACHINE
from trainprof.reports.perfetto import finding_slices
from trainprof.reports.run_clock import RunClock

PLACE = "machine"


def run_tracks(run: Run, diagnosis: Diagnosis) -> Iterator[Track | CounterTrack]:
    """All tracks of a run.

    Times are ns since the run began, on one clock for all machines.
    """
    clock = RunClock(run.info)
    for number, session in enumerate(run.sessions, 1):
        training = f"training {number}, " if len(run.sessions) > 1 else ""
        found = _diagnosis_of(diagnosis, number - 1)
        for trainer in session.trainers:
            rank = trainer.info.rank
            name = f"{training}{_process(trainer) if rank is None else f'rank {rank}'}"
            yield from _trainer(trainer, name, clock, found)
        yield from _workers(session, training, clock)
    yield from _machine(run.samples, clock)


def _diagnosis_of(diagnosis: Diagnosis, session: int) -> Diagnosis | None:
    every = (diagnosis, *diagnosis.other_sessions)
    return next((one for one in every if one.run.session == session), None)


def _process(process: ProcessRecord) -> str:
    return f"process {process.info.pid}"


def _trainer(
    trainer: ProcessRecord, name: str, clock: RunClock, found: Diagnosis | None
) -> Iterator[Track | CounterTrack]:
    shift_ns = clock.of(trainer.info)
    columns = trainer.steps.columns
    if len(trainer.steps):
        first = columns["start_ns"][0] + shift_ns
        last = columns["start_ns"][-1] + columns["wall_ns"][-1] + shift_ns
        if found is not None and found.findings:
            yield Track(name, "findings", finding_slices(found, first, last))
        start = [Slice("start-up", trainer.info.started_ns + shift_ns, first)]
        yield Track(name, "start-up", start)
        yield Track(name, "steps", _steps(trainer, shift_ns))
        yield Track(name, "phases, one after another", _phases(trainer, shift_ns))
    if trainer.micro:
        yield Track(name, "micro-batches", _micro_batches(trainer, shift_ns))
    yield from _events(trainer, name, shift_ns)
    points = ((one.at_ns + shift_ns, float(one.rss_bytes)) for one in trainer.memory)
    yield CounterTrack(name, "resident memory (bytes)", points)


def _steps(trainer: ProcessRecord, shift_ns: int) -> Iterator[Slice]:
    """The steps; `told` holds what was measured beside their times."""
    columns = trainer.steps.columns
    names = ("samples", "micro_batches", "cpu_ns", "run_queue_ns")
    rows = zip(
        columns["index"],
        columns["start_ns"],
        columns["wall_ns"],
        *(columns[name] for name in names),
        strict=True,
    )
    for index, start_ns, wall_ns, *values in rows:
        measured = zip(names, values, strict=True)
        told = {name: value for name, value in measured if value != MISSING}
        begin = start_ns + shift_ns
        yield Slice(f"step {index}", begin, begin + wall_ns, told)


def _phases(trainer: ProcessRecord, shift_ns: int) -> Iterator[Slice]:
    """How long each phase of a step was, in the order of reports: their places are not recorded."""
    columns = trainer.steps.columns
    lengths = zip(*(columns[f"{phase}_ns"] for phase in PHASES), strict=True)
    for start_ns, of_phases in zip(columns["start_ns"], lengths, strict=True):
        yield from _in_turn(PHASES, of_phases, start_ns + shift_ns)


def _in_turn(names: Sequence[str], lengths_ns: Sequence[int], begin: int) -> Iterator[Slice]:
    for name, length_ns in zip(names, lengths_ns, strict=True):
        if length_ns > 0:
            yield Slice(name.replace("_", " "), begin, begin + length_ns)
            begin += length_ns


def _micro_batches(trainer: ProcessRecord, shift_ns: int) -> Iterator[Slice]:
    for step in trainer.micro:
        for number, one in enumerate(trainer.micro[step], 1):
            begin = one.start_ns + shift_ns
            yield Slice(f"step {step}, micro-batch {number}", begin, begin + one.wall_ns)
            yield from _in_turn(*_micro_phases(one), begin)


def _micro_phases(one: MicroBatch) -> tuple[Sequence[str], Sequence[int]]:
    lengths = (one.data_wait_ns, one.forward_ns, one.backward_ns)
    return ("data_wait", "forward", "backward"), lengths


def _events(process: ProcessRecord, name: str, shift_ns: int) -> Iterator[Track]:
    kinds: dict[str, list[Slice]] = {}
    for one in process.events:
        if one.is_summary:
            continue
        begin = one.start_ns + shift_ns
        slices = kinds.setdefault(one.kind, [])
        slices.append(Slice(one.kind, begin, begin + one.duration_ns, one.data))
    for kind, slices in kinds.items():
        for row, of_row in apart(kind.replace("_", " "), slices):
            yield Track(name, row, of_row)


def _workers(session: Session, training: str, clock: RunClock) -> Iterator[Track]:
    """A row for each process of a loader that made a batch."""
    for worker in session.workers:
        if not len(worker.fetches):
            continue
        number = worker.fetches[0].worker
        slices = (_batch(one, clock.of(worker.info)) for one in worker.fetches)
        row = f"worker {number}, {_process(worker)}"
        yield Track(f"{training}loader workers", row, slices)


def _batch(one: Fetch, shift_ns: int) -> Slice:
    begin = one.start_ns + shift_ns
    return Slice(
        "batch", begin, begin + one.wall_ns, {"samples": one.samples, "cpu_ns": one.cpu_ns}
    )


def _machine(samples: Sequence[Sample], clock: RunClock) -> Iterator[CounterTrack]:
    shift_ns = clock.supervisor
    for reading in MACHINE:
        values = [(one.at_ns + shift_ns, reading.read(one.machine)) for one in samples]
        yield CounterTrack(PLACE, reading.title, _measured(values))
    for index in sorted({gpu.index for one in samples for gpu in one.gpus}):
        own = [(one.at_ns + shift_ns, gpu) for one in samples for gpu in one.gpus
               if gpu.index == index]  # fmt: skip
        for one_of_gpu in GPU:
            told = [(at_ns, one_of_gpu.read(gpu)) for at_ns, gpu in own]
            yield CounterTrack(PLACE, f"GPU {index} {one_of_gpu.title}", _measured(told))


def _measured(values: Sequence[tuple[int, float | None]]) -> Iterator[tuple[int, float]]:
    return ((at_ns, float(value)) for at_ns, value in values if value is not None)
