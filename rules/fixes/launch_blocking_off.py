"""launch-blocking-off."""

from __future__ import annotations

from .environment import EnvironmentFix


class LaunchBlockingOff(EnvironmentFix):
    """The host does not wait for each kernel: CUDA_LAUNCH_BLOCKING is removed."""

    id = "launch-blocking-off"
    title = "Kernels are not waited for"
    safety = "safe"
    by_hand = "unset CUDA_LAUNCH_BLOCKING"
    variable = "CUDA_LAUNCH_BLOCKING"
