"""What a fix changes in the source, as data.

Standard library only: fixes are loaded in the user's process. `trainprof.rules.source_edits` turns
these into text, in trainprof's own process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class CallArguments:
    """Keyword arguments of the call that makes the target.

    Attributes:
        callees: What is called, without its module: "DataLoader".
        values: Argument -> wanted value.
        defaults: Argument -> what it is when left out; a wanted value that equals it is left out.
        positions: Argument -> place, for those that may be passed without their name.
        excluded: Argument -> value beside which the wanted ones are an error; it is removed.
        instead: Where a library's `train()` makes the target: callee whose arguments say the same
            -> argument -> value.
    """

    callees: tuple[str, ...]
    values: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    positions: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, Any] = field(default_factory=dict)
    instead: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """A statement that a script has once: `torch.set_num_threads(2)`.

    Where the script has it already its argument is changed, else it is put after the imports.
    """

    module: str
    function: str
    value: Any


@dataclass(frozen=True, slots=True)
class SwitchedOff:
    """A switch that is not wanted: the statement is removed, of a `with` only its body stays.

    Attributes:
        functions: Without their module; the first argument says on or off.
        contexts: On for the length of a `with`.
        callee: End of the name of a class that has the switch as an argument: "Trainer".
        keyword: That argument.
        module: Start of the name of the module that functions and contexts come from.
    """

    functions: tuple[str, ...]
    contexts: tuple[str, ...]
    callee: str = ""
    keyword: str = ""
    module: str = "torch"


@dataclass(frozen=True, slots=True)
class AroundLoop:
    """Statements before the training loop, and at the start of each of its steps.

    Attributes:
        module: Is imported if it is not.
        before: Lines before the outermost loop around the backward of its function.
        each_step: Lines at the start of the innermost one; `{step}` stands for its counter.
    """

    module: str
    before: tuple[str, ...]
    each_step: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemovedCall:
    """A statement that calls a function of a module of the standard library: `gc.collect()`.

    At the target's line, else in the loops of the script; the import goes with its last use.
    """

    module: str
    function: str


@dataclass(frozen=True, slots=True)
class Detached:
    """What the target's line keeps beyond the step is kept without its graph."""


@dataclass(frozen=True, slots=True)
class WithoutGradients:
    """The only function of the script that validates gets a decorator: `torch.no_grad`."""


@dataclass(frozen=True, slots=True)
class WithoutCheckpointing:
    """Functions under activation checkpointing are called directly; switches for it go."""


@dataclass(frozen=True, slots=True)
class Frozen:
    """Parts of the model get no gradients: a statement for each, before the optimizer is made.

    Attributes:
        modules: Their paths below the model whose other parts the optimizer gets.
    """

    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SinglePrecision:
    """A model in doubles, and its batches, become float32 where they are made.

    Attributes:
        batch: Types of a batch's tensors, in order; None where they are not known.
    """

    batch: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class WithoutSync:
    """Forward and backward of a plain loop that accumulates, in `with ... model.no_sync():`.

    The condition under which the loop calls the optimizer says which micro-batch is the last.
    """


@dataclass(frozen=True, slots=True)
class Thinned:
    """The statement at the target's line, in the training loop, is run in each so many steps.

    Where it depends on such a condition already, its number is changed.
    """

    every: int


@dataclass(frozen=True, slots=True)
class Autocast:
    """The forward of a plain loop, up to its loss, in `with torch.autocast(...):`.

    Attributes:
        device: Type of device. dtype: Of torch's, without its module.
    """

    device: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Compiled:
    """The model of a plain loop is compiled in place before it: `model.compile()`."""


SourceEdit = (
    CallArguments
    | ScriptCall
    | SwitchedOff
    | AroundLoop
    | RemovedCall
    | Detached
    | WithoutGradients
    | WithoutCheckpointing
    | WithoutSync
    | Thinned
    | Autocast
    | Frozen
    | SinglePrecision
    | Compiled
)
