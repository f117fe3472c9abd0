"""data-small-files."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.batch_cost import NEEDS, BatchCost
from trainprof.rules.reading import duration, needed, observed, percent, place, size
from trainprof.rules.rule import Candidate, Case, Rule

FILES = {
    "step.data_wait_share": (0.6, 0.58, 0.62),
    "loader.num_workers": 0,
    "loader.producer_wall_s": 0.009,
    "loader.producer_cpu_s": 0.007,
    "loader.consumer_s": 0.006,
    "loader.consumer_cpu_s": 0.006,
    "loader.dataset_where": {"file": "train.py", "line": 14},
    "host.usable_cores": 2.0,
    "dataset.batch_s": 0.0085,
    "dataset.batch_size": 32,
    "dataset.item_files": 1.0,
    "dataset.item_file_s": 0.0002,
    "dataset.file_bytes": 4300.0,
}


class SmallFiles(Rule):
    """Each sample lies in a small file of its own, and opening it is what takes the time.

    ## What it finds
    A file (or several) opened for each sample, each of less than 128 KiB: one `.npy`, `.json` or
    `.pt` per sample.

    ## Why it costs time
    Opening a file costs a look-up of its path, a file object, and a header to parse: 50 to 200
    microseconds from a warm cache, milliseconds from a network file system or a cold disk, however
    little is read. For a few kilobytes that is more than the reading. On a disk such reads come in
    random order; on a server each one is a request of its own.

    ## Evidence needed
    - While the dataset probe fetched items again, Python code opened at least one file for each, of
      less than 128 KiB on average.
    - The calls that open or read files take at least 30 % of a batch's time, and at least 5 % of
      the step goes with them.

    The interval: this part becomes 2 to 10 times cheaper. Measured for `numpy.load` of a file per
    sample, from the page cache, against rows of one memory-mapped file: steps 2.4 times faster
    [1.4, 4.5]. Cold or over a network it is more.

    ## Fix
    Pack the samples once: all rows in one `.npy` file that is memory-mapped
    (`numpy.load(path, mmap_mode="r")[i]`), LMDB, or tar shards (WebDataset); or read all of them
    into memory, where they fit.

    ## Fix safety
    Safe: the same bytes in the same order. Shards that are read sequentially change
    the order, which is **semantics**.

    ## When it is wrong
    - The wait is hidden by workers: then nothing is said.
    - Libraries that open files in C (OpenCV, torchvision, HDF5) are not seen by the probe.
    - The probe reads from the page cache what the training may have had to fetch: the real cost is
      then larger.

    ## References
    - numpy.load, mmap_mode: https://numpy.org/doc/stable/reference/generated/numpy.load.html
    - WebDataset: https://github.com/webdataset/webdataset
    - Machine Learning Engineering, storage:
      https://github.com/stas00/ml-engineering/tree/master/storage
    """

    id = "data-small-files"
    title = "A small file is opened for each sample"
    needs = (
        *NEEDS,
        "dataset.batch_size",
        "dataset.item_files",
        "dataset.item_file_s",
        "dataset.file_bytes",
    )
    suppresses = ("data-workers-under", "data-cacheable", "data-transform-cost")
    fires_on = (
        Case("an array in a file per sample", FILES, severity="critical", gain=(1.4, 2.0)),
        Case(
            "five files for a sample, on a network file system",
            {
                **FILES,
                "step.data_wait_share": (0.9, 0.88, 0.92),
                "loader.producer_wall_s": 0.3,
                "loader.producer_cpu_s": 0.02,
                "dataset.batch_s": 0.29,
                "dataset.item_files": 5.0,
                "dataset.item_file_s": 0.0085,
            },
            severity="critical",
        ),
    )
    silent_on = (
        Case("large files", {**FILES, "dataset.file_bytes": 900_000.0}),
        Case("one file for hundreds of samples", {**FILES, "dataset.item_files": 0.01}),
        Case("reading is a small part of an item", {**FILES, "dataset.item_file_s": 0.00004}),
        Case("workers hide it", {**FILES, "step.data_wait_share": (0.02, 0.015, 0.025)}),
    )

    max_file_bytes = 128 * 1024
    """Mean bytes read of a file; about where reading takes as long as opening (a starting
    value)."""
    min_files = 1.0
    """Files opened per sample."""
    min_part = 0.30
    """Of a batch's time (a starting value)."""
    min_share = 0.05
    """Share of the step; XProf calls an input-bound step moderate from 5 %."""
    ratio_low, ratio_high = 2.0, 10.0
    """Old over new time: a file per sample against rows of one memory-mapped file."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Asks how many files a sample opens, how small they are, and what that costs."""
        cost = BatchCost.of(signals)
        files = needed(signals, "dataset.item_files")
        bytes_each = needed(signals, "dataset.file_bytes")
        if cost is None or files < self.min_files or bytes_each > self.max_file_bytes:
            return
        per_item = needed(signals, "dataset.item_file_s")
        part = cost.part(needed(signals, "dataset.batch_size") * per_item)
        share, share_low = cost.share(part)
        if part < self.min_part or share < self.min_share:
            return
        many = "one file" if files < 1.5 else f"{files:.0f} files"
        yield Candidate(
            summary=(
                f"Each sample opens {many} of {size(bytes_each)}: {duration(per_item)} for that, "
                f"{percent(part)} of preparing a batch and {percent(share)} of the step."
            ),
            evidence=(
                *observed(signals, "step.data_wait_share"),
                *observed(signals, "dataset.item_files", self.min_files),
                *observed(signals, "dataset.file_bytes", self.max_file_bytes),
                *observed(signals, "dataset.item_file_s"),
                *observed(signals, "dataset.batch_s"),
            ),
            share=share,
            share_low=share_low,
            gain=cost.gain(part, self.ratio_low, self.ratio_high),
            where=place(signals, "dataset.file_where") or place(signals, "loader.dataset_where"),
            fixes=(
                FixAdvice(
                    fix="pack-files",
                    params={},
                    safety="safe",
                    text="Put all samples into one file that is memory-mapped, or into memory, "
                    "once.",
                    code='self.rows = numpy.load("all.npy", mmap_mode="r")  # in __init__',
                ),
            ),
        )
