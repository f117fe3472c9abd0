"""Finds the fixes: each module of this package that defines a `Fix`, and other packages' own."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from trainprof.errors import UsageError
from trainprof.rules import fixes
from trainprof.rules.fixes.fix import Fix
from trainprof.rules.fixes.third_party import third_party_fixes


@cache
def all_fixes() -> dict[str, type[Fix]]:
    """The classes by id; where another package uses an id of ours, ours is meant."""
    found: dict[str, type[Fix]] = {}
    for module in pkgutil.iter_modules(fixes.__path__, f"{fixes.__name__}."):
        for member in vars(import_module(module.name)).values():
            if isinstance(member, type) and issubclass(member, Fix) and member.id:
                found[member.id] = member
    for name, other in third_party_fixes().usable.items():
        found.setdefault(name, other.kind)
    return dict(sorted(found.items()))


def fix_named(name: str) -> type[Fix]:
    """The class of a fix.

    Raises:
        UsageError: there is none of that name.
    """
    known = all_fixes()
    if name not in known and name in third_party_fixes().unusable:
        raise UsageError(f"{third_party_fixes().unusable[name]}.")
    if name not in known:
        raise UsageError(f"there is no fix {name}; these can be applied: {', '.join(known)}.")
    return known[name]
