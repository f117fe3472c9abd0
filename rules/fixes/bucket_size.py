"""bucket-size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .parallel_arguments import ParallelArguments

MIB = 2**20


class BucketSize(ParallelArguments):
    """The size of the buckets in which DistributedDataParallel averages gradients, in MiB.

    It is refused where the script gives each bucket a size of its own (`bucket_cap_mb_list`).
    """

    id = "bucket-size"
    title = "Size of gradient buckets"
    safety = "safe"
    parameters: Mapping[str, type] = {"bucket_cap_mb": int}

    def _why_not(self, named: Mapping[str, Any]) -> str | None:
        wanted = self.params.get("bucket_cap_mb")
        if not wanted or wanted < 1:
            return "a bucket holds 1 MiB at least"
        return "each bucket has a size of its own" if named.get("bucket_cap_mb_list") else None

    def _look(self) -> None:
        parallel = self._latest() if self._latest is not None else None
        if parallel is not None:
            self._seen = {"bucket_cap_mb": parallel.bucket_bytes_cap // MIB}
