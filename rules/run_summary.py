"""The head of a report: which run this is, and how it ended."""

from __future__ import annotations

from trainprof.profiler.model.diagnosis import RunSummary
from trainprof.profiler.model.run import ProcessRecord, Run


def summarise_run(
    run: Run,
    trainer: ProcessRecord | None = None,
    *,
    session: int = 0,
    startup_s: float | None = None,
    world_size: int | None = None,
) -> RunSummary:
    """The run, and of the training what its process said of itself."""
    info = run.info
    of_process = trainer.info if trainer is not None else None
    return RunSummary(
        status=run.status,
        name=info.name,
        path=run.path,
        argv=info.argv,
        cwd=info.cwd,
        started_unix_s=info.started_unix_s,
        wall_s=None if info.ended_ns is None else (info.ended_ns - info.started_ns) / 1e9,
        exit_status=info.exit_status,
        stopped_by=info.stopped_by,
        python=of_process.python if of_process else None,
        torch=of_process.torch if of_process else None,
        device=_device(trainer),
        world_size=world_size,
        trainprof=info.trainprof,
        session=session,
        sessions=len(run.sessions),
        startup_s=startup_s,
    )


def _device(trainer: ProcessRecord | None) -> str | None:
    """Where most parameters of the models are."""
    counts: dict[str, int] = {}
    facts = trainer.latest_facts("model").values() if trainer is not None else ()
    for fact in facts:
        for device, count in dict(fact.data.get("devices") or {}).items():
            counts[device] = counts.get(device, 0) + int(count)
    return max(counts, key=lambda device: counts[device]) if counts else None
