"""Copies the training's data set into the run folder, for the probe that looks at it afterwards.

Once, on the agent's thread, when the first steps are done. The copy is a pickle made so that it
cannot change or delay the training:

- Code of the user's that pickling would run (`__getstate__`, `__reduce__`) is not run: such a data
  set is not copied. Libraries' own are.
- Sizes are looked at before anything is copied. Tensors and arrays go to the file straight from
  their memory, outside the interpreter's lock; a memory-mapped file is noted by name.
- Every few objects the interpreter's lock is offered to the training thread, and after
  `MOST_CPU_S` of its own time the copying gives up.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

from ..model.facts import CopyFact
from .dataset_pickler import DatasetPickler, NotCopied, referenced_names
from .describe.loader import batch_size

LEAST_STEPS = 20
"""Before that nothing is said about a training, so nothing need be known of its data."""
MOST_PICKLE_BYTES = 64 << 20
MOST_BUFFER_BYTES = 256 << 20
MOST_VALIDATION_BYTES = 64 << 20
MOST_CPU_S = 0.1
"""Time of the agent's thread for one copy."""
MOST_GLOBALS = 200
_REFUSALS = (
    pickle.PicklingError,
    TypeError,
    AttributeError,
    ValueError,
    RuntimeError,
    RecursionError,
    NotImplementedError,
)
"""What pickling raises at objects that cannot be copied (or change meanwhile: RuntimeError)."""


class DatasetCopy:
    """Writes `dataset-<key>.pickle` and `.buffers` once, for the loader that feeds the training.

    Once more, and less of it, for the first loader of other data that does not: the validation's.
    """

    def __init__(self, torch: Any, folder: Callable[[], str]) -> None:
        self._torch = torch
        self._folder = folder
        self._training_done = self._validation_done = os.environ.get("TRAINPROF_PROBE") != "1"
        self._trained: Callable[[], Any] = _nothing

    def after_fork(self) -> None:
        """A forked child copies nothing: it is a worker, or its parent copies."""
        self._training_done = self._validation_done = True

    def attempt(self, loaders: Any, training: Any, steps: int) -> tuple[str, CopyFact] | None:
        """Copies a data set, when it is time.

        Returns:
            The loader's key and what became of the copy; None before and after.
        """
        if (self._training_done and self._validation_done) or steps < LEAST_STEPS:
            return None
        if self._training_done:
            return self._attempt_validation(loaders.entries, training)
        for number in sorted(training):
            entry = loaders.entries[number] if 0 <= number < len(loaders.entries) else None
            loader = None if entry is None else _there(entry.loader)
            if loader is not None:
                self._training_done = True
                self._trained = _reference(loader.dataset)
                fact = self._copy(loader, number, MOST_BUFFER_BYTES)
                self._validation_done = "file" not in fact
                return f"l{number}", fact
        return None

    def _attempt_validation(self, entries: Any, training: Any) -> tuple[str, CopyFact] | None:
        """Not where the training's own data set, as it is, serves for validation.

        The loader may be gone, as one that is made for each validation is; its data set is not.
        """
        there = {number: _there(entry.dataset) for number, entry in enumerate(entries)}
        trained = [self._trained(), *(there.get(number) for number in training)]
        if all(one is None for one in trained):
            return None
        for number, dataset in there.items():
            known = any(dataset is one for one in trained)
            if number not in training and dataset is not None and not known:
                self._validation_done = True
                loader = SimpleNamespace(dataset=dataset, batch_size=None, num_workers=0)
                fact = self._copy(loader, number, MOST_VALIDATION_BYTES)
                return f"l{number}", {**fact, "role": "validation"}
        return None

    def _copy(self, loader: Any, number: int, most_bytes: int) -> CopyFact:
        start_ns = time.thread_time_ns()
        path = os.path.join(self._folder(), f"dataset-l{number}")
        try:
            size = self._write(loader, path, most_bytes)
        except NotCopied as refusal:
            fact: CopyFact = {"reason": str(refusal)}
        except OSError as error:
            fact = {"reason": f"its copy could not be written ({error.strerror})"}
        except _REFUSALS as error:
            fact = {"reason": f"it cannot be pickled ({type(error).__name__}: {error})"[:300]}
        else:
            fact = {"file": os.path.basename(path), "bytes": size}
        if "reason" in fact:
            remove_copy(path)
        fact["cpu_ns"] = time.thread_time_ns() - start_ns
        return fact

    def _write(self, loader: Any, path: str, most_bytes: int) -> int:
        dataset = loader.dataset
        deadline_ns = time.thread_time_ns() + round(MOST_CPU_S * 1e9)
        with open(f"{path}.buffers", "wb", buffering=0) as buffers:
            pickler = DatasetPickler(
                self._torch, buffers, MOST_PICKLE_BYTES, most_bytes, deadline_ns
            )
            parts = {"dataset": pickler.pickled(dataset)}
            pickler.known = {id(dataset): "dataset"}
            for name in ("collate_fn", "batch_sampler"):
                parts[name] = _or_reason(pickler, getattr(loader, name, None))
            names = referenced_names(pickler.main_objects, MOST_GLOBALS)
            values = {
                name: _or_reason(pickler, value)
                for name, value in names.items()
                if _is_value(value)
            }
            size = pickler.pickle_bytes + pickler.buffer_bytes
        main: Any = sys.modules["__main__"]
        header = {
            "sys_path": [entry for entry in sys.path if isinstance(entry, str)],
            "cwd": os.getcwd(),
            "script": os.path.abspath(main.__file__) if getattr(main, "__file__", None) else None,
            "package": getattr(main, "__package__", None),
            "names": sorted(names),
            "values": values,
            "parts": parts,
            "batch_size": batch_size(loader, getattr(loader, "batch_sampler", None)),
            "num_threads": 1 if loader.num_workers else self._torch.get_num_threads(),
        }
        with open(f"{path}.pickle", "wb") as file:
            pickle.dump(header, file, protocol=5)
        return size


def _nothing() -> None:
    """In place of a weak reference."""


def _reference(thing: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(thing)
    except TypeError:
        return _nothing  # a list


def _there(reference: Any) -> Any:
    return None if reference is None else reference()


def _or_reason(pickler: DatasetPickler, value: Any) -> Any:
    """A part that may be missing: its pickle, or why there is none."""
    try:
        return pickler.pickled(value)
    except NotCopied as refusal:
        return str(refusal)
    except _REFUSALS as error:
        return f"it cannot be pickled ({type(error).__name__}: {error})"[:300]


def _is_value(value: Any) -> bool:
    """Whether a global of the script is data: its source defines modules, classes, functions."""
    if isinstance(value, FunctionType):
        return value.__name__ == "<lambda>" or "<locals>" in value.__qualname__
    return not isinstance(value, (type, ModuleType))


def remove_copy(path: str) -> None:
    """Removes both files of a copy; what cannot be removed stays."""
    for suffix in (".pickle", ".buffers"):
        with suppress(OSError):
            os.unlink(path + suffix)
