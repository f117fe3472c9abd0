"""`trainprof schema`: the JSON Schemas of `diagnose`, `compare` and `tune` with --format json."""

from __future__ import annotations

import json
from pathlib import Path

import click

from trainprof.cli.output import write_output
from trainprof.reports.comparison.json_report import comparison_schema
from trainprof.reports.json_report import diagnosis_schema
from trainprof.reports.tune_json import tune_schema

_SCHEMAS = {"diagnosis": diagnosis_schema, "comparison": comparison_schema, "tune": tune_schema}


@click.command()
@click.argument("what", type=click.Choice(list(_SCHEMAS)), default="diagnosis")
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file, not to stdout.")
def schema(what: str, out: Path | None) -> None:
    """Print the JSON Schema of a diagnosis, of a comparison, or of what a tune found."""
    text = json.dumps(_SCHEMAS[what](), indent=2, ensure_ascii=False)
    write_output(text + "\n", out)
