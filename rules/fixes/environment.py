"""What fixes of the environment share: variables that have to be set before Python starts.

Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from .fix import Fix, Process, ReadBack


class EnvironmentFix(Fix):
    """Sets or removes one variable of the command's environment.

    `trainprof run` does so before it starts the command; the process only reads it back.

    Attributes:
        variable: Its name.
    """

    variable: str = ""

    def value(self) -> str | None:
        """What it is set to; None to remove it."""
        return None

    def environment(self) -> Mapping[str, str | None]:
        """The variable with its value."""
        return {self.variable: self.value()}

    def install(self, process: Process) -> None:
        """Nothing is left to do."""
        self._torch = process.torch

    def read_back(self) -> ReadBack:
        """What the process has in its environment."""
        found = os.environ.get(self.variable)
        if found == self.value():
            return ReadBack(True, {self.variable: found})
        return ReadBack(False, {self.variable: found}, "the script or its launcher sets it")
