"""What the agent and the samplers write, one record per line of the run folder.

Times are nanoseconds of the monotonic clock (`time.perf_counter_ns`), which all processes of one
machine share; only `*_unix_s` is wall-clock time. `None` means "not measured", never zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .collector_status import CollectorStatus

# Bits of StepRecord.flags.
EPOCH_BOUNDARY = 1  # the step holds the end of a loader and the start of its next iterator
PARTIAL = 2  # an epoch's unfinished accumulation: backwards without an update
UPDATE_INFERRED = 4  # no optimizer ran: an in-place change of a parameter ended the step
NO_LOADER = 8  # no DataLoader was asked in this step: data_wait is not measured
COMPILED = 16  # torch.compile worked in this step
LAST = 32  # closed by the end of the training, not by a boundary


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One forward/backward group inside a step.

    Attributes:
        start_ns: When its backward group began (first ask, forward or backward of the group).
        wall_ns: Until the next group, or the end of the step.
        data_wait_ns, forward_ns, backward_ns: Time of these phases inside the group.
    """

    start_ns: int
    wall_ns: int
    data_wait_ns: int
    forward_ns: int
    backward_ns: int


class StepRecord(NamedTuple):
    """One training step of one rank: one update of the weights.

    A named tuple, as it is made for every step inside the user's process: a frozen dataclass of so
    many fields costs a microsecond more.

    Attributes:
        index: 0-based, counted per process.
        start_ns: The instant the loop asked for the step's first batch.
        wall_ns: Until the next step's ask.
        phases_ns: One wall time per entry of `PHASES`; they sum to `wall_ns`.
        cpu_ns: CPU time of the training thread since the last step that carries one, else None.
        run_queue_ns: Time that thread waited for a CPU, over the same span, else None.
        micro_batches: Number of forward/backward groups.
        samples: Samples received in the step (None where no batch size could be read).
        flags: Bits named above.
        micro: The sub-records, kept when there is more than one.
        phases_cpu_ns, phases_run_queue_ns: Per phase, on about one step in 16, else None.
        inferred: Bit i is set when a part of PHASES[i] was inferred, not bracketed by two marks.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    start_ns: int
    wall_ns: int
    phases_ns: tuple[int, ...]
    cpu_ns: int | None = None
    run_queue_ns: int | None = None
    micro_batches: int = 1
    samples: int | None = None
    flags: int = 0
    micro: tuple[MicroBatch, ...] = ()
    phases_cpu_ns: tuple[int, ...] | None = None
    phases_run_queue_ns: tuple[int, ...] | None = None
    inferred: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something with a time of its own: see `profiler/model/facts.py` for each kind's payload."""

    kind: str
    start_ns: int
    duration_ns: int = 0
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def is_summary(self) -> bool:
        """Whether it sums up what happened in its span, and is nothing that took so long."""
        return "total_ns" in self.data


@dataclass(frozen=True, slots=True)
class Fact:
    """What was seen of an object of the training; the latest of one (kind, key) is the truth."""

    kind: str
    key: str
    at_ns: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LossValue:
    """One backward's root value (per micro-batch; unscaled where a GradScaler was seen)."""

    step: int
    value: float


@dataclass(frozen=True, slots=True)
class Fetch:
    """One batch made by a DataLoader worker, timed around the fetcher."""

    worker: int
    start_ns: int
    wall_ns: int
    cpu_ns: int
    samples: int


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Batches ready when the loop asked, on about one ask in 16 (None: it cannot be read)."""

    step: int
    loader: str
    wait_ns: int
    ready: int | None


@dataclass(frozen=True, slots=True)
class MemoryPoint:
    """Resident memory of the training process at a step, about once a second."""

    step: int
    at_ns: int
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """`proc.json`: one Python process that started under the agent.

    Attributes:
        role: trainer (a backward or an optimizer step ran), worker (a DataLoader worker),
            other (imported torch, never trained) or python (never imported torch).
        ended: How it ended as far as the process itself could say: "exit", "os._exit",
            "stopped" (by --steps) or None (killed, or still running).
        seen: Counters that explain a run without steps (asks, forwards, backwards, updates), and
            the updates of each optimizer (updates_o0 ...).
        thread: `threading.get_ident()` of the thread that trains, or makes the batches.
        clock: `unix_s` and `perf_ns` read together at the start, to place the run in time.
    """

    pid: int
    parent_pid: int
    host: str
    role: str
    argv: tuple[str, ...] = ()
    started_ns: int = 0
    ended_ns: int | None = None
    ended: str | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    restart_count: int | None = None
    launch_key: str | None = None
    python: str | None = None
    executable: str | None = None
    torch: str | None = None
    clock: dict[str, float] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    thread: int | None = None


@dataclass(frozen=True, slots=True)
class MachineSample:
    """The whole machine (inside its cgroup). Cumulative counters keep their unit in the name."""

    cpu_busy_share: float | None = None
    cpu_busy_per_core: tuple[float, ...] = ()
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    swap_in_total_bytes: int | None = None
    swap_out_total_bytes: int | None = None
    psi_cpu_some_total_us: int | None = None
    psi_io_some_total_us: int | None = None
    psi_io_full_total_us: int | None = None
    psi_memory_some_total_us: int | None = None
    cgroup_periods_total: int | None = None
    cgroup_throttled_periods_total: int | None = None
    cgroup_throttled_total_us: int | None = None
    disk_read_total_bytes: int | None = None
    disk_write_total_bytes: int | None = None
    net_received_total_bytes: int | None = None
    net_sent_total_bytes: int | None = None
    shm_free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """One process of the run's tree."""

    pid: int
    parent_pid: int
    name: str
    cpu_total_s: float
    rss_bytes: int
    threads: int
    status: str
    pss_bytes: int | None = None
    run_delay_total_ns: int | None = None
    read_total_bytes: int | None = None
    written_total_bytes: int | None = None
    read_calls_total_bytes: int | None = None
    major_faults_total: int | None = None
    switches_voluntary_total: int | None = None
    switches_involuntary_total: int | None = None
    children_cpu_total_s: float | None = None


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU through NVML; what the driver does not answer stays None.

    Attributes:
        process_memory_bytes, process_sm_shares: One entry a process of `process_pids`, -1 where the
            driver does not tell; empty where it tells it of none.
        mig_uuids: Instances of a GPU that is split (MIG); it then answers as a whole.
        power_violation_total_ns, thermal_violation_total_ns: Time with lowered clocks since the
            driver was loaded, for want of power, for heat.
        rows_remapped_total: Memory rows replaced for good, after errors of either kind.
        numa_node: The one whose CPUs are nearest.
    """

    index: int
    uuid: str | None = None
    name: str | None = None
    utilization_share: float | None = None
    memory_utilization_share: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    energy_total_j: float | None = None
    temperature_c: float | None = None
    sm_clock_mhz: int | None = None
    sm_clock_max_mhz: int | None = None
    memory_clock_mhz: int | None = None
    clock_event_reasons: int | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_received_bytes_per_s: int | None = None
    pcie_sent_bytes_per_s: int | None = None
    nvlink_active: int | None = None
    ecc_errors_corrected_total: int | None = None
    ecc_errors_uncorrected_total: int | None = None
    process_pids: tuple[int, ...] = ()
    process_memory_bytes: tuple[int, ...] = ()
    process_sm_shares: tuple[float, ...] = ()
    performance_state: int | None = None
    temperature_slowdown_c: float | None = None
    power_violation_total_ns: int | None = None
    thermal_violation_total_ns: int | None = None
    pcie_replays_total: int | None = None
    rows_remapped_total: int | None = None
    rows_remap_pending: bool | None = None
    rows_remap_failed: bool | None = None
    mig_enabled: bool | None = None
    mig_uuids: tuple[str, ...] = ()
    cuda_cores: int | None = None
    numa_node: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """`host.jsonl`: one look at the machine, the process tree and the GPUs."""

    at_ns: int
    machine: MachineSample
    processes: tuple[ProcessSample, ...] = ()
    gpus: tuple[GpuSample, ...] = ()


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the run had to work with, as far as the supervisor could see.

    Attributes:
        cxx_compiler: The C++ compiler that torch.compile would call, "" where there is none.
    """

    cpu_model: str | None = None
    cpu_flags: tuple[str, ...] = ()
    logical_cores: int | None = None
    physical_cores: int | None = None
    affinity_cores: int | None = None
    cgroup_quota_cores: float | None = None
    numa_nodes: int | None = None
    memory_total_bytes: int | None = None
    shm_total_bytes: int | None = None
    gpus: tuple[str, ...] = ()
    cxx_compiler: str | None = None

    @property
    def usable_cores(self) -> float | None:
        """min(affinity, cgroup quota): what `torch` and `nproc` do not tell."""
        if self.affinity_cores is None:
            return self.cgroup_quota_cores
        if self.cgroup_quota_cores is None:
            return float(self.affinity_cores)
        return min(float(self.affinity_cores), self.cgroup_quota_cores)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """`run.json`: written at the start, completed at the end.

    Attributes:
        argv: The user's command, secrets masked.
        status: running | complete | crashed | stopped. A reader that finds "running" and no live
            supervisor reports "incomplete".
        host: Name of the supervisor's machine (`os.uname().nodename`); elsewhere its process id
            tells nothing.
        exit_status: The script's own (128 + n for signal n), None while it runs.
        stopped_by: "steps" or a signal's name, when trainprof or the user ended it.
        environment: Allow-listed variables only.
        commit: Of the working directory's repository, " with changes" where tracked files differ.
    """

    format: int
    name: str
    argv: tuple[str, ...]
    cwd: str
    started_unix_s: float
    started_ns: int
    trainprof: str
    status: str = "running"
    host: str | None = None
    supervisor_pid: int | None = None
    child_pid: int | None = None
    ended_unix_s: float | None = None
    ended_ns: int | None = None
    exit_status: int | None = None
    stopped_by: str | None = None
    steps_limit: int | None = None
    environment: dict[str, str] = field(default_factory=dict)
    hardware: Hardware = field(default_factory=Hardware)
    mounts: dict[str, str] = field(default_factory=dict)
    collectors: tuple[CollectorStatus, ...] = ()
    notes: tuple[str, ...] = ()
    commit: str | None = None
