"""data-netfs."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.loader_model import Waiting, io_part
from trainprof.rules.reading import amdahl, needed, number, observed, percent, place, plural, text
from trainprof.rules.rule import Candidate, Case, Rule


class Netfs(Rule):
    """The data lies on a network file system or in an object store, and training waits for it.

    ## What it finds
    A data set that holds a path on an NFS, SMB, Lustre, Ceph, FUSE or like mount, or an address of
    an object store, while most of a batch's time is waiting and the training waits for batches.

    ## Why it costs time
    Each file that is opened and each piece that is read costs one way to the server and back, a
    fraction of a millisecond in a good network and tens of them to an object store; a local SSD
    answers in a tenth of a millisecond or less. Many small files pay it for every sample.

    ## Evidence needed
    - The kind of file system below a path among the data set's attributes (from the table of
      mounts), or the scheme of an address there.
    - At least 10 % of the step is spent waiting for batches in mid epoch, and at least half of a
      batch's time is neither computing nor queueing for a CPU.

    Seen on a real run: small files through a FUSE mount that takes 2 ms for each open and each read
    kept the training waiting 80 % of the step; from the local folder itself it was not told.

    Gain: Amdahl's bound on the waiting times that part, at the upper end; at the lower end half of
    it, since some reading stays.

    ## Fix
    Copy the data to a local disk before training, or let a cache on a local disk hold what was
    read. Pack small files into shards. Where neither is possible, more workers wait at the same
    time, also more than there are cores.

    ## Fix safety
    Safe: the same data, read from elsewhere.

    ## When it is wrong
    - A path among the attributes need not be what is read: the finding says which one it is about.
    - A symbolic link is not followed, so that a link from a network mount to a local disk, or the
      other way round, misleads.
    - Silent where the wait is hidden by prefetching, and where computing takes the time.

    ## References
    - Machine Learning Engineering, storage:
      https://github.com/stas00/ml-engineering/tree/master/storage
    - Mohan et al., Analyzing and mitigating data stalls in DNN training:
      https://arxiv.org/abs/2007.06775
    """

    id = "data-netfs"
    title = "The data is read over a network"
    needs = (
        "step.data_wait_share",
        "loader.num_workers",
        "loader.producer_wall_s",
        "loader.consumer_s",
        "host.usable_cores",
        "storage.file_system",
    )
    suppresses = ("data-disk-bw", "data-pagecache", "data-small-files")
    fires_on = (
        Case(
            "images on an NFS mount, two workers",
            {
                "step.data_wait_share": (0.4, 0.37, 0.43),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.1,
                "loader.producer_cpu_s": 0.02,
                "loader.consumer_s": 0.03,
                "host.usable_cores": 8.0,
                "storage.file_system": "nfs4",
                "storage.path": "/mnt/team/images",
            },
            severity="critical",
            gain=(1.2, 1.5),
        ),
    )
    silent_on = (
        Case(
            "a local disk",
            {
                "step.data_wait_share": (0.4, 0.37, 0.43),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.1,
                "loader.producer_cpu_s": 0.02,
                "loader.consumer_s": 0.03,
                "host.usable_cores": 8.0,
                "storage.file_system": "ext4",
                "storage.path": "/data/images",
            },
        ),
        Case(
            "the root of a container is no network",
            {
                "step.data_wait_share": (0.4, 0.37, 0.43),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.1,
                "loader.producer_cpu_s": 0.02,
                "loader.consumer_s": 0.03,
                "host.usable_cores": 8.0,
                "storage.file_system": "overlay",
            },
        ),
        Case(
            "a network mount that prefetching hides",
            {
                "step.data_wait_share": (0.01, 0.005, 0.015),
                "loader.num_workers": 8,
                "loader.producer_wall_s": 0.1,
                "loader.producer_cpu_s": 0.02,
                "loader.consumer_s": 0.03,
                "host.usable_cores": 8.0,
                "storage.file_system": "nfs",
            },
        ),
        Case(
            "a network mount, while decoding takes the time",
            {
                "step.data_wait_share": (0.4, 0.37, 0.43),
                "loader.num_workers": 2,
                "loader.producer_wall_s": 0.1,
                "loader.producer_cpu_s": 0.09,
                "loader.consumer_s": 0.03,
                "host.usable_cores": 8.0,
                "storage.file_system": "nfs4",
            },
        ),
    )

    network_file_systems = (
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "ceph", "gpfs", "beegfs", "glusterfs"),
        *("9p", "afs", "orangefs", "wekafs", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"),
        *("hf", "http", "https", "hdfs", "webhdfs", "oci", "oss"),
    )
    min_wait_share = 0.10
    """Share of the step, as for data-disk-bw."""
    min_io_part = 0.5
    """Part of a batch's time that neither computes nor queues for a CPU (a starting value)."""
    least_of_gain = 0.5
    """Part of that waiting that the lower end of the gain counts on (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """The data set holds a path, or no loader was described."""
        return (
            text(signals, "storage.file_system") is not None or text(signals, "loader.key") is None
        )

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Reports the mount only together with the time that is waited for it."""
        kind = text(signals, "storage.file_system") or ""
        if kind not in self.network_file_systems and not kind.startswith("fuse."):
            return
        wait = Waiting.of_run(signals)
        io = io_part(signals)
        if wait.share < self.min_wait_share or io < self.min_io_part:
            return
        path = text(signals, "storage.path")
        share, share_low = wait.share * io, wait.share_low * io
        yield Candidate(
            summary=(
                f"The data set holds {path or 'a path'} ({kind}); {percent(io)} of the time of "
                f"making a batch is waiting, and the training waits for batches for "
                f"{percent(wait.share)} of the step."
            ),
            evidence=(
                *observed(signals, "storage.file_system"),
                *observed(signals, "storage.path"),
                *observed(signals, "step.data_wait_share", self.min_wait_share),
                *observed(signals, "loader.producer_wall_s"),
                *observed(signals, "loader.producer_cpu_s"),
                *observed(signals, "loader.num_workers"),
            ),
            share=share,
            share_low=share_low,
            gain=Gain(amdahl(self.least_of_gain * share_low), amdahl(share)),
            where=place(signals, "loader.dataset_where") or place(signals, "loader.where"),
            fixes=(self._advice(signals),),
            confidence="medium",
        )

    @staticmethod
    def _advice(signals: Signals) -> FixAdvice:
        batch = number(signals, "storage.asked_bytes_per_batch")
        batches = number(signals, "loader.batches")
        workers = plural(int(needed(signals, "loader.num_workers")), "worker")
        known = batch is not None and batches is not None and batch > 0
        much = f" ({batch * batches / 1e9:.3g} GB an epoch)" if known and batch and batches else ""
        return FixAdvice(
            fix="storage-nearer",
            params={},
            safety="safe",
            text=f"Copy the data{much} to a local disk before training, or cache it there; else "
            f"let more than {workers} wait at the same time.",
        )
