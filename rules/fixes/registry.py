"""Finds the fixes: every module of this package that defines a `Fix`."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from trainprof.errors import UsageError
from trainprof.rules import fixes
from trainprof.rules.fixes.fix import Fix


@cache
def all_fixes() -> dict[str, type[Fix]]:
    """The classes by id."""
    found: dict[str, type[Fix]] = {}
    for module in pkgutil.iter_modules(fixes.__path__, f"{fixes.__name__}."):
        for member in vars(import_module(module.name)).values():
            if isinstance(member, type) and issubclass(member, Fix) and member.id:
                found[member.id] = member
    return dict(sorted(found.items()))


def fix_named(name: str) -> type[Fix]:
    """The class of a fix.

    Raises:
        UsageError: there is none of that name.
    """
    known = all_fixes()
    if name not in known:
        raise UsageError(f"there is no fix {name}; these can be applied: {', '.join(known)}.")
    return known[name]
