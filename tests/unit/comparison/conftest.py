"""Runs to compare: judged ones made up, and run folders on disk."""

import dataclasses

import numpy as np
import pytest

from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Evidence,
    Finding,
    PhaseTime,
    RunSummary,
    StepSummary,
)
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import Hardware, ProcessInfo, RunInfo, StepRecord
from trainprof.profiler.store.folder import write_run_info
from trainprof.profiler.store.writer import ProcessWriter, write_process_info
from trainprof.rules.comparison import JudgedRun

START_NS = 5_000_000_000


@pytest.fixture
def judged():
    """A judged run of a given mean step, in seconds."""

    def make(mean_s=0.010, *, name="run", width=0.01, waited=0.0, phases=None, **fields):
        info = RunInfo(
            1, name, ("train.py",), "/", fields.pop("at_s", 1000.0), START_NS, "0.1", "complete"
        )
        info = dataclasses.replace(
            info,
            **{key: fields.pop(key) for key in list(fields) if key in RunInfo.__dataclass_fields__},
        )
        shares = phases or {"forward": 0.4, "backward": 0.6}
        signals = {
            f"step.{phase}_share": {"value": share, "low": share * 0.98, "high": share * 1.02}
            for phase, share in shares.items()
        }
        signals["step.run_queue_share"] = {"value": waited}
        signals["step.samples"] = {"value": fields.pop("samples", 32)}
        known = mean_s is not None
        steps = StepSummary(
            count=fields.pop("steps", 300),
            steady=fields.pop("steady", 290),
            mean_s=mean_s,
            mean_s_low=mean_s * (1 - width) if known else None,
            mean_s_high=mean_s * (1 + width) if known else None,
            phases={p: PhaseTime(s, s * mean_s) for p, s in shares.items()} if known else {},
        )
        run = RunSummary(
            status=fields.pop("ended", info.status),
            name=name,
            path=f"runs/{name}",
            started_unix_s=info.started_unix_s,
            stopped_by=info.stopped_by,
            world_size=fields.pop("world_size", None),
        )
        findings = tuple(
            Finding(rule, "warn", "title", "summary", (Evidence("a", 1, ""),))
            for rule in fields.pop("findings", ())
        )
        facts = {"signals": signals, **fields.pop("facts", {})}
        assert not fields
        diagnosis = Diagnosis(1, "run", run, "healthy", "Healthy.", steps, findings, facts=facts)
        return JudgedRun(diagnosis, info)

    return make


@pytest.fixture
def write_run(tmp_path):
    """Writes a run folder below the working directory whose steps take about so long."""

    def write(name, step_s=0.010, steps=120, *, ranks=1, seed=0, process=True, batch=32, **fields):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        at_s = 1000.0 + 10.0 * len(list(tmp_path.rglob("run.json")))
        hardware = Hardware(cpu_model="a CPU", affinity_cores=2)
        info = RunInfo(1, folder.name, ("train.py",), "/", at_s, START_NS, "0.1", hardware=hardware)
        info = dataclasses.replace(info, **{"status": "complete", "exit_status": 0, **fields})
        write_run_info(folder, info)
        (folder / "procs").mkdir()
        for rank in range(ranks if process else 0):
            _write_process(folder, step_s, steps, rank, ranks, np.random.default_rng(seed), batch)
        return folder

    return write


def _write_process(folder, step_s, steps, rank, ranks, random, batch):
    alone = {} if ranks == 1 else {"rank": rank, "local_rank": rank, "world_size": ranks}
    process = ProcessInfo(10 + rank, 1, "host", "trainer", started_ns=START_NS, **alone)
    path = folder / "procs" / f"host-{10 + rank}-{START_NS}"
    path.mkdir()
    write_process_info(str(path), process)
    writer = ProcessWriter(str(path), START_NS)
    start_ns = START_NS
    for index in range(steps):
        wall_ns = int(step_s * random.lognormal(0.0, 0.05) * 1e9)
        phases = dict.fromkeys(PHASES, 0) | {"forward": wall_ns // 3}
        phases["residual"] = wall_ns - phases["forward"]
        writer.step(StepRecord(index, start_ns, wall_ns, tuple(phases.values()), samples=batch))
        start_ns += wall_ns
    writer.close()
