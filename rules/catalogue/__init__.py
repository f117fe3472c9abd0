"""The rules: one file for each, found by walking this package, so that adding one edits nothing."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from trainprof.rules.rule import Rule


@cache
def catalogue() -> tuple[type[Rule], ...]:
    """Every rule of this package, by id."""
    rules = []
    for module in pkgutil.walk_packages(__path__, prefix=f"{__name__}."):
        if module.ispkg:
            continue
        loaded = import_module(module.name)
        rules += [
            value
            for value in vars(loaded).values()
            if isinstance(value, type)
            and issubclass(value, Rule)
            and value.__module__ == module.name
        ]
    return tuple(sorted(rules, key=lambda rule: rule.id))
