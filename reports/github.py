"""Findings as GitHub workflow commands, which a pull request shows beside the line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePath

from trainprof.profiler.model.diagnosis import Diagnosis, Finding
from trainprof.reports import sentences
from trainprof.reports.source import short_path
from trainprof.reports.text import SHORT, printable

_COMMANDS = {"critical": "error", "warn": "warning", "info": "notice"}


class GithubReport:
    """Renders a diagnosis as annotations, one line each."""

    def render(self, diagnosis: Diagnosis) -> str:
        """One line for the verdict, one per finding."""
        return "".join(f"{line}\n" for line in _lines(diagnosis))


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    for session in (diagnosis, *diagnosis.other_sessions):
        title = _property(f"trainprof: {sentences.verdict_word(session)}")
        yield f"::notice title={title}::{_message(sentences.headline(session))}"
        for finding in session.findings:
            yield _annotation(finding)


def _annotation(finding: Finding) -> str:
    properties = []
    if finding.where is not None:
        file = printable(_in_repository(finding.where.file))
        properties += [f"file={_property(file)}", f"line={finding.where.line}"]
    properties.append(f"title={_property(printable(finding.rule, SHORT))}")
    message = f"{sentences.finding_sentence(finding)} {_advice(finding)}"
    command = _COMMANDS.get(finding.severity, "notice")
    return f"::{command} {','.join(properties)}::{_message(message)}"


def _advice(finding: Finding) -> str:
    """What to change, where that is known, and what it is predicted to give."""
    gain = sentences.gain_line(finding)
    if not finding.fixes:
        return f"Gain: {gain}."
    return f"Fix: {printable(finding.fixes[0].text).rstrip('.')}. Gain: {gain}."


def _in_repository(file: str) -> str:
    """The path as GitHub matches it with the files of a change: from the top of the checkout.

    Outside of a runner, from the working directory.
    """
    top = os.environ.get("GITHUB_WORKSPACE")
    if top and os.path.isabs(file) and os.path.isabs(top):
        path = PurePath(os.path.normpath(file))
        if path.is_relative_to(os.path.normpath(top)):
            return str(path.relative_to(os.path.normpath(top)))
    return short_path(file)


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
