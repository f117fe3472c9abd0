"""Which rules of the catalogue are asked."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path

from trainprof.errors import UsageError
from trainprof.rules.catalogue import loaded, modules
from trainprof.rules.rule import Rule


def chosen_rules(
    select: Sequence[str] = (), ignore: Sequence[str] = (), among: Collection[str] | None = None
) -> tuple[Rule, ...]:
    """The rules to ask, by id: all of them, or those selected, less those ignored.

    Args:
        select: Only these; all of them when empty.
        ignore: Not these.
        among: Rules that can speak here; all of them when None. The others are not imported.

    Raises:
        UsageError: `select` or `ignore` names a rule that does not exist.
    """
    known = modules()
    for name in (*select, *ignore):
        if name not in known:
            raise UsageError(f"there is no rule {name}; `trainprof rules` lists them.")
    asked = (
        name
        for name in (known if among is None else among)
        if (not select or name in select) and name not in ignore
    )
    return tuple(rule() for rule in loaded(asked))


@cache
def rules_of_traces() -> frozenset[str]:
    """Ids of the rules that judge traces, without importing any.

    `python -m trainprof.rules.write_pages` writes them down, and a test compares.
    """
    text = (Path(__file__).parent / "trace_rules.json").read_text(encoding="utf-8")
    return frozenset(json.loads(text))
