"""Builds runs as the store would read them back: steps of a given shape, facts, events, samples."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence

from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import (
    Event,
    Fact,
    Fetch,
    GpuSample,
    Hardware,
    LossValue,
    MachineSample,
    MemoryPoint,
    ProcessInfo,
    ProcessSample,
    QueueDepth,
    RunInfo,
    Sample,
)
from trainprof.profiler.model.run import (
    MISSING,
    STEP_COLUMNS,
    PhaseStates,
    ProcessRecord,
    Run,
    Session,
    Steps,
)

MS = 1_000_000
SECOND = 1_000_000_000
START_NS = 5 * SECOND
"""When the first step of a built trainer begins; its process began at `PROCESS_NS`."""
PROCESS_NS = 3 * SECOND

Phases = Mapping[str, float]
"""Milliseconds by phase; what is not named is zero."""


def build_steps(
    count: int,
    phases: Phases | Callable[[int], Phases],
    *,
    start_ns: int = START_NS,
    samples: int | None = 32,
    micro_batches: int = 1,
    flags: Callable[[int], int] | int = 0,
    inferred: int = 0,
    cpu_share: float | None = None,
    run_queue_share: float | None = None,
    read_every: int = 16,
) -> Steps:
    """Contiguous steps; `phases` may be a function of the step's index."""
    rows: dict[str, list[int]] = {name: [] for name in STEP_COLUMNS}
    now, unread = start_ns, 0
    for index in range(count):
        named = phases(index) if callable(phases) else phases
        times = {phase: round(named.get(phase, 0.0) * MS) for phase in PHASES}
        wall = sum(times.values())
        unread += wall
        read = cpu_share is not None and index % read_every == 0
        row = {
            "index": index,
            "start_ns": now,
            "wall_ns": wall,
            **{f"{phase}_ns": value for phase, value in times.items()},
            "cpu_ns": round(unread * (cpu_share or 0.0)) if read else MISSING,
            "run_queue_ns": MISSING,
            "micro_batches": micro_batches,
            "samples": MISSING if samples is None else samples,
            "flags": flags(index) if callable(flags) else flags,
            "inferred": inferred,
        }
        if read:
            if run_queue_share is not None:
                row["run_queue_ns"] = round(unread * run_queue_share)
            unread = 0
        for name, value in row.items():
            rows[name].append(value)
        now += wall
    return Steps({name: array("q", values) for name, values in rows.items()})


def build_trainer(
    steps: Steps,
    *,
    facts: Iterable[tuple[str, str, dict]] = (),
    events: Iterable[Event] = (),
    states: Sequence[PhaseStates] = (),
    losses: Sequence[LossValue] = (),
    queue: Sequence[QueueDepth] = (),
    memory: Sequence[MemoryPoint] = (),
    rank: int | None = None,
    world_size: int | None = None,
    pid: int = 100,
    seen: Mapping[str, int] | None = None,
) -> ProcessRecord:
    """The process that trains; `facts` are (kind, key, data)."""
    info = ProcessInfo(
        pid=pid,
        parent_pid=1,
        host="node",
        role="trainer",
        argv=("python", "train.py"),
        started_ns=PROCESS_NS,
        rank=rank,
        world_size=world_size,
        python="3.11.9",
        torch="2.13.0",
        seen=dict(seen or {}),
    )
    return ProcessRecord(
        info=info,
        folder=f"procs/node-{pid}",
        steps=steps,
        states=states,
        losses=losses,
        queue=queue,
        memory=memory,
        facts=tuple(Fact(kind, key, START_NS, data) for kind, key, data in facts),
        events=tuple(events),
    )


def build_worker(
    fetches: Sequence[Fetch], *, pid: int = 200, started_ns: int = START_NS
) -> ProcessRecord:
    """A DataLoader worker."""
    info = ProcessInfo(pid=pid, parent_pid=100, host="node", role="worker", started_ns=started_ns)
    return ProcessRecord(info=info, folder=f"procs/node-{pid}", fetches=fetches)


def build_process(role: str, **values: object) -> ProcessRecord:
    """A Python process that did not train: role "other" or "python"."""
    info = ProcessInfo(pid=300, parent_pid=1, host="node", role=role, **values)
    return ProcessRecord(info=info, folder="procs/node-300")


def build_fetches(
    count: int,
    wall_ms: float,
    cpu_ms: float | None = None,
    *,
    worker: int = 0,
    start_ns: int = START_NS,
    every_ms: float | None = None,
) -> list[Fetch]:
    """Batches one after the other (or begun every so often), of 32 samples."""
    pace = round((every_ms or wall_ms) * MS)
    cpu = wall_ms if cpu_ms is None else cpu_ms
    return [
        Fetch(worker, start_ns + place * pace, round(wall_ms * MS), round(cpu * MS), 32)
        for place in range(count)
    ]


def build_samples(
    seconds: int,
    *,
    start_ns: int = START_NS,
    busy_share: float | None = 0.25,
    own_cores: float = 1.0,
    logical_cores: int = 4,
    psi_share: float = 0.0,
    throttled_share: float = 0.0,
    available_bytes: int = 8 * 2**30,
    rss_bytes: int = 2**29,
    pid: int = 100,
    gpu_share: float | None = None,
) -> tuple[Sample, ...]:
    """One look a second at a machine where the run's only process uses `own_cores`."""
    return tuple(
        Sample(
            at_ns=start_ns + second * SECOND,
            machine=MachineSample(
                cpu_busy_share=busy_share,
                cpu_busy_per_core=(busy_share or 0.0,) * logical_cores,
                memory_total_bytes=16 * 2**30,
                memory_available_bytes=available_bytes,
                psi_cpu_some_total_us=round(second * psi_share * 1e6),
                cgroup_periods_total=second * 10,
                cgroup_throttled_periods_total=round(second * 10 * throttled_share),
                shm_free_bytes=2**30,
            ),
            processes=(
                ProcessSample(
                    pid=pid,
                    parent_pid=1,
                    name="python",
                    cpu_total_s=second * own_cores,
                    rss_bytes=rss_bytes,
                    threads=4,
                    status="running",
                ),
            ),
            gpus=() if gpu_share is None else (GpuSample(0, utilization_share=gpu_share),),
        )
        for second in range(seconds)
    )


def build_run(
    *sessions: Session | ProcessRecord,
    workers: Sequence[ProcessRecord] = (),
    others: Sequence[ProcessRecord] = (),
    samples: Sequence[Sample] = (),
    status: str = "complete",
    cores: int | None = 4,
    **info: object,
) -> Run:
    """A run of one training process, or of the sessions given."""
    made = [
        session if isinstance(session, Session) else Session((session,), tuple(workers))
        for session in sessions
    ]
    values: dict = {
        "format": 1,
        "name": "train",
        "argv": ("python", "train.py"),
        "cwd": "/home/somebody",
        "started_unix_s": 1_700_000_000.0,
        "started_ns": 2 * SECOND,
        "trainprof": "0.1.0",
        "status": status,
        "ended_ns": 60 * SECOND,
        "exit_status": 0,
        "hardware": Hardware(logical_cores=cores, affinity_cores=cores),
        **info,
    }
    return Run(
        path="trainprof-runs/train",
        info=RunInfo(**values),
        status=status,
        sessions=tuple(made),
        others=tuple(others),
        samples=tuple(samples),
    )
