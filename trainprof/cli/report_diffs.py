"""What the fixes that findings advise would change in the source, for the page of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from trainprof.cli.plan_sources import script_of_run
from trainprof.errors import MissingExtraError, UsageError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.plan import Application
from trainprof.profiler.store.source_files import open_to_readers
from trainprof.reports.html.extras import Change, change_of
from trainprof.rules.experiments.candidates import candidates_of


def diffs_of(diagnosis: Diagnosis, run: Path) -> dict[Change, str]:
    """The unified diff of each fix; fewer where the source has changed, or needs a person.

    None at all without LibCST, which edits the source without touching its layout.

    Args:
        diagnosis: Of the run.
        run: Its folder.
    """
    wanted = list(_wanted(diagnosis, run))
    if not wanted:
        return {}
    try:
        from trainprof.rules.source_edits.diff import unified_diff
        from trainprof.rules.source_edits.patch import make_patch
    except MissingExtraError:
        return {}
    found = {}
    for change, application, script in wanted:
        try:
            patch = make_patch((application,), script=script, command=diagnosis.run.argv)
        except UsageError:  # its advice alone is shown
            continue
        text = unified_diff(patch.files, Path.cwd()).decode("utf-8", "replace")
        if text:
            found[change] = text
    return found


def _wanted(diagnosis: Diagnosis, run: Path) -> Iterator[tuple[Change, Application, str | None]]:
    """Fixes whose file may be shown, and is as it was measured."""
    script = script_of_run(run, diagnosis.run.argv, diagnosis.run.cwd or "")
    for finding in diagnosis.findings:
        for fix in finding.fixes:
            alone = replace(diagnosis, findings=(replace(finding, fixes=(fix,)),))
            for one in candidates_of(alone, "semantics")[0]:
                target = one.application.target
                file = target.file if target is not None else script
                if file is not None and _may_be_shown(file, diagnosis):
                    yield change_of(finding, fix), one.application, script


def _may_be_shown(file: str, diagnosis: Diagnosis) -> bool:
    run = diagnosis.run
    try:
        path = Path(run.cwd or "", file).resolve(strict=True)
        changed_unix_s = os.stat(path).st_mtime
        readable = open_to_readers(path, run.cwd, run.argv)
    except (OSError, ValueError, RuntimeError):
        return False
    return readable and run.started_unix_s is not None and changed_unix_s <= run.started_unix_s
