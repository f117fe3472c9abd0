"""`trainprof rules`: the catalogue, or one rule's whole page."""

from __future__ import annotations

import difflib
import io
import json
import sys

import click

from trainprof.errors import UsageError
from trainprof.reports.terminal.report import is_styled, terminal_width, write_text
from trainprof.rules.catalogue import catalogue
from trainprof.rules.pages import as_json, index, page, plain_list, plain_page
from trainprof.rules.rule import Rule

SCHEMA = 1
PAGE_WIDTH = 80
"""Columns of a page; longer lines are harder to read, however wide the terminal."""


@click.command()
@click.argument("rule", metavar="[ID]", required=False)
@click.option("--format", "style", type=click.Choice(["text", "json", "markdown"]), default="text")
def rules(rule: str | None, style: str) -> None:
    """Lists the rules, or prints the page of one of them.

    The list shows each rule's id, the gravest severity that it reaches, and what it finds.
    """
    chosen = None if rule is None else _find(rule)
    if style == "json":
        text = json.dumps(_object(chosen), indent=2, ensure_ascii=False) + "\n"
    elif style == "markdown":
        text = index(catalogue()) if chosen is None else page(chosen)
    elif chosen is None:
        text = plain_list(catalogue())
    else:
        text = _page_for(chosen)
    write_text(text, sys.stdout)


def _find(identity: str) -> type[Rule]:
    known = {rule.id: rule for rule in catalogue()}
    if identity in known:
        return known[identity]
    near = difflib.get_close_matches(identity, known, n=3, cutoff=0.4)
    near = near or [name for name in known if identity.lower() in name]
    hint = f"did you mean {' or '.join(near)}?" if near else "`trainprof rules` lists all."
    raise UsageError(f"There is no rule {identity!r}; {hint}")


def _object(chosen: type[Rule] | None) -> dict[str, object]:
    if chosen is not None:
        return {"schema": SCHEMA, **as_json(chosen)}
    return {"schema": SCHEMA, "rules": [as_json(rule) for rule in catalogue()]}


def _page_for(chosen: type[Rule]) -> str:
    """Rich Markdown on a terminal, plain text in a pipe."""
    width = min(PAGE_WIDTH, terminal_width(sys.stdout))
    if not is_styled(sys.stdout):
        return plain_page(chosen, width)
    from rich.console import Console
    from rich.markdown import Markdown

    buffer = io.StringIO()
    console = Console(file=buffer, width=width, force_terminal=True, legacy_windows=False)
    console.print(Markdown(page(chosen), hyperlinks=False))
    return buffer.getvalue()
