"""anomaly-off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .fix import Fix, Process, ReadBack
from .source_edit import SwitchedOff


class AnomalyOff(Fix):
    """Anomaly detection stays off, whatever the script asks for.

    It changes no number: a NaN in a backward is then found in the loss, not at its operator.
    """

    id = "anomaly-off"
    title = "Anomaly detection off"
    safety = "safe"
    parameters: Mapping[str, type] = {"anomaly": bool}
    made_in_source = True

    def install(self, process: Process) -> None:
        """Wraps the one switch that both `set_detect_anomaly` and `detect_anomaly` turn."""
        self._torch = process.torch
        self._asked = 0
        process.patches.replace(self._torch, "set_anomaly_enabled", self._set)

    def _set(self, original: Any) -> Any:
        def set_anomaly_enabled(mode: bool, check_nan: bool = True) -> None:
            self._asked += bool(mode)
            original(False, check_nan)

        return set_anomaly_enabled

    def read_back(self) -> ReadBack:
        """Whether it is off, although the script asked for it."""
        on = self._torch.is_anomaly_enabled()
        if not self._asked:
            return ReadBack(False, {"anomaly": on}, "the script does not switch it on")
        return ReadBack(not on, {"anomaly": on}, "it is on" if on else None)

    def edit(self) -> SwitchedOff:
        """The statement goes; of a `with` its body stays. Lightning's Trainer has an argument."""
        return SwitchedOff(
            functions=("set_detect_anomaly",),
            contexts=("detect_anomaly",),
            callee="Trainer",
            keyword="detect_anomaly",
        )
