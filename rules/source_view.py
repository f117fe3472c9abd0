"""The user's own source as a tree: which calls it makes, in which function and loop.

It serves to *locate* what was measured and to *suppress* what the source contradicts. It is never
evidence by itself: what a line says is not what a run does.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from trainprof.profiler.store.source_files import open_to_readers

MOST_FILES = 50
"""Files of one project that are read; the script and what was measured come first."""

PARSED_BYTES_MAX = 1 << 20
"""A larger file is generated, and all together take no more: a megabyte takes about a second."""

TEXT_MAX = 60
"""Characters kept of an argument."""

STEP, EPOCH, SAMPLE, OTHER = "step", "epoch", "sample", "other"
"""How often a line runs, as far as its place tells: in each training step (the innermost loop
around a backward, a module's forward), in an outer loop around that, for each sample (a data set's
`__getitem__`), or in some other loop."""

_STEP_METHODS = ("forward", "training_step", "compute_loss")
_SAMPLE_METHODS = ("__getitem__", "__getitems__")
_DEEPEST = 4
"""Functions of one file that are followed from a training loop into one another."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Loop = ast.For | ast.AsyncFor | ast.While

UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What `ast.parse` raises on what is no Python source of this version."""


@dataclass(frozen=True, slots=True)
class SourceCall:
    """One call in the user's source.

    Attributes:
        name: Through imports: `copy.deepcopy` also where the source says `deepcopy(...)` or
            `from copy import deepcopy as dc`; a method of an object is ".append".
        function: Around it, `<module>` outside of any.
        often: STEP, EPOCH, SAMPLE, OTHER, or None outside of loops.
        loop_line: Of the innermost loop around it in its function, or None.
        keywords: Source text of each keyword argument.
        iterates: It is what a `for` goes over.
    """

    name: str
    file: str
    line: int
    function: str
    often: str | None
    loop_line: int | None
    keywords: dict[str, str] = field(default_factory=dict)
    iterates: bool = False


@dataclass(frozen=True, slots=True)
class Enclosing:
    """What is around a line: its function, and the innermost loop in that."""

    function: str
    loop_line: int | None
    often: str | None


class SourceFile:
    """One parsed file.

    Args:
        path: As the run names it.
        tree: Its syntax tree.
        size: In bytes.
    """

    def __init__(self, path: str, tree: ast.Module, size: int = 0) -> None:
        self.path = path
        self.tree = tree
        self.size = size
        self._parents: dict[ast.AST, ast.AST] = {}
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                self._parents[child] = node

    @cached_property
    def calls(self) -> tuple[SourceCall, ...]:
        """Every call, in the order of the source."""
        found = [
            self._call(node, name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Call) and (name := self._name(node.func)) is not None
        ]
        return tuple(sorted(found, key=lambda call: call.line))

    def enclosing(self, line: int) -> Enclosing:
        """What is around the innermost statement on a line."""
        inside = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
        ]
        if not inside:
            return Enclosing("<module>", None, None)
        node = max(inside, key=lambda one: (one.lineno, -(one.end_lineno or 0)))
        loop = self._loop(node)
        function = self._function(node)
        return Enclosing(_named(function), loop.lineno if loop else None, self.often(node))

    def function_at(self, line: int) -> _Function | ast.Module:
        """The innermost function that holds a line, or the module."""
        functions = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, _Function) and node.lineno <= line <= (node.end_lineno or 0)
        ]
        return max(functions, key=lambda one: one.lineno, default=self.tree)

    def often(self, node: ast.AST) -> str | None:
        """How often a node runs, as far as its place tells."""
        loops = list(self._loops(node))
        function = self._function(node)
        if any(loop in self._step_loops for loop in loops):
            return STEP
        if function is not None and (
            function.name in _STEP_METHODS or function.name in self._step_functions
        ):
            return STEP
        if any(loop in self._epoch_loops for loop in loops):
            return EPOCH
        if function is not None and function.name in _SAMPLE_METHODS:
            return SAMPLE
        return OTHER if loops else None

    @cached_property
    def imports(self) -> dict[str, str]:
        """Local name -> dotted name of what was imported under it."""
        names: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    root = alias.name.partition(".")[0]
                    names[alias.asname or root] = alias.name if alias.asname else root
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return names

    @cached_property
    def _step_loops(self) -> frozenset[ast.AST]:
        """The innermost loop around each backward, also where a function called there has it."""
        loops = (self._loop(call) for call in self._backwards)
        return frozenset(loop for loop in loops if loop is not None)

    @cached_property
    def _epoch_loops(self) -> frozenset[ast.AST]:
        outer = (loop for one in self._step_loops for loop in self._loops(one))
        return frozenset(outer) - self._step_loops

    @cached_property
    def _backwards(self) -> tuple[ast.AST, ...]:
        """Calls of `backward`, and in a loop calls of functions of this file that make one."""
        direct = [node for node in ast.walk(self.tree) if _is_backward(node)]
        found: list[ast.AST] = [node for node in direct if self._loop(node) is not None]
        waiting = {
            function.name
            for node in direct
            if self._loop(node) is None and (function := self._function(node)) is not None
        }
        for _ in range(_DEEPEST):
            callers = [node for node in self._local_calls if _called(node) in waiting]
            found += [node for node in callers if self._loop(node) is not None]
            waiting = {
                function.name
                for node in callers
                if self._loop(node) is None and (function := self._function(node)) is not None
            }
        return tuple(found)

    @cached_property
    def _step_functions(self) -> frozenset[str]:
        """Functions of this file that a training loop calls, and those that they call."""
        names: set[str] = set()
        reached: set[ast.AST] = set(self._step_loops)
        for _ in range(_DEEPEST):
            new = {
                _called(node)
                for node in self._local_calls
                if any(around in reached for around in self._around(node))
            } - names
            names |= new
            reached |= {node for node in self._functions if node.name in new}
        return frozenset(names)

    @cached_property
    def _functions(self) -> tuple[_Function, ...]:
        return tuple(node for node in ast.walk(self.tree) if isinstance(node, _Function))

    @cached_property
    def _local_calls(self) -> tuple[ast.Call, ...]:
        """Calls of functions that this file defines, by their names alone."""
        defined = {function.name for function in self._functions} - {"__init__", "backward"}
        calls = (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))
        return tuple(call for call in calls if _called(call) in defined)

    def _call(self, node: ast.Call, name: str) -> SourceCall:
        loop = self._loop(node)
        parent = self._parents.get(node)
        return SourceCall(
            name,
            self.path,
            node.lineno,
            _named(self._function(node)),
            self.often(node),
            loop.lineno if loop else None,
            {
                keyword.arg: ast.unparse(keyword.value)[:TEXT_MAX]
                for keyword in node.keywords
                if keyword.arg is not None
            },
            isinstance(parent, (ast.For, ast.AsyncFor)) and parent.iter is node,
        )

    def _name(self, function: ast.expr) -> str | None:
        parts: list[str] = []
        while isinstance(function, ast.Attribute):
            parts.append(function.attr)
            function = function.value
        parts.reverse()
        if isinstance(function, ast.Name):
            if function.id in self.imports:
                return ".".join([self.imports[function.id], *parts])
            if not parts:
                return function.id
        return f".{parts[-1]}" if parts else None

    def _around(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around a node, from the inside out."""
        while (parent := self._parents.get(node)) is not None:
            yield parent
            node = parent

    def _function(self, node: ast.AST) -> _Function | None:
        return next((one for one in self._around(node) if isinstance(one, _Function)), None)

    def _loops(self, node: ast.AST) -> Iterator[_Loop]:
        """Loops around a node inside its function; what a `for` goes over is evaluated once."""
        for around in [node, *self._around(node)]:
            if isinstance(around, _Function):
                return
            parent = self._parents.get(around)
            if isinstance(parent, _Loop) and around is not getattr(parent, "iter", None):
                yield parent

    def _loop(self, node: ast.AST) -> _Loop | None:
        return next(self._loops(node), None)


class SourceView:
    """The files of a project that could be read.

    Attributes:
        files: By path, as the run names them.
        left_out: Path -> why it was not read.
    """

    def __init__(self) -> None:
        self.files: dict[str, SourceFile] = {}
        self.left_out: dict[str, str] = {}

    def calls(self) -> tuple[SourceCall, ...]:
        """Every call of every file."""
        return tuple(call for file in self.files.values() for call in file.calls)


def read_source(
    paths: Iterable[str], cwd: str, argv: Sequence[str], started_unix_s: float
) -> SourceView:
    """Parses files of the user's, and those that they import from the same folder.

    Args:
        paths: The script first, then files in which something was measured.
        cwd: Working directory of the run; relative paths are relative to it.
        argv: Its command, which says where its source may lie.
        started_unix_s: A file that was changed after this is not what ran, and is left out.
    """
    view = SourceView()
    waiting = list(dict.fromkeys(paths))
    parsed_bytes = 0
    for path in waiting:
        if len(view.files) >= MOST_FILES or parsed_bytes > PARSED_BYTES_MAX:
            break
        try:
            file = _parse(path, cwd, argv, started_unix_s)
        except OSError as error:
            view.left_out[path] = error.strerror or "it cannot be read"
        except UNREADABLE as error:
            view.left_out[path] = str(error) or type(error).__name__
        else:
            view.files[path] = file
            parsed_bytes += file.size
            waiting += [one for one in _imported(file) if one not in waiting]
    return view


def _parse(path: str, cwd: str, argv: Sequence[str], started_unix_s: float) -> SourceFile:
    """Raises OSError or one of `UNREADABLE`."""
    real = Path(cwd or "/", path).resolve(strict=True)
    if not open_to_readers(real, cwd, argv):
        raise ValueError("it lies outside of the project")
    status = real.stat()
    if status.st_size > PARSED_BYTES_MAX:
        raise ValueError("it is too large")
    if status.st_mtime > started_unix_s:
        raise ValueError("it was changed after the run began")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an invalid escape in a string is the user's business
        return SourceFile(path, ast.parse(real.read_bytes()), status.st_size)


def _imported(file: SourceFile) -> Iterator[str]:
    """Files that an import of this file may mean, in its own folder."""
    folder = Path(file.path).parent
    modules: list[str] = []
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            modules += [base] if base else []
            modules += [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
    for module in modules:
        place = folder.joinpath(*module.split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.is_file():
                yield str(path)


def _is_backward(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _called(node) in ("backward", "manual_backward")


def _called(node: ast.Call) -> str:
    """Last part of what is called."""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _named(function: _Function | None) -> str:
    return "<module>" if function is None else function.name
