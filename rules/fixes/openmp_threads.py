"""openmp-threads."""

from __future__ import annotations

from collections.abc import Mapping

from .environment import EnvironmentFix
from .fix import ReadBack


class OpenmpThreads(EnvironmentFix):
    """OMP_NUM_THREADS: threads of torch's operations, and of NumPy's and SciPy's libraries too.

    Unlike `intra-op-threads` it also reaches what is computed before torch is imported, and child
    processes. Where the script sets torch's number itself, that wins and the fix is not in force.
    """

    id = "openmp-threads"
    title = "OpenMP threads"
    safety = "numerics"
    by_hand = "OMP_NUM_THREADS=2 python train.py"
    parameters: Mapping[str, type] = {"threads": int}
    searched = ("threads",)
    variable = "OMP_NUM_THREADS"

    def value(self) -> str:
        """The number.

        Raises:
            ValueError: there is none, or less than one.
        """
        threads = self.params.get("threads", 0)
        if threads < 1:
            raise ValueError(f"{self.id} needs threads=N, one or more")
        return str(threads)

    def read_back(self) -> ReadBack:
        """The variable, and what torch says."""
        state = super().read_back()
        number = self._torch.get_num_threads()
        seen = {**state.seen, "num_threads": number}
        if state.active and number != self.params["threads"]:
            return ReadBack(False, seen, "the script sets torch's number of threads")
        return ReadBack(state.active, seen, state.reason)
