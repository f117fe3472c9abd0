"""`report.html` of a run or a trace: gathers what the page shows, and writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trainprof.cli.report_diffs import diffs_of
from trainprof.errors import TrainprofError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.store.lines import Problems
from trainprof.profiler.store.reader import read_run_info
from trainprof.profiler.store.tune_result import read_tune
from trainprof.profiler.store.whole_file import replace_file
from trainprof.reports.html.extras import Extras
from trainprof.reports.html.report import HtmlReport
from trainprof.rules.catalogue import catalogue
from trainprof.rules.pages import plain_page

REPORT_FILE = "report.html"
PAGE_WIDTH = 88
"""Columns of a rule's page inside the report."""


def run_extras(folder: Path, run: Path, diagnosis: Diagnosis) -> Extras:
    """What the page of a run shows beside its diagnosis.

    Args:
        folder: Of the run, or of the tune that holds it.
        run: Of the run itself.
        diagnosis: Of the run.

    Raises:
        RunFolderError: the result of the tune cannot be read.
    """
    info = read_run_info(run, Problems())
    diffs = diffs_of(diagnosis, run)
    return Extras(pages=_pages(diagnosis), diffs=diffs, tune=read_tune(folder), info=info)


def trace_extras(diagnosis: Diagnosis) -> Extras:
    """What the page of a trace shows beside its diagnosis."""
    return Extras(pages=_pages(diagnosis))


def write_page(diagnosis: Diagnosis, extras: Extras, path: Path) -> None:
    """Writes the page; who looks at it meanwhile sees the old one or the new one.

    Raises:
        TrainprofError: it cannot be written.
    """
    text = HtmlReport(extras).render(diagnosis)
    try:
        replace_file(str(path), text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise TrainprofError(
            f"{path} cannot be written ({error.strerror}); `trainprof report --out FILE` writes it "
            "elsewhere."
        ) from None


def _pages(diagnosis: Diagnosis) -> dict[str, str]:
    named = set(_rules(diagnosis))
    return {rule.id: plain_page(rule, PAGE_WIDTH) for rule in catalogue() if rule.id in named}


def _rules(diagnosis: Diagnosis) -> Iterator[str]:
    yield from (finding.rule for finding in diagnosis.findings)
    for other in diagnosis.other_sessions:
        yield from _rules(other)
