"""`Fix`: what every fix says of itself and does inside the training process.

Standard library only: the agent loads this in the user's process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .source_edit import SourceEdit


class Patched(Protocol):
    """Replaces attributes such that all of them can be put back."""

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Sets `owner.name` to `make(original)`."""


@dataclass
class Process:
    """What a fix gets to work with, inside the training process.

    Attributes:
        torch: The user's torch.
        patches: Undone together when the agent leaves.
        caller: The user's line that is being run, as `{"file", "line", "function"}`, or None.
        at_start: Calls a function before the first backward.
        before_update: Calls a function with the optimizer before each update of the parameters.
        after_update: Calls a function after each update of the parameters.
        at_end: Calls a function when the process ends, before its files count as written.
    """

    torch: Any
    patches: Patched
    caller: Callable[[], Mapping[str, Any] | None]
    at_start: Callable[[Callable[[], None]], None]
    before_update: Callable[[Callable[[Any], None]], None]
    after_update: Callable[[Callable[[], None]], None]
    at_end: Callable[[Callable[[], None]], None]


@dataclass
class ReadBack:
    """Whether the change is in force, as the objects themselves say.

    Attributes:
        active: None as long as there was nothing to read.
        seen: What was read, as JSON values.
        reason: Why it is not active.
    """

    active: bool | None
    seen: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None


class Fix:
    """A change of a training that can be applied while it runs.

    The class's docstring is its page. `install` patches, `read_back` tells whether the change is in
    force, `edit` says how the source would read. A fix never raises into the script: what its
    wrappers do goes through the original first, or falls back to it.

    Attributes:
        id: Name in plans and findings.
        title: A few words.
        safety: "safe" (same maths, same order), "numerics" or "semantics".
        rounding: For numerics: True where only rounding differs, False where the random numbers do.
        safe_without_draws: Whether all it changes is where random numbers of the data set come
            from, so that it is safe where reading a sample draws none.
        parameters: Names, each with its type; others are refused.
        searched: Whole numbers among them around whose advised values tune looks for better ones.
        verifies: Signal that must move for the gain to be this fix's, with the direction: "step.
            data_wait_share", "down".
        made_in_source: True where it is for what one line of the script makes or switches on.
        pays_off_later: True where its start takes so long that only a long training gains.
        from_second_epoch: True where the first epoch only prepares what later ones gain from.
        by_hand: What a person would write where no edit is safe.
    """

    id: str = ""
    title: str = ""
    safety: str = "numerics"
    rounding: bool = True
    safe_without_draws: bool = False
    parameters: Mapping[str, type] = {}
    searched: tuple[str, ...] = ()
    verifies: tuple[str, str] | None = None
    made_in_source: bool = False
    pays_off_later: bool = False
    from_second_epoch: bool = False
    by_hand: str | None = None

    def __init__(self, params: Mapping[str, Any], target: Any = None) -> None:
        """Takes parameters and target.

        Raises:
            ValueError: a parameter is unknown or of another type.
        """
        self.params = dict(params)
        self.target = target
        for name, value in self.params.items():
            wanted = self.parameters.get(name)
            if wanted is None:
                raise ValueError(f"{self.id} has no parameter {name}")
            if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
                raise ValueError(f"{name} of {self.id} is {value!r}, not {wanted.__name__}")

    def install(self, process: Process) -> None:
        """Patches; called once torch is imported and before the script goes on."""
        raise NotImplementedError

    def read_back(self) -> ReadBack:
        """Whether the change is in force now."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str | None]:
        """Variables to set before the command starts, of those that `run` allows; None removes one.

        Raises:
            ValueError: a parameter is missing or out of range.
        """
        return {}

    def edit(self) -> SourceEdit | None:
        """What a person would change in the source; None where that takes more than a rule.

        Raises:
            ValueError: a parameter is missing, without which that cannot be said.
        """
        return None
