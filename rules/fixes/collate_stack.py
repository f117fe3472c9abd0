"""collate-stack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import hide_from_compiler
from .fix import Fix, Process, ReadBack
from .kept_rows import KeptRows
from .loading import Loading
from .number_lists import quick_tensor
from .same_values import same_bits
from .shared_counts import SharedCounts

NAMES = ("tensor", "as_tensor")
"""Functions of torch's that make tensors of lists."""
CHECKED = 16
"""First tensors of each process, which are made in the usual way too."""
CHECK_AGAIN = 512
"""Then one of so many."""
BATCHES_TO_SEE = 8
"""Without such a list in so many batches there is nothing to make quicker."""


class CollateStack(Fix):
    """Lists of numbers and of arrays become tensors in one pass while a batch is made.

    While a loader fetches a batch, `torch.tensor` and `torch.as_tensor` read nested lists of
    floats or of ints as one block, and stack lists of NumPy arrays of one shape. Everything else
    goes to torch as before: numbers of several types, rows of different length, another device,
    a wanted gradient. Lists of floats that the data set itself holds become tensors once, without
    loader workers: as long as a list holds the same numbers, it is looked up (an eighth of the free
    memory, 128 MB at most).

    The first tensors of each process, and one of 512 after that, are made both ways; one that
    differs in any bit ends it. Batches, their types and their order stay the same.
    """

    id = "collate-stack"
    title = "Batches of lists in one pass"
    safety = "safe"
    parameters: Mapping[str, type] = {}
    verifies = ("step.data_wait_share", "down")
    made_in_source = True
    by_hand = (
        "rows = torch.tensor(rows) once, in the data set's __init__; torch.stack in collate_fn"
    )

    def install(self, process: Process) -> None:
        """Wraps the fetching of batches."""
        self._torch = process.torch
        guard.attempt(f"fix {self.id}", _remember_constructors, self._torch)
        self._usual = {name: getattr(self._torch, name) for name in NAMES}
        self._counts = SharedCounts("batches", "tensors", "checked")
        self._quick = {name: self._quickly(self._usual[name]) for name in NAMES}
        self._made = 0  # in this process
        self._rows: KeptRows | None = None
        self._loading = Loading(process, self.target, self.id, self._on_fetcher)

    def _on_fetcher(self, loader: Any, fetcher: Any) -> None:
        fetch = fetcher.fetch
        places = [(vars(self._torch), name, name) for name in NAMES]
        collate = getattr(fetcher.collate_fn, "__globals__", None)
        for local, value in list((collate or {}).items()):
            places += [(collate, local, name) for name in NAMES if value is self._usual[name]]

        def fetch_quickly(indices: Any) -> Any:
            if self._counts.off:
                return fetch(indices)
            self._counts.add("batches")
            usual = self._usual
            replaced = [one for one in places if one[0].get(one[1]) is usual[one[2]]]
            for names, local, name in replaced:
                names[local] = self._quick[name]
            try:
                return fetch(indices)
            finally:
                for names, local, name in replaced:
                    names[local] = usual[name]

        fetcher.fetch = fetch_quickly

    def _quickly(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        mode_depth = getattr(self._torch._C, "_len_torch_function_stack", lambda: 0)

        def tensor(*args: Any, **kwargs: Any) -> Any:
            plain = len(args) == 1 and (not kwargs or list(kwargs) == ["dtype"])
            if not plain or mode_depth():  # such as a default device
                return usual(*args, **kwargs)
            made, times = guard.attempt(
                f"fix {self.id}", self._tensor, args[0], kwargs.get("dtype")
            ) or (None, 0)
            if made is None:
                return usual(*args, **kwargs)
            return self._checked(made, times, lambda: usual(*args, **kwargs))

        hide_from_compiler(tensor)
        return tensor

    def _tensor(self, data: Any, dtype: Any) -> tuple[Any, int]:
        """A tensor, or None, and how many were made in this way in this process."""
        if self._rows is None:
            self._rows = KeptRows(self._torch)
        found = self._rows.tensor(data, dtype)
        if found is not None:
            return found, self._rows.found
        made = quick_tensor(self._torch, data, dtype)
        if made is not None:
            self._made += 1
            self._rows.keep(data, made)
        return made, self._made

    def _checked(self, made: Any, times: int, usual: Callable[[], Any]) -> Any:
        self._counts.add("tensors")
        if times > CHECKED and times % CHECK_AGAIN:
            return made
        expected = usual()
        self._counts.add("checked")
        if same_bits(self._torch, made, expected):
            return made
        self._counts.refuse("a tensor came out other than torch makes it")
        return expected

    def read_back(self) -> ReadBack:
        """How many tensors were made in one pass."""
        seen = self._counts.totals()
        if self._counts.refused is not None:
            return ReadBack(False, seen, self._counts.refused)
        if seen["tensors"]:
            return ReadBack(True, seen)
        if seen["batches"] < BATCHES_TO_SEE:
            return ReadBack(None, seen, self._loading.why_none() if not seen["batches"] else None)
        return ReadBack(False, seen, "no list of numbers or arrays becomes a tensor there")


def _remember_constructors(torch: Any) -> None:
    """Lets torch look up by name now what it keeps: it must not find our functions there."""
    import_module("torch.utils._device")._device_constructors()
    torch.overrides.get_ignored_functions()
