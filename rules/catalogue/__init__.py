"""The rules: one file for each, found by walking this package, so that adding one edits nothing."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from functools import cache
from importlib import import_module

from trainprof.rules.rule import Rule


def catalogue() -> tuple[type[Rule], ...]:
    """Every rule of this package, by id."""
    return loaded(modules())


@cache
def modules() -> dict[str, str]:
    """The module of each rule by its id, as the files are named; no rule is imported."""
    found = {}
    for family in pkgutil.iter_modules(__path__):
        package = import_module(f"{__name__}.{family.name}")
        for module in pkgutil.iter_modules(package.__path__):
            rule = f"{family.name}-{module.name.replace('_', '-')}"
            found[rule] = f"{__name__}.{family.name}.{module.name}"
    return found


def loaded(ids: Iterable[str]) -> tuple[type[Rule], ...]:
    """These rules, by id; each is imported when it is first asked for."""
    return tuple(_rule(one) for one in sorted(ids))


@cache
def _rule(name: str) -> type[Rule]:
    module = import_module(modules()[name])
    (rule,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Rule)
        and value.__module__ == module.__name__
    )
    return rule
