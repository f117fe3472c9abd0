"""Which rules of the catalogue are asked."""

from __future__ import annotations

from collections.abc import Sequence

from trainprof.errors import UsageError
from trainprof.rules.catalogue import catalogue
from trainprof.rules.rule import Rule


def chosen_rules(select: Sequence[str] = (), ignore: Sequence[str] = ()) -> tuple[Rule, ...]:
    """The rules to ask, by id: all of them, or those selected, less those ignored.

    Raises:
        UsageError: `select` or `ignore` names a rule that does not exist.
    """
    rules = {rule.id: rule for rule in catalogue()}
    for name in (*select, *ignore):
        if name not in rules:
            raise UsageError(f"there is no rule {name}; `trainprof rules` lists them.")
    return tuple(
        rule()
        for name, rule in rules.items()
        if (not select or name in select) and name not in ignore
    )
