"""Writes what follows from the rules themselves: `python -m trainprof.rules.write_pages`.

That is docs/rules, from their docstrings, and the list of those that judge traces.
"""

from __future__ import annotations

import json
from pathlib import Path

from trainprof.rules.catalogue import catalogue
from trainprof.rules.pages import index, page
from trainprof.rules.rule import Rule
from trainprof.rules.trace_signals import NAMES

FOLDER = Path("docs", "rules")
OF_TRACES = Path("rules", "trace_rules.json")


def pages() -> dict[str, str]:
    """Every file of docs/rules and its text."""
    files = {f"{rule.id}.md": page(rule) for rule in catalogue()}
    return {"README.md": index(catalogue()), **files}


def reads_traces(rule: type[Rule]) -> bool:
    """Whether a rule judges what only traces tell, or says that it judges them too."""
    return rule.on_traces or not NAMES.isdisjoint((*rule.needs, *rule.trace_needs))


def rules_of_traces() -> str:
    """The text of the list of rules that judge traces."""
    return json.dumps([rule.id for rule in catalogue() if reads_traces(rule)], indent=1) + "\n"


def main(folder: Path = FOLDER) -> None:
    """Writes the files that changed, removes pages of rules that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for path in folder.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")
    OF_TRACES.write_text(rules_of_traces(), encoding="utf-8")


if __name__ == "__main__":
    main()
