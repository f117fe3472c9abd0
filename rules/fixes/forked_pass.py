"""Looks at every sample of a data set in a forked process, which leaves this one as it was.

Standard library only.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any

from ...profiler.agent import guard
from .forked_answer import read_answer

PATIENCE_S = 30.0
"""A pass that takes longer is not worth its time, or never ends."""


def every_sample(torch: Any, dataset: Any, width: int, look: Callable[[Any], bytes]) -> bytes | str:
    """What a function says of each sample, one after the other; a sentence where that fails.

    Before each sample the generators get the same seed: augmentation is the same for equal samples.

    Args:
        torch: The user's torch.
        dataset: With a length.
        width: Bytes that `look` returns.
        look: Called in the forked process.
    """
    count = len(dataset)
    found = mmap.mmap(-1, max(count * width, 1))
    reading, writing = os.pipe()
    with warnings.catch_warnings():  # of a fork beside threads: workers' forks do the same
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            guard.reset()
            torch.set_num_threads(1)
            guard.attempt("samples", _look_at_all, torch, dataset, width, look, found)
            os.write(writing, (guard.error_of("samples") or "done")[:200].encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        said = read_answer(reading, PATIENCE_S)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if said is None:
        return f"reading all samples takes more than {PATIENCE_S:.0f} s"
    if said != "done":
        reason = said.partition("\n")[0] or "it crashed"
        return f"a forked process cannot read all samples ({reason})"
    return found[: count * width]


def _look_at_all(
    torch: Any, dataset: Any, width: int, look: Callable[[Any], bytes], found: mmap.mmap
) -> None:
    numpy = sys.modules.get("numpy.random")
    for index in range(len(dataset)):
        torch.manual_seed(0)
        random.seed(0)
        if numpy is not None:
            numpy.seed(0)
        found[index * width : (index + 1) * width] = look(dataset[index])
