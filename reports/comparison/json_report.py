"""A comparison as one JSON object, and the JSON Schema of it."""

from __future__ import annotations

from typing import Any

import msgspec

from trainprof.profiler.model.comparison import SCHEMA, Comparison
from trainprof.profiler.store.encoded import encode_json
from trainprof.reports.json_report import schema_of

_VALUES: dict[str, dict[str, list[str]]] = {
    "Comparison": {
        "verdict": ["faster", "slower", "no_difference", "undecided"],
        "per": ["step", "sample"],
    },
    "ComparedRun": {"status": ["complete", "incomplete", "crashed", "stopped", "running"]},
    "Gate": {"outcome": ["passed", "failed", "undecided"]},
}
"""Texts that are one of a few words; the records hold them as plain strings."""


class ComparisonJson:
    """Renders a comparison as JSON."""

    def render(self, comparison: Comparison) -> str:
        """One JSON object, ending in a line feed. nan and infinity become null."""
        return msgspec.json.format(encode_json(comparison), indent=2).decode() + "\n"


def comparison_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of what `ComparisonJson` writes."""
    schema = schema_of(Comparison, "trainprof comparison", _VALUES)
    schema["$defs"]["Comparison"]["properties"]["schema"]["const"] = SCHEMA
    return schema
