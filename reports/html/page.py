"""Puts data, scripts and styles into one file that asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import html
from functools import cache
from importlib.resources import files
from string import Template

from trainprof.profiler.store.encoded import encode_json

SCRIPTS = ("document.js", "charts.js", "experiments.js", "flame.js", "start.js")
"""Of `assets/`, in the order in which they are run."""
PLOTLY = "plotly-basic.min.js"
"""plotly.js 4.1.1, the bundle plotly.js-basic-dist-min of npm, MIT licence (vendor/README.md)."""


def page(content: dict[str, object]) -> str:
    """The page that shows `content`: the name of the run, and the sections.

    A browser runs the scripts whose hash the page names and no other, and loads nothing: what was
    recorded stands in it as data, which is never run nor read as markup.
    """
    plotly, script = _asset("vendor", PLOTLY), _scripts()
    policy = (
        f"default-src 'none'; script-src {_hash(plotly)} {_hash(script)}; "
        "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return Template(_asset("assets", "page.html")).substitute(
        policy=policy,
        title=html.escape(f"{content['name']}: trainprof report"),
        style=_asset("assets", "page.css"),
        data=_data(content),
        plotly=plotly,
        script=script,
    )


def _data(content: dict[str, object]) -> str:
    """JSON in which nothing can end the element that it stands in; nan and infinity are null."""
    return encode_json(content).decode().replace("<", "\\u003c")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def _asset(folder: str, name: str) -> str:
    path = files("trainprof.reports.html") / folder / name
    return path.read_text(encoding="utf-8")


@cache
def _scripts() -> str:
    inside = "\n".join(_asset("assets", name) for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{inside}\n}})();\n'
