"""Being told when a module has been imported, without importing it.

One finder at the head of `sys.meta_path`, there only while something is watched. It never finds
anything itself: it asks the finders behind it, as the import system would have done, and lets the
loader they gave call back once the module has run. An import of any other module costs one
dictionary look-up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from . import guard

Action = Callable[[ModuleType], Any]

_IMPORT_MACHINERY = "<frozen importlib._bootstrap>"
"""Python cuts frames with this file name out of the traceback of a failed import."""


class Watch:
    """One action that waits for one module; `remove` ends it."""

    def __init__(self, name: str, action: Action) -> None:
        self.name = name
        self.action = action

    def remove(self) -> None:
        """Ends the watch; with the last one the finder leaves `sys.meta_path`."""
        watches = _finder.watches.get(self.name, [])
        if self in watches:
            watches.remove(self)
        if not watches:
            _finder.watches.pop(self.name, None)
        if not _finder.watches and _finder in sys.meta_path:
            sys.meta_path.remove(_finder)


class _Finder:
    def __init__(self) -> None:
        self.watches: dict[str, list[Watch]] = {}
        self._finding: set[str] = set()

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the finders behind this one give, its loader made to call back."""
        if name not in self.watches or name in self._finding:
            return None
        self._finding.add(name)
        try:
            spec = self._find_behind(name, path, target)
        finally:
            self._finding.discard(name)
        if spec is not None and spec.loader is not None:
            _call_back_once(spec.loader, name)
        return spec

    def _find_behind(self, name: str, path: Any, target: ModuleType | None) -> ModuleSpec | None:
        finders = list(sys.meta_path)
        for finder in finders[finders.index(self) + 1 :] if self in finders else finders:
            find_spec = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = (
                find_spec(name, path, target) if find_spec is not None else None
            )
            if spec is not None:
                return spec
        return None


_finder = _Finder()


def watch(name: str, action: Action) -> Watch:
    """Calls `action(module)` each time the module `name` has been executed.

    Where it is in `sys.modules` already, `action` is called at once. An error in `action` is kept
    from the importing code (see guard.py); an error of the module itself passes through, and the
    watch goes on.
    """
    entry = Watch(name, action)
    _finder.watches.setdefault(name, []).append(entry)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    module = sys.modules.get(name)
    if module is not None:
        guard.attempt(f"import of {name}", action, module)
    return entry


def _executed(name: str, module: ModuleType) -> None:
    for entry in list(_finder.watches.get(name, ())):
        guard.attempt(f"import of {name}", entry.action, module)


def _call_back_once(loader: Any, name: str) -> None:
    """Shadows `loader.exec_module` on the instance, so that its type and its methods stay.

    A loader without an instance dictionary (built-in and frozen modules) is left as it is.
    """
    original = getattr(loader, "exec_module", None)
    attributes = getattr(loader, "__dict__", None)
    if original is None or not isinstance(attributes, dict):
        return

    def exec_module(module: ModuleType) -> None:
        attributes.pop("exec_module", None)
        original(module)
        if getattr(module, "__name__", None) == name:
            _executed(name, module)

    # Otherwise this frame would stand in the tracebacks of modules that fail to import.
    exec_module.__code__ = exec_module.__code__.replace(co_filename=_IMPORT_MACHINERY)
    attributes["exec_module"] = exec_module
