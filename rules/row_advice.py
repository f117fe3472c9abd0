"""Advice for data whose samples are rows of tensors in memory."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import text

BY_INDEX = FixAdvice(
    fix="dataset-indexed",
    params={},
    safety="safe",
    text="Make each batch by one index into the tensors, instead of sample by sample.",
    code="DataLoader(dataset, batch_size=None, sampler=BatchSampler(…))",
)


def batches_by_index(signals: Signals) -> Iterator[FixAdvice]:
    """One index for a whole batch instead of one for each sample, for a `TensorDataset`."""
    kind = (text(signals, "loader.dataset_type") or "").rpartition(".")[2]
    if kind == "TensorDataset":
        yield BY_INDEX
