"""What `trainprof fix` is asked for: from a run's findings, a tune's plan, or a script."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from trainprof.cli.plan_sources import script_of, script_of_run
from trainprof.cli.planning import application, read_plan
from trainprof.errors import UsageError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.plan import Application, Plan, Target
from trainprof.profiler.store.reader import find_runs, resolve_run
from trainprof.rules.experiments.candidates import candidates_of, without_overlap
from trainprof.rules.fixes.registry import all_fixes
from trainprof.rules.fixes.source_only import SOURCE_ONLY
from trainprof.rules.source_edits.diff import shown_path, unified_diff
from trainprof.rules.source_edits.in_words import ByHand
from trainprof.rules.source_edits.patch import SourcePatch, make_patch
from trainprof.rules.source_edits.written import digest, was_written

PLAN_FILE, TUNE_FILE = "plan.json", "tune.json"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be written into the source.

    Attributes:
        applications: The fixes. script: For those of the whole process.
        command: That starts it. by_hand: What findings advise that no fix can do.
        sources: SHA-256 that files had when this was proven.
        measured_unix_s: Where there are no hashes: files changed later are refused.
    """

    applications: tuple[Application, ...]
    script: str | None
    command: tuple[str, ...] = ()
    by_hand: tuple[ByHand, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    measured_unix_s: float | None = None

    @property
    def files(self) -> list[str]:
        """Absolute paths of the files that are meant."""
        paths = [
            one.target.file if one.target is not None else self.script for one in self.applications
        ]
        return list(dict.fromkeys(path for path in paths if path is not None))


def patch_for(source: str | None, fixes: Sequence[str]) -> tuple[Wanted, SourcePatch | None]:
    """The patch; None in its place where it has been written already.

    Raises:
        UsageError: what is asked for does not exist, or a file has changed since it was measured.
    """
    wanted = wanted_of(source, fixes)
    changed = [path for path in wanted.files if _has_changed(path, wanted)]
    if not changed:
        patch = make_patch(wanted.applications, script=wanted.script, command=wanted.command)
        return wanted, patch
    foreign = [path for path in changed if not was_written(path, wanted.sources.get(path))]
    if foreign:
        raise UsageError(
            f"{shown_path(foreign[0], Path.cwd())} was changed after it was measured, so its lines "
            "may not be those meant; measure it again, or name the fix and its line with --fix."
        )
    return wanted, None


def written_already(wanted: Wanted) -> str:
    """A sentence about a patch that has been written."""
    names = ", ".join(shown_path(path, Path.cwd()) for path in wanted.files)
    return (
        f"nothing changes: fixes are written into {names} already; `trainprof fix --undo` takes "
        "them back, so that others can be written with them."
    )


def _has_changed(path: str, wanted: Wanted) -> bool:
    try:
        if path in wanted.sources:
            return digest(Path(path).read_bytes()) != wanted.sources[path]
        return (
            wanted.measured_unix_s is not None and os.stat(path).st_mtime > wanted.measured_unix_s
        )
    except OSError:
        return False  # that it cannot be read is said by the patch


def wanted_of(source: str | None, fixes: Sequence[str]) -> Wanted:
    """What a command line asks for.

    Raises:
        UsageError: there is no such run, script, plan or fix.
        RunFolderError: the run cannot be read.
    """
    asked = [application(text) for text in fixes]
    if source is not None and source.endswith(".py"):
        return _of_script(Path(source), asked)
    if source is not None and Path(source).is_file():
        return _of_plan(Path(source), asked)
    folder = resolve_run(source)
    if (folder / TUNE_FILE).exists():
        if not (folder / PLAN_FILE).exists():
            raise UsageError(f"the tune {folder} kept nothing, so there is nothing to write.")
        return _of_plan(folder / PLAN_FILE, asked)
    return _of_run(folder, asked)


def _of_script(path: Path, asked: Sequence[Application]) -> Wanted:
    if not path.is_file():
        raise UsageError(f"there is no script {path}; check the path.")
    script = str(path.resolve())
    if asked:
        return Wanted(tuple(asked), script)
    names = (script, os.path.abspath(path))
    for entry in find_runs():
        plan = entry.path / PLAN_FILE
        if (entry.path / TUNE_FILE).exists():
            if plan.exists() and read_plan(plan).script in names:
                return _of_plan(plan, asked)
        elif entry.info is not None and script_of(entry.info.argv, entry.info.cwd) in names:
            return _of_run(entry.path, asked)
    raise UsageError(
        f"no run of {path} is recorded here; record one with `trainprof run {path}`, or name a fix "
        f"with --fix: {', '.join(all_fixes())}."
    )


def _of_plan(path: Path, asked: Sequence[Application]) -> Wanted:
    plan = read_plan(path)
    names = {one.fix for one in asked}
    unknown = names - {one.fix for one in plan.applications}
    if unknown:
        held = ", ".join(dict.fromkeys(one.fix for one in plan.applications))
        raise UsageError(f"{path} does not hold {', '.join(sorted(unknown))}; it holds {held}.")
    chosen = tuple(one for one in plan.applications if not names or one.fix in names)
    return Wanted(chosen, plan.script, sources=plan.sources)


def _of_run(folder: Path, asked: Sequence[Application]) -> Wanted:
    from trainprof.cli.judgement import judge
    from trainprof.cli.settings import load_settings

    diagnosis = judge(folder, load_settings())
    allowed = "semantics" if asked else "numerics"
    found = [one.application for one in without_overlap(candidates_of(diagnosis, allowed)[0])]
    found += _source_only(diagnosis, {one.fix for one in asked})
    run = diagnosis.run
    return Wanted(
        tuple(_chosen(found, asked)),
        script_of_run(folder, run.argv, run.cwd or ""),
        run.argv,
        tuple(_advice(diagnosis, {one.fix for one in asked})),
        measured_unix_s=run.started_unix_s,
    )


def _chosen(found: Sequence[Application], asked: Sequence[Application]) -> list[Application]:
    """What was found, or of it what was asked for; parameters and places may be given as well."""
    if not asked:
        return list(found)
    chosen: list[Application] = []
    for one in asked:
        alike = [other for other in found if other.fix == one.fix]
        if one.target is not None or not alike:
            chosen.append(one)
        else:
            chosen += [replace(other, params={**other.params, **one.params}) for other in alike]
    return chosen


def _source_only(diagnosis: Diagnosis, asked: set[str]) -> list[Application]:
    """Advice that only the source can follow; what alters the training only if asked for."""
    found = []
    for finding in diagnosis.findings:
        where = finding.where
        for advice in finding.fixes:
            wanted = advice.safety != "semantics" or advice.fix in asked
            if wanted and advice.fix in SOURCE_ONLY:
                target = Target(where.file, where.line) if where is not None else None
                found.append(Application(advice.fix, advice.params, target))
    return list({one.fix: one for one in found}.values())


def _advice(diagnosis: Diagnosis, asked: set[str]) -> list[ByHand]:
    """What findings advise that needs a person."""
    known = {*all_fixes(), *SOURCE_ONLY}
    notes = []
    for finding in diagnosis.findings:
        where = finding.where
        for advice in finding.fixes:
            if advice.fix not in known and (not asked or advice.fix in asked):
                path, line = (where.file, where.line) if where is not None else (None, None)
                notes.append(ByHand(advice.fix, advice.text, advice.code, path, line))
    return notes


def patch_text(plan: Plan, command: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """The patch of a plan as a unified diff, and sentences about what is left to a person."""
    patch = make_patch(plan.applications, script=plan.script, command=command)
    diff = unified_diff(patch.files, Path.cwd()).decode("utf-8", "replace")
    return diff or None, tuple(note.sentence(Path.cwd()) for note in patch.by_hand)
