"""Findings as GitHub workflow commands, which a pull request shows beside the line."""

from __future__ import annotations

from collections.abc import Iterator

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
        file = printable(short_path(finding.where.file))
        properties += [f"file={_property(file)}", f"line={finding.where.line}"]
    properties.append(f"title={_property(printable(finding.rule, SHORT))}")
    message = f"{sentences.finding_sentence(finding)} {sentences.gain_line(finding)}"
    command = _COMMANDS.get(finding.severity, "notice")
    return f"::{command} {','.join(properties)}::{_message(message)}"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
