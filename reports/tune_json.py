"""What a tune found as one JSON object, and the JSON Schema of it."""

from __future__ import annotations

from typing import Any

from trainprof.profiler.model.tuning import TUNE_SCHEMA, TuneResult
from trainprof.profiler.store.encoded import encode_json
from trainprof.reports.json_report import schema_of

_VALUES: dict[str, dict[str, list[str]]] = {
    "TuneResult": {"ended": ["complete", "budget", "interrupted", "dry run"]},
    "TriedTogether": {"verdict": ["keep", "reject", "inconclusive", "failed", "refused"]},
    "Pair": {"first": ["old", "new"]},
}
"""Texts that are one of a few words; the records hold them as plain strings."""


def tune_json(result: TuneResult) -> str:
    """One JSON object in a line, ending in a line feed. nan and infinity become null."""
    return encode_json(result).decode() + "\n"


def tune_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of what `tune_json` writes: every property is always there."""
    schema = schema_of(TuneResult, "trainprof tune", _VALUES)
    schema["$defs"]["TuneResult"]["properties"]["schema"]["const"] = TUNE_SCHEMA
    return schema
