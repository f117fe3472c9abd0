"""data-pagecache."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.loader_model import Waiting, io_part
from trainprof.rules.reading import amdahl, needed, number, observed, percent, place, size
from trainprof.rules.rule import Candidate, Case, Rule


class Pagecache(Rule):
    """Each epoch reads the data from the disk again, because memory does not hold it meanwhile.

    ## What it finds
    A training that waits for batches whose bytes still come from a disk in the second and later
    epochs, when the page cache of the system could have them.

    ## Why it costs time
    The system keeps what was read in free memory and drops what was used longest ago. An epoch uses
    each sample once, in random order: where the data set is larger than free memory, what is
    dropped is what the next epoch needs, and most of the cache serves nobody. A fixed part of the
    data, kept for good, would serve its share of each epoch.

    ## Evidence needed
    - Two epochs or more; from the second on at least a fifth of the bytes read came from a disk.
    - At least 10 % of the step is spent waiting for batches in mid epoch, and at least 30 % of a
      batch's time is neither computing nor queueing for a CPU.

    Gain: the waiting times that part of a batch's time, by Amdahl, at the upper end; at the lower
    end half of it times the part of the bytes that missed.

    ## Fix
    - Fewer bytes a sample (compression, the size that is used), until the data fits.
    - Keep a fixed part of the samples in memory that the workers share.
    - Read in order within shards, and shuffle shards and a buffer of samples.
    - More memory for the job: a container's limit counts its page cache.

    ## Fix safety
    Safe for fewer bytes and for a fixed part kept in memory. Shuffling by shards and a buffer is
    **semantics**: the order of samples is less random.

    ## When it is wrong
    - A file system that is not cached by the system (some network and FUSE mounts), or direct IO,
      shows misses however much memory there is: data-netfs says where the data lies.
    - Data that is written between epochs, or deliberately dropped, misses as well.
    - Mapped files are read without calls: then only the bytes of the disk are known, and the part
      that memory served is not.

    ## References
    - Mohan et al., CoorDL and its MinIO cache: https://arxiv.org/abs/2007.06775
    - /proc/PID/io: https://man7.org/linux/man-pages/man5/proc_pid_io.5.html
    """

    id = "data-pagecache"
    title = "Data read before comes from the disk again"
    needs = (
        "step.data_wait_share",
        "loader.num_workers",
        "loader.producer_wall_s",
        "loader.consumer_s",
        "host.usable_cores",
        "storage.reread_miss_share",
    )
    suppresses = ("data-disk-bw",)
    fires_on = (
        Case(
            "a data set twice as large as memory, read at random",
            {
                "step.data_wait_share": (0.5, 0.47, 0.53),
                "loader.num_workers": 4,
                "loader.producer_wall_s": 0.2,
                "loader.producer_cpu_s": 0.05,
                "loader.consumer_s": 0.04,
                "host.usable_cores": 8.0,
                "host.memory_available_bytes": 2e10,
                "storage.reread_miss_share": 0.6,
                "storage.miss_share": 0.62,
                "storage.asked_bytes_per_batch": 2e7,
                "loader.batches": 2_000,
            },
            severity="critical",
            gain=(1.2, 1.6),
        ),
    )
    silent_on = (
        Case(
            "the first epoch filled the cache",
            {
                "step.data_wait_share": (0.3, 0.27, 0.33),
                "loader.num_workers": 4,
                "loader.producer_wall_s": 0.2,
                "loader.producer_cpu_s": 0.05,
                "loader.consumer_s": 0.04,
                "host.usable_cores": 8.0,
                "storage.reread_miss_share": 0.03,
                "storage.miss_share": 0.4,
            },
        ),
        Case(
            "misses that prefetching hides",
            {
                "step.data_wait_share": (0.02, 0.01, 0.03),
                "loader.num_workers": 8,
                "loader.producer_wall_s": 0.2,
                "loader.producer_cpu_s": 0.05,
                "loader.consumer_s": 0.04,
                "host.usable_cores": 8.0,
                "storage.reread_miss_share": 0.9,
            },
        ),
        Case(
            "misses, while decoding takes the time",
            {
                "step.data_wait_share": (0.5, 0.47, 0.53),
                "loader.num_workers": 4,
                "loader.producer_wall_s": 0.2,
                "loader.producer_cpu_s": 0.19,
                "loader.consumer_s": 0.04,
                "host.usable_cores": 8.0,
                "storage.reread_miss_share": 0.9,
            },
        ),
    )

    min_wait_share = 0.10
    """Share of the step, as for data-disk-bw."""
    min_miss_share = 0.20
    """Part of the bytes of later epochs that came from a disk (a starting value)."""
    min_io_part = 0.3
    """Part of a batch's time that neither computes nor queues for a CPU (a starting value)."""
    least_of_gain = 0.5
    """Part of what missed that the lower end of the gain counts on (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """There was a second epoch."""
        return number(signals, "loader.iterators_made") != 1

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Weighs the misses of later epochs by the time that they can have cost."""
        wait = Waiting.of_run(signals)
        misses = needed(signals, "storage.reread_miss_share")
        io = io_part(signals)
        if wait.share < self.min_wait_share or io < self.min_io_part:
            return
        if misses < self.min_miss_share:
            return
        share, share_low = wait.share * io, wait.share_low * io
        yield Candidate(
            summary=(
                f"From the second epoch on {percent(misses)} of the bytes read come from a disk "
                f"again{self._sizes(signals)}; the training waits for batches for "
                f"{percent(wait.share)} of the step."
            ),
            evidence=(
                *observed(signals, "storage.reread_miss_share", self.min_miss_share),
                *observed(signals, "step.data_wait_share", self.min_wait_share),
                *observed(signals, "loader.producer_wall_s"),
                *observed(signals, "loader.producer_cpu_s"),
                *observed(signals, "storage.asked_bytes_per_batch"),
                *observed(signals, "storage.major_faults_per_batch"),
                *observed(signals, "host.memory_available_bytes"),
            ),
            share=share,
            share_low=share_low,
            gain=Gain(amdahl(self.least_of_gain * misses * share_low), amdahl(share)),
            where=place(signals, "loader.dataset_where") or place(signals, "loader.where"),
            fixes=(self._advice(),),
            confidence="medium",
        )

    @staticmethod
    def _sizes(signals: Signals) -> str:
        asked = number(signals, "storage.asked_bytes_per_batch")
        batches = number(signals, "loader.batches")
        free = number(signals, "host.memory_available_bytes")
        if asked is None or batches is None or free is None:
            return ""
        return f" ({size(asked * batches)} an epoch, {size(free)} of memory are free)"

    @staticmethod
    def _advice() -> FixAdvice:
        return FixAdvice(
            fix="storage-fits-memory",
            params={},
            safety="safe",
            text="Store fewer bytes a sample until the data fits into memory, or keep a fixed part "
            "of it in memory that the workers share.",
        )
