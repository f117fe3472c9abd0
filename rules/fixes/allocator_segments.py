"""allocator-segments."""

from __future__ import annotations

from .environment import EnvironmentFix
from .fix import ReadBack


class AllocatorSegments(EnvironmentFix):
    """Segments of CUDA's caching allocator that grow, so that memory is split up less.

    It sets `PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True`. Without a CUDA device it is not in
    force.
    """

    id = "allocator-segments"
    title = "Expandable segments of the GPU's allocator"
    safety = "safe"
    by_hand = "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True python train.py"
    variable = "PYTORCH_CUDA_ALLOC_CONF"

    def value(self) -> str:
        """The setting."""
        return "expandable_segments:True"

    def read_back(self) -> ReadBack:
        """The variable, where there is a device whose allocator reads it."""
        state = super().read_back()
        if state.active and not self._torch.cuda.is_available():
            return ReadBack(False, state.seen, "there is no CUDA device")
        return state
