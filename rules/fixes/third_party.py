"""Fixes of other packages, declared as entry points of the group `trainprof.fixes`.

They are looked for in trainprof's own environment. The training process may have another one, where
nothing of this is installed: there the agent loads the file that was found here. A plan names the
fix; which file that is comes from the installed entry point alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from trainprof.profiler.agent import guard
from trainprof.rules.fixes.fix import Fix

GROUP = "trainprof.fixes"


@dataclass(frozen=True, slots=True)
class ThirdParty:
    """A fix of another package.

    Attributes:
        kind: Its class. package: Name and version of what declares it.
        path: File that the agent loads. attribute: The class in it.
    """

    kind: type[Fix]
    package: str
    path: str
    attribute: str


@dataclass(slots=True)
class Found:
    """What is installed: fixes by id, and for those that cannot be used the reason."""

    usable: dict[str, ThirdParty] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)


@cache
def third_party_fixes() -> Found:
    """The declared fixes; one that cannot be loaded does not keep the others away."""
    found = Found()
    for entry in entry_points(group=GROUP):
        name = entry.name
        try:
            fix = _loaded(entry)
        except ValueError as error:
            found.unusable[name] = f"the fix {name} of {_package(entry)} cannot be used: {error}"
            continue
        if name in found.usable:
            first = found.usable[name].package
            found.unusable[name] = f"{first} and {fix.package} both declare a fix {name}"
        found.usable[name] = fix
    for name in found.unusable:
        found.usable.pop(name, None)
    return found


def files_of(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """File and class of those of the named fixes that other packages bring."""
    usable = third_party_fixes().usable
    return {name: (usable[name].path, usable[name].attribute) for name in names if name in usable}


def _loaded(entry: EntryPoint) -> ThirdParty:
    """The fix of an entry point.

    Raises:
        ValueError: it cannot be loaded, or is no fix of that name in a file.
    """
    collector = f"entry point {entry.name} of {_package(entry)}"
    kind = guard.attempt(collector, entry.load)
    if kind is None:
        raise ValueError(guard.error_of(collector) or "it is None")
    if not (isinstance(kind, type) and issubclass(kind, Fix)):
        raise ValueError(f"{entry.value} is no subclass of trainprof.rules.fixes.fix.Fix")
    if kind.id != entry.name:
        raise ValueError(f"its id is {kind.id!r}, not the name of its entry point")
    path = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    if not path.endswith(".py") or "." in kind.__qualname__:
        raise ValueError("it is not at the top level of a Python file")
    return ThirdParty(kind, _package(entry), path, kind.__qualname__)


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unnamed package"
