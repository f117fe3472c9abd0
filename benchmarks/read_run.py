"""Time and peak memory of reading a run folder of many steps.

Writes a run with `ProcessWriter` (steps, a loss per step, queue depths and thread states on one
step in 16, memory once a second, 4 workers' fetches), then reads it in fresh processes.

    python benchmarks/read_run.py [--steps 1000000] [--repeats 3] [--micro-batches 1]
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trainprof.profiler.model.phases import PHASE_INDEX, PHASES
from trainprof.profiler.model.records import (
    Fetch,
    MemoryPoint,
    MicroBatch,
    ProcessInfo,
    QueueDepth,
    RunInfo,
    StepRecord,
)
from trainprof.profiler.store.folder import write_run_info
from trainprof.profiler.store.writer import ProcessWriter, write_process_info

STEP_NS = 12_000_000
WORKERS = 4
LIMITS = {"seconds": 10.0, "peak_mb": 1000.0}

READ = """
import json, resource, sys, time
start = time.perf_counter()
from trainprof.profiler.store.reader import read_run
imported = time.perf_counter()
run = read_run(sys.argv[1])
end = time.perf_counter()
trainer = run.sessions[0].trainers[0]
print(json.dumps({
    "import_s": imported - start,
    "seconds": end - imported,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "steps": len(trainer.steps), "losses": len(trainer.losses), "queue": len(trainer.queue),
    "states": len(trainer.states), "micro": len(trainer.micro),
    "fetches": sum(len(worker.fetches) for worker in run.sessions[0].workers),
    "problems": list(run.problems),
}))
"""


def main() -> int:
    """Prints one line per reading; status 1 where a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--micro-batches", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_run(Path(folder), options.steps, options.micro_batches)
        size_mb = sum(p.stat().st_size for p in Path(folder).rglob("*.jsonl")) / 1e6
        print(f"wrote {options.steps} steps, {size_mb:.1f} MB, {time.perf_counter() - start:.1f} s")
        readings = [_read(folder) for _ in range(options.repeats)]
    worst = {limit: max(reading[limit] for reading in readings) for limit in LIMITS}
    print(f"worst of {options.repeats}: {worst['seconds']:.2f} s, {worst['peak_mb']:.0f} MB peak")
    print(f"limits: {LIMITS['seconds']:.0f} s, {LIMITS['peak_mb']:.0f} MB")
    return int(any(worst[limit] > LIMITS[limit] for limit in LIMITS))


def _read(folder: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", READ, folder], check=True, capture_output=True, text=True
    )
    print(done.stdout.strip())
    reading: dict[str, float] = json.loads(done.stdout)
    return reading


def write_run(folder: Path, steps: int, micro_batches: int) -> None:
    """A finished run of one trainer and its workers."""
    end_ns = steps * STEP_NS
    write_run_info(
        folder,
        RunInfo(1, "bench", ("train.py",), "/", 0.0, 0, "0", status="complete", ended_ns=end_ns),
    )
    trainer = _process(folder, ProcessInfo(100, 1, "host", "trainer", ended_ns=end_ns))
    noise = random.Random(0)
    for index in range(steps):
        _add_step(trainer, index, micro_batches, noise)
        if index % 50 == 0:
            trainer.flush()
    trainer.close()
    for number in range(WORKERS):
        info = ProcessInfo(200 + number, 100, "host", "worker", ended_ns=end_ns)
        worker = _process(folder, info)
        for index in range(number, steps, WORKERS):
            wall_ns = int(noise.gauss(30e6, 2e6))
            worker.fetch(Fetch(number, index * STEP_NS, wall_ns, wall_ns - 12345, 64))
        worker.close()


def _process(folder: Path, info: ProcessInfo) -> ProcessWriter:
    path = folder / "procs" / f"{info.host}-{info.pid}-{info.started_ns}"
    path.mkdir(parents=True)
    write_process_info(str(path), info)
    return ProcessWriter(str(path), base_ns=0)


def _add_step(trainer: ProcessWriter, index: int, micro_batches: int, noise: random.Random) -> None:
    start_ns = index * STEP_NS
    phases = dict.fromkeys(PHASES, 0)
    for phase, share in (
        ("data_wait", 0.1),
        ("forward", 0.25),
        ("loss", 0.02),
        ("backward", 0.4),
        ("optimizer", 0.15),
        ("logging", 0.01),
    ):
        phases[phase] = int(STEP_NS * share * noise.uniform(0.8, 1.05))
    phases["residual"] = STEP_NS - sum(phases.values())
    phases_ns = tuple(phases.values())
    sampled = index % 16 == 0
    group_ns = STEP_NS // micro_batches
    micro = tuple(
        MicroBatch(start_ns + i * group_ns, group_ns, group_ns // 10, group_ns // 4, group_ns // 3)
        for i in range(micro_batches)
    )
    trainer.step(
        StepRecord(
            index,
            start_ns,
            STEP_NS,
            phases_ns,
            cpu_ns=STEP_NS - 4321,
            run_queue_ns=phases_ns[PHASE_INDEX["logging"]],
            micro_batches=micro_batches,
            samples=64,
            micro=micro if micro_batches > 1 else (),
            phases_cpu_ns=phases_ns if sampled else None,
            phases_run_queue_ns=phases_ns if sampled else None,
            inferred=1 << PHASE_INDEX["loss"],
        )
    )
    trainer.loss(index, noise.gauss(2.3, 0.1))
    if sampled:
        trainer.queue(QueueDepth(index, "l0", phases_ns[0], index % 8))
    if index % 80 == 0:
        trainer.memory(MemoryPoint(index, start_ns, 1_500_000_000 + index))


if __name__ == "__main__":
    sys.exit(main())
