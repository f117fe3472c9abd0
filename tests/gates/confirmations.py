"""On what each rule was confirmed, gathered from the tests: `python tests/gates/confirmations.py`.

A case of the zoo confirms the rules that it plants, on a real training on the CPU. A test that
carries `@pytest.mark.confirms(RULE, ..., on=WHERE)` confirms those that it names. The package ships
what is gathered, so that `trainprof rules ID` tells it too.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = REPOSITORY / "rules" / "confirmed.json"
CPU, TRACES = "trainings on the CPU", "recorded traces"
PLACES = (CPU, TRACES, "a GPU")
"""Where a rule can be confirmed, in the order in which a page names them."""


def confirmed() -> dict[str, list[str]]:
    """Where each rule was confirmed; rules that were not are absent."""
    found: dict[str, set[str]] = {}
    for rule, place in (*_planted(), *_marked()):
        found.setdefault(rule, set()).add(place)
    return {rule: sorted(found[rule], key=PLACES.index) for rule in sorted(found)}


def _planted() -> Iterator[tuple[str, str]]:
    folders = (REPOSITORY / "sample_runs", *(REPOSITORY / "tests" / "zoo").iterdir())
    for path in (case for folder in folders for case in folder.glob("*/case.json")):
        case = json.loads(path.read_text(encoding="utf-8"))
        for rule in (case["expected_rule"], *case.get("also_expected", ())):
            if rule:
                yield rule, CPU


def _marked() -> Iterator[tuple[str, str]]:
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        if "mark.confirms(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.confirms":
                (place,) = [ast.literal_eval(one.value) for one in node.keywords if one.arg == "on"]
                for rule in node.args:
                    yield ast.literal_eval(rule), place


def text() -> str:
    """What is shipped."""
    return json.dumps(confirmed(), indent=1) + "\n"


if __name__ == "__main__":
    SHIPPED.write_text(text(), encoding="utf-8")
