"""intra-op-threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .fix import Fix, Process, ReadBack
from .source_edit import ScriptCall


class IntraOpThreads(Fix):
    """How many threads one operation of torch's uses on the CPU.

    Set before the script goes on; what the script sets later is overruled, as it is what was
    measured. Sums are split otherwise, so rounding differs.
    """

    id = "intra-op-threads"
    title = "Threads per operation"
    safety = "numerics"
    parameters: Mapping[str, type] = {"num_threads": int}
    searched = ("num_threads",)

    def install(self, process: Process) -> None:
        """Sets the number, and keeps it."""
        self._torch = process.torch
        self._torch.set_num_threads(self.params["num_threads"])
        process.patches.replace(self._torch, "set_num_threads", self._keep)

    def _keep(self, original: Any) -> Any:
        def set_num_threads(number: int) -> None:
            original(self.params["num_threads"])

        return set_num_threads

    def read_back(self) -> ReadBack:
        """What torch says."""
        number = self._torch.get_num_threads()
        active = number == self.params["num_threads"]
        return ReadBack(active, {"num_threads": number}, None if active else "something reset it")

    def edit(self) -> ScriptCall:
        """Said once in the script, before anything is computed."""
        if "num_threads" not in self.params:
            raise ValueError(f"{self.id} needs num_threads")
        return ScriptCall("torch", "set_num_threads", self.params["num_threads"])
