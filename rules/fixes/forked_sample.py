"""Tries one sample of a data set in a forked process, as a worker would read it.

The script's own process stays as it is: no random number is drawn, no file opened, nothing cached.

Standard library only.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...profiler.agent import guard
from .forked_answer import read_answer
from .nested import Nested

PATIENCE_S = 20.0
"""A sample that takes longer is one that a forked process waits for in vain, or nearly so."""


@dataclass(frozen=True)
class Sample:
    """What a forked process found.

    Attributes:
        batch_bytes: Of the tensors and arrays of one batch, None if unknown.
        problem: A sentence, where no sample could be read.
    """

    batch_bytes: int | None = None
    problem: str | None = None


def forked_sample(torch: Any, arguments: Mapping[str, Any]) -> Sample:
    """Reads a sample in a child.

    Args:
        torch: The user's torch.
        arguments: Of the loader, by name.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():  # of a fork beside threads: the workers' forks do the same
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.write(writing, _in_child(torch, arguments).encode("utf-8", "replace")[:4000])
        finally:
            os._exit(0)
    os.close(writing)
    try:
        return _answer(read_answer(reading, PATIENCE_S))
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _answer(text: str | None) -> Sample:
    if text is None:
        return Sample(problem=f"a forked process had read no sample after {PATIENCE_S:.0f} s")
    word, _, rest = text.partition(" ")
    if word == "bytes" and rest.isdigit():
        return Sample(batch_bytes=int(rest))
    return Sample(problem=f"a forked process cannot read the data set ({rest or 'it crashed'})")


def _in_child(torch: Any, arguments: Mapping[str, Any]) -> str:
    guard.reset()
    torch.set_num_threads(1)  # as workers do: threads of the parent's pool are not there
    size = guard.attempt("sample", _batch_bytes, torch, arguments)
    if isinstance(size, int):
        return f"bytes {size}"
    error = guard.error_of("sample") or "it gave nothing"
    return "problem " + error.partition("\n")[0][:200]


def _batch_bytes(torch: Any, arguments: Mapping[str, Any]) -> int:
    dataset = arguments["dataset"]
    count = arguments.get("batch_size", 1) or 1
    if isinstance(dataset, torch.utils.data.IterableDataset):
        sample = next(iter(dataset))
    elif arguments.get("batch_sampler") is not None:
        chosen = list(next(iter(arguments["batch_sampler"])))
        count, sample = len(chosen), dataset[chosen[0]]
    elif arguments.get("sampler") is not None:
        sample = dataset[next(iter(arguments["sampler"]))]
    else:
        sample = dataset[0]
    tensors = list(Nested(torch.Tensor).tensors(sample))
    devices = {tensor.device.type for tensor in tensors} - {"cpu"}
    if devices:
        raise ValueError(f"its samples lie on {devices.pop()}")
    arrays = _arrays(sample)
    return int(count * sum(one.nbytes for one in [*tensors, *arrays]))


def _arrays(sample: Any) -> list[Any]:
    """NumPy arrays of a sample, which the collate function makes tensors of."""
    if type(sample).__module__ == "numpy" and hasattr(sample, "nbytes"):
        return [sample]
    parts = sample.values() if isinstance(sample, Mapping) else sample
    if not isinstance(sample, (list, tuple, Mapping)):
        return []
    return [array for part in parts for array in _arrays(part)]
