"""Changes of the source as sentences: what to write by hand, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trainprof.rules.fixes.source_edit import (
    AroundLoop,
    Autocast,
    CallArguments,
    Compiled,
    Detached,
    Frozen,
    RemovedCall,
    ScriptCall,
    SinglePrecision,
    SourceEdit,
    SwitchedOff,
    Thinned,
    WithoutGradients,
    WithoutSync,
)
from trainprof.rules.source_edits.diff import shown_path


@dataclass(frozen=True, slots=True)
class ByHand:
    """A change that is left to a person.

    Attributes:
        fix: Its id. reason: Why it is not made, without a full stop.
        code: What to write, where that is known.
        path: Absolute, of the file to look at, or None. line: In it.
    """

    fix: str
    reason: str
    code: str | None = None
    path: str | None = None
    line: int | None = None

    def sentence(self, folder: Path) -> str:
        """What to do where, and why it is not done; paths below the folder are relative to it."""
        place = f" at {shown_path(self.path, folder)}" if self.path is not None else ""
        line = f":{self.line}" if place and self.line is not None else ""
        code = f" Write: {self.code}" if self.code is not None else ""
        return f"{self.fix}{place}{line}: {self.reason.rstrip('.')}.{code}"


def in_words(edit: SourceEdit) -> str:
    """What to write, in one line."""
    if isinstance(edit, CallArguments):
        return _arguments_in_words(edit)
    if isinstance(edit, ScriptCall):
        return f"{edit.module}.{edit.function}({edit.value!r})"
    if isinstance(edit, AroundLoop):
        return _loop_in_words(edit)
    if isinstance(edit, SwitchedOff):
        if not edit.functions:
            return f"without {edit.contexts[0]}"
        return f"{edit.functions[0]}(False)"
    if isinstance(edit, RemovedCall):
        return f"without {edit.module}.{edit.function}()"
    if isinstance(edit, Autocast):
        return f'with torch.autocast("{edit.device}", dtype=torch.{edit.dtype}): around the forward'
    if isinstance(edit, SinglePrecision):
        return "torch.as_tensor(x, dtype=torch.float32) where the batches are made"
    if isinstance(edit, Frozen):
        return "; ".join(f"model.{path}.requires_grad_(False)" for path in edit.modules)
    if isinstance(edit, Compiled):
        return "model.compile() before the loop"
    if isinstance(edit, Detached):
        return "total += loss.detach()"
    if isinstance(edit, WithoutGradients):
        return "@torch.no_grad() above the function that validates"
    if isinstance(edit, Thinned):
        return f"if step % {edit.every} == 0: before what logs"
    if isinstance(edit, WithoutSync):
        return "with contextlib.nullcontext() if last else model.no_sync(): around both"
    return "block(x) instead of checkpoint(block, x)"


def _arguments_in_words(edit: CallArguments) -> str:
    """Without what is a default anyway."""
    first = next(iter(edit.values))
    wanted = {
        name: value
        for name, value in edit.values.items()
        if name == first or (value is not None and edit.defaults.get(name) != value)
    }
    return ", ".join(f"{name}={value!r}" for name, value in wanted.items())


def _loop_in_words(edit: AroundLoop) -> str:
    words = f"{'; '.join(edit.before)} before the loop"
    if edit.each_step:
        step = " ".join(line.strip() for line in edit.each_step).format(step="step")
        words += f", and in each step: {step}"
    return words
