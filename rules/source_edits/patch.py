"""The patch of a plan: its fixes as changes of source files, and what is left to do by hand."""

from __future__ import annotations

import itertools
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trainprof.errors import MissingExtraError, UsageError
from trainprof.profiler.model.plan import Application, Target
from trainprof.rules.fixes.registry import fix_named
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
    WithoutCheckpointing,
    WithoutGradients,
    WithoutSync,
)
from trainprof.rules.fixes.source_only import SOURCE_ONLY
from trainprof.rules.source_edits.changed_file import ChangedFile
from trainprof.rules.source_edits.in_words import ByHand, in_words

try:
    from trainprof.rules.source_edits.accumulation_edits import edit_without_sync
    from trainprof.rules.source_edits.block_edits import edit_autocast, edit_removed_call
    from trainprof.rules.source_edits.call_edits import edit_arguments, edit_script_call
    from trainprof.rules.source_edits.frozen_edits import edit_frozen
    from trainprof.rules.source_edits.graph_edits import (
        edit_detached,
        edit_without_checkpointing,
        edit_without_gradients,
    )
    from trainprof.rules.source_edits.logging_edits import edit_thinned
    from trainprof.rules.source_edits.model_edits import edit_compiled
    from trainprof.rules.source_edits.own_modules import own_modules
    from trainprof.rules.source_edits.precision_edits import edit_single_precision
    from trainprof.rules.source_edits.source import CannotEdit, Source, Span
    from trainprof.rules.source_edits.statement_edits import edit_loop, edit_switch
except ModuleNotFoundError as missing:
    if missing.name != "libcst":
        raise
    raise MissingExtraError(
        "editing the source needs LibCST, which is not installed: pip install 'trainprof[tune]'"
    ) from None

_EDITS: Mapping[type, Callable[[Source, Any, Target | None, Sequence[str]], list[Span]]] = {
    AroundLoop: edit_loop,
    Autocast: edit_autocast,
    CallArguments: edit_arguments,
    Compiled: edit_compiled,
    Detached: edit_detached,
    Frozen: edit_frozen,
    RemovedCall: edit_removed_call,
    ScriptCall: edit_script_call,
    SinglePrecision: edit_single_precision,
    SwitchedOff: edit_switch,
    WithoutCheckpointing: edit_without_checkpointing,
    WithoutGradients: edit_without_gradients,
    WithoutSync: edit_without_sync,
    Thinned: edit_thinned,
}
SOURCE_BYTES_MAX = 4 << 20
"""A larger file is data with the name of a source file."""
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]")


@dataclass(frozen=True, slots=True)
class SourcePatch:
    """What would be written.

    Attributes:
        files: That change. by_hand: What does not.
        made: Ids of the fixes that are part of it. present: Of those that the source has already.
    """

    files: tuple[ChangedFile, ...]
    by_hand: tuple[ByHand, ...] = ()
    made: tuple[str, ...] = ()
    present: tuple[str, ...] = ()


def make_patch(
    applications: Iterable[Application], *, script: str | None, command: Sequence[str] = ()
) -> SourcePatch:
    """Changes copies of the files; nothing is written.

    Args:
        applications: Fixes with their parameters and targets.
        script: For fixes that are for the whole process; None where it is not known.
        command: That starts it: options that it passes overrule defaults in the source.

    Raises:
        MissingExtraError: on import, where LibCST is not installed.
        UsageError: there is no such fix, or a parameter of it is wrong or missing.
    """
    files = _Files()
    by_hand: list[ByHand] = []
    made: list[str] = []
    present: list[str] = []
    for application in applications:
        edit, in_short = _edit_of(application)
        target = application.target
        path = target.file if target is not None else script
        try:
            changed = files.edit(path, target, edit, command)
            if not changed and target is None and path is not None:
                changed = files.edit_module(path, edit, command)
        except CannotEdit as error:
            if target is None and path is not None and files.edit_module(path, edit, command):
                made.append(application.fix)
                continue
            line = target.line if target is not None else None
            if error.line is not None and path is not None:
                line = files.line_before(path, error.line)
            code = in_words(edit) if edit is not None else in_short
            by_hand.append(ByHand(application.fix, str(error), code, path, line))
        else:
            (made if changed else present).append(application.fix)
    return SourcePatch(files.changed(), tuple(by_hand), tuple(made), tuple(present))


def _edit_of(application: Application) -> tuple[SourceEdit | None, str | None]:
    """What the fix says of the source, and what a person would write where it says nothing."""
    if application.fix in SOURCE_ONLY:
        return SOURCE_ONLY[application.fix], None
    kind = fix_named(application.fix)
    try:
        return kind(application.params, application.target).edit(), kind.by_hand
    except ValueError as error:
        raise UsageError(f"{error}; `--fix ID:name=value` gives it.") from None


class _Files:
    """The files as they are, and as they would be."""

    def __init__(self) -> None:
        self._old: dict[str, bytes] = {}
        self._sources: dict[str, Source] = {}
        self._moves: dict[str, list[list[_Move]]] = {}

    def edit(
        self,
        path: str | None,
        target: Target | None,
        edit: SourceEdit | None,
        command: Sequence[str],
    ) -> bool:
        """Whether anything had to be changed."""
        if edit is None:
            raise CannotEdit("no edit is safe; `trainprof run --plan` applies it meanwhile")
        if path is None:
            raise CannotEdit("the script is not known; give it")
        source = self._source(path)
        if target is not None:
            target = replace(target, line=self._line_now(path, target.line))
        spans = _EDITS[type(edit)](source, edit, target, command)
        self._sources[path] = source.replaced(spans)
        self._moves[path].append([_move(source, span) for span in spans])
        return bool(spans)

    def edit_module(self, script: str, edit: SourceEdit | None, command: Sequence[str]) -> bool:
        """Makes the change in the one module of the project that it is for, if there is one."""
        if edit is None or isinstance(edit, ScriptCall):
            return False
        possible = []
        for path in own_modules(script):
            try:
                if _EDITS[type(edit)](self._source(path), edit, None, command):
                    possible.append(path)
            except CannotEdit:
                continue
        return len(possible) == 1 and self.edit(possible[0], None, edit, command)

    def _source(self, path: str) -> Source:
        if path not in self._sources:
            self._old[path] = _read(path)
            self._sources[path] = Source(self._old[path])
            self._moves[path] = []
        return self._sources[path]

    def _line_now(self, path: str, line: int) -> int:
        """Where a line of the file as it is lies after the edits so far."""
        for moves in self._moves[path]:
            line += sum(move.lines for move in moves if move.after < line)
        return line

    def line_before(self, path: str, line: int) -> int:
        """Where a line lies in the file as it is."""
        for moves in reversed(self._moves.get(path, [])):
            moved = 0
            for move in sorted(moves, key=lambda one: one.after):
                moved += move.lines if line > move.after + moved else 0
            line -= moved
        return line

    def changed(self) -> tuple[ChangedFile, ...]:
        """The files that would read otherwise."""
        return tuple(
            ChangedFile(path, self._old[path], source.data)
            for path, source in sorted(self._sources.items())
            if source.data != self._old[path]
        )


@dataclass(frozen=True, slots=True)
class _Move:
    """All lines after a line are that many lines further down, in the file before an edit."""

    after: int
    lines: int


def _move(source: Source, span: Span) -> _Move:
    """Of what differs only: a long call may have changed in its last line."""
    old, new = source.text[span.start : span.end], span.text
    same = _shared(old, new)
    end = _shared(old[same:][::-1], new[same:][::-1])
    start = span.start + same
    line = source.line_of(start)
    before_it = len(old) == same + end and start == source.line_start(line)
    return _Move(line - before_it, new.count("\n") - old.count("\n"))


def _shared(one: str, other: str) -> int:
    """Length of the common beginning."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _read(path: str) -> bytes:
    if not path.endswith(".py"):
        raise CannotEdit("it is made by what is no Python file")
    if _INSTALLED.search(path):
        raise CannotEdit("it is made inside of an installed package")
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > SOURCE_BYTES_MAX:
            raise CannotEdit("it is no source file")
        return Path(path).read_bytes()
    except OSError as error:
        raise CannotEdit(f"the file cannot be read ({error.strerror})") from None
