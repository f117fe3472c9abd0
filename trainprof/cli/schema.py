"""`trainprof schema`: the JSON Schema of `diagnose --format json`, of `compare --format json`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from trainprof.cli.output import write_output
from trainprof.reports.comparison.json_report import comparison_schema
from trainprof.reports.json_report import diagnosis_schema

_SCHEMAS = {"diagnosis": diagnosis_schema, "comparison": comparison_schema}


@click.command()
@click.argument("what", type=click.Choice(list(_SCHEMAS)), default="diagnosis")
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file, not to stdout.")
def schema(what: str, out: Path | None) -> None:
    """Print the JSON Schema of a diagnosis, or of a comparison."""
    text = json.dumps(_SCHEMAS[what](), indent=2, ensure_ascii=False)
    write_output(text + "\n", out)
