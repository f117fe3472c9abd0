"""A rule's page: one text for `trainprof rules ID`, for docs/rules and for a report's "why"."""

from __future__ import annotations

import ast
import functools
import inspect
import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainprof.rules.rule import SECTIONS, Rule

NO_BREAK = "\N{NO-BREAK SPACE}"
SEVERITIES = ("info", "warn", "critical")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A named number of a rule, and what it means."""

    name: str
    values: tuple[float, ...]
    meaning: str


def family(rule: type[Rule]) -> str:
    """The part of the id before the first hyphen: data, opt, loop ..."""
    return rule.id.partition("-")[0]


def highest_severity(rule: type[Rule]) -> str:
    """The gravest grade among the rule's own cases, which the tests hold it to."""
    grades = [case.severity for case in rule.fires_on if case.severity in SEVERITIES]
    return max(grades, key=lambda grade: SEVERITIES.index(grade or "info")) or "info"


def confirmed_on(rule: type[Rule]) -> str:
    """What the rule was tried on, beside the cases that it brings itself."""
    places = _confirmations().get(rule.id, [])
    if places == ["recorded traces"]:
        return "recorded traces only"
    return " and ".join(places) or "its own built cases only"


@functools.cache
def _confirmations() -> dict[str, list[str]]:
    """By rule, as the tests tell it: tests/gates/confirmations.py writes the file."""
    text = (Path(__file__).parent / "confirmed.json").read_text(encoding="utf-8")
    found: dict[str, list[str]] = json.loads(text)
    return found


def summary(rule: type[Rule]) -> str:
    """The first sentence of the page, on one line."""
    return " ".join(rule.documentation().summary.split())


def thresholds(rule: type[Rule]) -> tuple[Threshold, ...]:
    """The rule's named numbers, read with their meanings from its source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(rule))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = []
    for statement, following in zip(body.body, body.body[1:], strict=False):
        names = _assigned(statement)
        values = tuple(getattr(rule, name) for name in names)
        if values and all(_is_number(value) for value in values) and _is_text(following):
            meaning = " ".join(str(_text(following)).split())
            found.append(Threshold(", ".join(names), values, meaning))
    return tuple(found)


def page(rule: type[Rule]) -> str:
    """The whole page in Markdown."""
    documentation = rule.documentation()
    parts = [
        f"# {rule.id}: {rule.title[0].lower()}{rule.title[1:]}",
        f"Severity: up to {highest_severity(rule)}. Confirmed on: {confirmed_on(rule)}.",
        documentation.summary,
    ]
    for heading in SECTIONS:
        parts.append(f"## {heading}\n\n{documentation.sections[heading]}")
        if heading == "Evidence needed":
            parts.append(_judged(rule))
    return "\n\n".join(parts) + "\n"


def index(rules: Iterable[type[Rule]]) -> str:
    """The list of all rules in Markdown, with links to their pages."""
    lines = [
        "# Rules",
        "",
        "What `trainprof` looks for. Each page is also printed by `trainprof rules ID`.",
        "What a rule was tried on stands beside it; what it says of accelerators rests on the",
        "sources that its page names.",
        "",
        "| rule | finds | severity up to | confirmed on |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| [{r.id}]({r.id}.md) | {r.title} | {highest_severity(r)} | {confirmed_on(r)} |"
        for r in rules
    ]
    return "\n".join(lines) + "\n"


def plain_page(rule: type[Rule], width: int) -> str:
    """The page as plain text, wrapped at `width` columns."""
    blocks = []
    for block in page(rule).strip().split("\n\n"):
        heading = block.lstrip("#")
        if heading != block:
            title = heading.strip()
            blocks.append(f"{title}\n{('=' if block.startswith('# ') else '-') * len(title)}")
        else:
            blocks.append("\n".join(_wrapped(item, width) for item in _items(block)))
    return "\n\n".join(blocks) + "\n"


def plain_list(rules: Iterable[type[Rule]]) -> str:
    """Id, severity and title of each rule, one a line."""
    rows = [(rule.id, highest_severity(rule), rule.title) for rule in rules]
    width = max((len(identity) for identity, _, _ in rows), default=0)
    return "".join(f"{name:<{width}}  {grade:<8}  {title}\n" for name, grade, title in rows)


def as_json(rule: type[Rule]) -> dict[str, object]:
    """One rule as JSON values."""
    return {
        "id": rule.id,
        "family": family(rule),
        "title": rule.title,
        "severity": highest_severity(rule),
        "confirmed_on": confirmed_on(rule),
        "summary": summary(rule),
        "sections": rule.documentation().sections,
        "thresholds": [
            {"name": t.name, "values": list(t.values), "meaning": t.meaning}
            for t in thresholds(rule)
        ],
        "needs": list(rule.needs),
        "suppresses": list(rule.suppresses),
    }


def _judged(rule: type[Rule]) -> str:
    """Thresholds, signals and the rules that this one explains."""
    lines = [
        f"- `{t.name}` = {', '.join(_figure(value) for value in t.values)}: {t.meaning}"
        for t in thresholds(rule)
    ]
    parts = [
        "Thresholds (severities follow the share of the step: info from 3 %, warn from 10 %, "
        "critical from 20 %, unless the page says otherwise):",
        "\n".join(lines),
        "Without these signals it stays silent and says so: "
        + ", ".join(f"`{name}`" for name in rule.needs)
        + "."
        + _of_traces(rule),
    ]
    if rule.suppresses:
        explained = ", ".join(rule.suppresses)
        parts.append(f"Where it fires, it explains findings of: {explained}.")
    return "\n\n".join(part for part in parts if part)


def _of_traces(rule: type[Rule]) -> str:
    names = ", ".join(f"`{name}`" for name in rule.trace_needs)
    return f" Of a trace these are needed: {names}." if names else ""


def _figure(value: float) -> str:
    """A threshold as a person would write it: 0.05, 1,000,000."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def _assigned(statement: ast.stmt) -> list[str]:
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return []
    target = statement.targets[0]
    elements = target.elts if isinstance(target, ast.Tuple) else [target]
    return [element.id for element in elements if isinstance(element, ast.Name)]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text(statement: ast.stmt) -> object:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) else None


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(_text(statement), str)


def _items(block: str) -> list[str]:
    """A paragraph as one piece, a list as one piece per item."""
    items: list[str] = []
    for line in block.splitlines():
        if line.startswith("- ") or not items:
            items.append(line)
        else:
            items[-1] += f" {line.strip()}"
    return items


def _wrapped(item: str, width: int) -> str:
    filled = textwrap.fill(
        item.replace(" %", NO_BREAK + "%"),
        width,
        subsequent_indent="  " if item.startswith("- ") else "",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return filled.replace(NO_BREAK, " ")
