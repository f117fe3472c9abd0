"""data-disk-bw."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.loader_model import Waiting, io_part
from trainprof.rules.reading import amdahl, gain, needed, number, observed, percent, place, size
from trainprof.rules.rule import Candidate, Case, Rule


class DiskBw(Rule):
    """The loader's workers wait for a disk that is busy delivering their data.

    ## What it finds
    Several workers that read at the same time, from a disk and not from memory, while tasks of this
    machine stand still waiting for it, and a training that waits for the workers.

    ## Why it costs time
    A disk delivers so many bytes a second (a hard disk 0.1 to 0.2 GB, a SATA SSD 0.5 GB, NVMe 2 to
    7 GB, a cloud volume often less than any). Once it is busy, more workers only wait longer for
    their turn: the batches a second stay what the disk allows.

    ## Evidence needed
    - At least 10 % of the step is spent waiting for batches in mid epoch.
    - Tasks wait for a disk for at least 10 % of the time (pressure stall information).
    - At least half of the bytes that the workers read came from a disk (`/proc/*/io`: `read_bytes`
      over `rchar`), not from the page cache.
    - At least two workers: one process that reads alone waits for each answer, and then more
      workers are the first thing to try (data-workers-under). With fewer it is a note.

    Seen on a real run: two workers behind a disk that was held to 25 MB a second read all of their
    400 MB from it, and the training waited 97 % of the step; with the limit lifted it was not told.

    Gain: the waiting times the part of a batch's time that is neither computing nor queueing for a
    CPU, by Amdahl: all of it at the upper end (data in memory), at the lower end half (a disk twice
    as fast, or half the bytes).

    ## Fix
    Fewer bytes: compress or recode the data, store it at the size that is used. Nearer bytes: copy
    it to a local SSD, or to memory where it fits. Larger reads: pack samples that are read one
    after another into shards.

    ## Fix safety
    Safe: the same data, read from elsewhere. Numerics where images or sound are encoded anew.

    ## When it is wrong
    - The first epoch of a data set that fits into free memory: it will be cached. Where an epoch's
      bytes take less than half of the free memory and there was one epoch only, this is a warning
      of low confidence at most, and its interval begins at 1.
    - Another program keeps the disk busy: pressure is counted for the machine or container. The
      workers' own share of bytes from a disk then tells that they do read from it, not that they
      alone do.
    - Reads of a network file system are no disk's: data-netfs.

    ## References
    - Mohan et al., Analyzing and mitigating data stalls in DNN training (fetch and prep stalls):
      https://arxiv.org/abs/2007.06775
    - Pressure stall information: https://docs.kernel.org/accounting/psi.html
    - /proc/PID/io: https://man7.org/linux/man-pages/man5/proc_pid_io.5.html
    """

    id = "data-disk-bw"
    title = "The disk cannot deliver the data fast enough"
    needs = (
        "step.data_wait_share",
        "loader.num_workers",
        "loader.producer_wall_s",
        "loader.consumer_s",
        "host.usable_cores",
        "host.psi_io_share",
        "storage.miss_share",
    )
    suppresses = ("data-workers-under",)
    fires_on = (
        Case(
            "four workers read large images from a cloud volume",
            {
                "step.data_wait_share": (0.6, 0.57, 0.63),
                "loader.num_workers": 4,
                "loader.producer_wall_s": 0.4,
                "loader.producer_cpu_s": 0.06,
                "loader.producer_queued_s": 0.002,
                "loader.consumer_s": 0.04,
                "loader.iterators_made": 3,
                "host.usable_cores": 8.0,
                "host.psi_io_share": 0.7,
                "host.memory_available_bytes": 8e9,
                "storage.miss_share": 0.97,
                "storage.disk_bytes_per_s": 1.2e8,
                "storage.asked_bytes_per_batch": 1e7,
                "storage.disk_wait_share": 0.8,
                "loader.batches": 10_000,
                "loader.dataset_where": {"file": "data.py", "line": 5},
            },
            severity="critical",
            gain=(1.3, 2.0),
        ),
        Case(
            "the only epoch of a data set that would fit into memory",
            {
                "step.data_wait_share": (0.969, 0.96, 0.975),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.098,
                "loader.producer_cpu_s": 0.0013,
                "loader.consumer_s": 0.0016,
                "loader.iterators_made": 1,
                "loader.batches": 400,
                "host.usable_cores": 2.0,
                "host.psi_io_share": 0.58,
                "host.memory_available_bytes": 8e9,
                "storage.miss_share": 1.0,
                "storage.asked_bytes_per_batch": 1e6,
            },
            severity="warn",
            gain=(1.0, 22.0),
        ),
    )
    silent_on = (
        Case(
            "the data lies in the page cache",
            {
                "step.data_wait_share": (0.6, 0.57, 0.63),
                "loader.num_workers": 4,
                "loader.producer_wall_s": 0.4,
                "loader.producer_cpu_s": 0.38,
                "loader.consumer_s": 0.04,
                "host.usable_cores": 8.0,
                "host.psi_io_share": 0.2,
                "storage.miss_share": 0.02,
            },
        ),
        Case(
            "a disk is busy, but nobody waits for batches",
            {
                "step.data_wait_share": (0.02, 0.01, 0.03),
                "loader.num_workers": 4,
                "loader.producer_wall_s": 0.1,
                "loader.producer_cpu_s": 0.02,
                "loader.consumer_s": 0.04,
                "host.usable_cores": 8.0,
                "host.psi_io_share": 0.4,
                "storage.miss_share": 0.9,
            },
        ),
        Case(
            "bytes from a disk, while decoding takes the time",
            {
                "step.data_wait_share": (0.5, 0.48, 0.52),
                "loader.num_workers": 4,
                "loader.producer_wall_s": 0.4,
                "loader.producer_cpu_s": 0.39,
                "loader.consumer_s": 0.04,
                "host.usable_cores": 8.0,
                "host.psi_io_share": 0.11,
                "storage.miss_share": 0.9,
            },
        ),
        Case(
            "a server is waited for, and no disk",
            {
                "step.data_wait_share": (0.6, 0.57, 0.63),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.1,
                "loader.producer_cpu_s": 0.01,
                "loader.consumer_s": 0.01,
                "host.usable_cores": 8.0,
                "host.psi_io_share": 0.0,
                "storage.miss_share": 0.9,
            },
        ),
    )

    min_wait_share = 0.10
    """Share of the step; PyTorch's TensorBoard plugin warns from 5 %, this rule wants more."""
    min_pressure_share = 0.10
    """Time with some task waiting for a disk (a starting value)."""
    min_miss_share = 0.5
    """Part of the bytes that came from a disk; below it the page cache serves most of them."""
    min_readers = 2
    """Workers; one reader alone waits for the answer, not for the disk's turn."""
    min_io_part = 0.3
    """Part of a batch's time that neither computes nor queues for a CPU (a starting value)."""
    fits_in_memory = 0.5
    """Part of the free memory that an epoch's bytes may take to be cached by the next one."""
    least_ratio = 2.0
    """Disk over disk: what the lower end of the gain counts on."""

    def applies(self, signals: Signals) -> bool:
        """Data was read through files."""
        return number(signals, "storage.miss_share") is not None or (
            number(signals, "storage.asked_bytes_per_batch") is None
        )

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Holds pressure, misses and waiting against each other."""
        wait = Waiting.of_run(signals)
        pressure = needed(signals, "host.psi_io_share")
        misses = needed(signals, "storage.miss_share")
        io = io_part(signals)
        if wait.share < self.min_wait_share or pressure < self.min_pressure_share:
            return
        if misses < self.min_miss_share or io < self.min_io_part:
            return
        alone = needed(signals, "loader.num_workers") < self.min_readers
        cached_soon = self._will_be_cached(signals)
        rate = number(signals, "storage.disk_bytes_per_s")
        much = "" if rate is None else f", {size(rate)} a second"
        soon = " An epoch fits into free memory, so the next one may be quicker." * cached_soon
        share = wait.share * io
        share_low = wait.share_low * io
        yield Candidate(
            summary=(
                f"The training waits for batches for {percent(wait.share)} of the step, and "
                f"{percent(io)} of the time of making them is waiting for data: {percent(misses)} "
                f"of it come from a disk{much}.{soon}"
            ),
            evidence=(
                *observed(signals, "step.data_wait_share", self.min_wait_share),
                *observed(signals, "host.psi_io_share", self.min_pressure_share),
                *observed(signals, "storage.miss_share", self.min_miss_share),
                *observed(signals, "storage.disk_bytes_per_s"),
                *observed(signals, "storage.disk_wait_share"),
                *observed(signals, "loader.producer_wall_s"),
                *observed(signals, "loader.producer_cpu_s"),
                *observed(signals, "loader.num_workers", self.min_readers),
            ),
            share=share,
            share_low=share_low,
            gain=Gain(1.0, amdahl(share))
            if cached_soon
            else gain(share_low, share, self.least_ratio),
            where=place(signals, "loader.dataset_where") or place(signals, "loader.where"),
            fixes=(self._advice(),),
            confidence="medium" if not alone and not cached_soon else "low",
            max_severity="info" if alone else "warn" if cached_soon else "critical",
        )

    def _will_be_cached(self, signals: Signals) -> bool:
        """True for a single epoch whose bytes fit into free memory."""
        if (number(signals, "loader.iterators_made") or 1.0) > 1.0:
            return False
        asked = number(signals, "storage.asked_bytes_per_batch")
        batches = number(signals, "loader.batches")
        free = number(signals, "host.memory_available_bytes")
        if asked is None or batches is None or free is None:
            return False
        return asked * batches <= self.fits_in_memory * free

    @staticmethod
    def _advice() -> FixAdvice:
        return FixAdvice(
            fix="storage-nearer",
            params={},
            safety="safe",
            text="Read fewer bytes or nearer ones: compress the data or store it at the size that "
            "is used, copy it to a local SSD or into memory, pack samples into shards.",
        )
