"""Writes run folders as a training would, at times that the test chooses."""

import dataclasses

from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import (
    Event,
    GpuSample,
    MachineSample,
    ProcessInfo,
    ProcessSample,
    QueueDepth,
    RunInfo,
    Sample,
    StepRecord,
)
from trainprof.profiler.store.appended_file import AppendedFile
from trainprof.profiler.store.encoded import encode_json
from trainprof.profiler.store.folder import write_run_info
from trainprof.profiler.store.writer import ProcessWriter, write_process_info

BASE_NS = 5_000_000_000
STARTED_UNIX_S = 1000.0
SHARES = {"data_wait": 0.4, "forward": 0.2, "backward": 0.3, "optimizer": 0.05}


class RunWriter:
    """A run of some ranks whose records are written when the test says so."""

    def __init__(self, folder, ranks=1, name="train", **fields):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.info = RunInfo(1, name, ("train.py",), "/", STARTED_UNIX_S, BASE_NS, "0.1")
        self.info = dataclasses.replace(self.info, **fields)
        self.write_info()
        self.writers = [self._process(rank, ranks) for rank in range(ranks)]
        self.next_step = [0] * ranks
        self.next_start_ns = [BASE_NS + 1_000_000_000] * ranks
        header = {"format": 1, "base_ns": BASE_NS}
        self.host = AppendedFile(str(folder / "host.jsonl"), header, keeps=False)

    def write_info(self, **fields):
        self.info = dataclasses.replace(self.info, **fields)
        write_run_info(self.folder, self.info)

    def _process(self, rank, ranks):
        info = ProcessInfo(
            pid=100 + rank,
            parent_pid=10,
            host="vm",
            role="trainer",
            started_ns=BASE_NS,
            rank=rank if ranks > 1 else None,
            world_size=ranks if ranks > 1 else None,
        )
        path = self.folder / "procs" / f"vm-{info.pid}-{BASE_NS}"
        path.mkdir(parents=True)
        write_process_info(str(path), info)
        return ProcessWriter(str(path), BASE_NS)

    def steps(self, count, wall_ns=50_000_000, rank=0, loss=None, shares=SHARES):
        """That many steps, one after the other."""
        writer = self.writers[rank]
        phases_ns = [int(wall_ns * shares.get(phase, 0.0)) for phase in PHASES]
        phases_ns[-1] = wall_ns - sum(phases_ns[:-1])
        for _ in range(count):
            index, start_ns = self.next_step[rank], self.next_start_ns[rank]
            writer.step(StepRecord(index, start_ns, wall_ns, tuple(phases_ns), samples=8))
            if loss is not None:
                writer.loss(index, loss)
            self.next_step[rank] += 1
            self.next_start_ns[rank] += wall_ns
        return self

    def queue(self, ready, rank=0):
        self.writers[rank].queue(QueueDepth(self.next_step[rank], "l0", 1000, ready))

    def event(self, kind, at_s, duration_s=0.0, rank=0, **data):
        at_ns = BASE_NS + int(at_s * 1e9)
        self.writers[rank].event(Event(kind, at_ns, int(duration_s * 1e9), data))

    def sample(self, at_s, cpu=0.5, gpus=(), processes=(), **machine):
        sample = Sample(
            BASE_NS + int(at_s * 1e9),
            MachineSample(cpu_busy_share=cpu, **machine),
            tuple(
                ProcessSample(pid, 10, "python", cpu_s, 1 << 30, 4, "R") for pid, cpu_s in processes
            ),
            tuple(
                GpuSample(
                    i,
                    utilization_share=share,
                    memory_used_bytes=1 << 33,
                    memory_total_bytes=1 << 36,
                )
                for i, share in enumerate(gpus)
            ),
        )
        self.host.lines.append(encode_json(sample).decode() + "\n")

    def flush(self):
        for writer in self.writers:
            writer.flush()
        if self.host.lines:
            self.host.write()
        return self
