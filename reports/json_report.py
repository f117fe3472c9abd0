"""The diagnosis as one JSON object, and the JSON Schema of it."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import cleandoc
from typing import Any

import msgspec

from trainprof.profiler.model.diagnosis import SCHEMA, Diagnosis
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.store.encoded import encode_json

_VALUES: dict[str, dict[str, list[str]]] = {
    "Diagnosis": {
        "source": ["run", "attach", "trace"],
        "verdict": ["bottleneck", "healthy", "insufficient"],
    },
    "RunSummary": {"status": ["complete", "incomplete", "crashed", "stopped", "running"]},
    "Finding": {
        "severity": ["info", "warn", "critical"],
        "confidence": ["low", "medium", "high"],
    },
    "FixAdvice": {"safety": ["safe", "numerics", "semantics"]},
    "CollectorStatus": {"status": ["ok", "partial", "missing", "failed"]},
}
"""Texts that are one of a few words; the records hold them as plain strings."""


class JsonReport:
    """Renders a diagnosis as JSON.

    Args:
        indent: Blanks per level; 0 for one line.
    """

    def __init__(self, *, indent: int = 2) -> None:
        self.indent = indent

    def render(self, diagnosis: Diagnosis) -> str:
        """One JSON object, ending in a line feed. nan and infinity become null."""
        return msgspec.json.format(encode_json(diagnosis), indent=self.indent).decode() + "\n"


def _any_value(kind: type) -> dict[str, Any]:
    if kind is object:
        return {"description": "Any JSON value."}  # an empty schema is refused
    raise NotImplementedError(kind)


def diagnosis_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of what `JsonReport` writes: every property is always there."""
    schema = schema_of(Diagnosis, "trainprof diagnosis", _VALUES)
    definitions: dict[str, Any] = schema["$defs"]
    definitions["Diagnosis"]["properties"]["schema"]["const"] = SCHEMA
    definitions["StepSummary"]["properties"]["phases"]["propertyNames"] = {"enum": list(PHASES)}
    return schema


def schema_of(
    record: type, title: str, values: Mapping[str, Mapping[str, list[str]]]
) -> dict[str, Any]:
    """JSON Schema of a record in which every property is always there.

    Args:
        record: A dataclass.
        title: Of the schema.
        values: Of a record's field, the few words that it may be.
    """
    schema = msgspec.json.schema(record, schema_hook=_any_value)
    for name, definition in schema["$defs"].items():
        if definition.get("type") != "object" or "properties" not in definition:
            continue
        properties = definition["properties"]
        definition["description"] = cleandoc(definition.get("description", ""))
        definition["required"] = list(properties)
        for field, words in values.get(name, {}).items():
            properties[field]["enum"] = words
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}
