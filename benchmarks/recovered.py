"""How much of what a hand-written repair gains is recovered by the fixes that trainprof applies.

For each case of the zoo whose rule advises a fix: train.py is diagnosed, and what `trainprof tune`
would try becomes a plan and a patch. Then, in rounds that alternate, each trial a fresh process
with OMP_NUM_THREADS=1, cut to the same steps and timed by the same agent: train.py, train.py under
the plan, train.py with the patch written, and fixed.py. A round is kept as soon as it is done, so a
run that was cut short goes on where it ended.

    PYTHONPATH=tests python benchmarks/recovered.py [--rounds 4] [--trial 2.0] [NAME ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recovered_page import page, summary
from recovered_plan import Prepared, as_json, is_fixable, plan_in, prepare, write_patch
from zoo.cases import REPOSITORY, Case, all_cases, in_running_order

from trainprof.errors import RunFolderError
from trainprof.profiler.model.plan import Plan, plan_to_json
from trainprof.profiler.store.reader import read_run
from trainprof.rules.experiments.loss_check import check_losses
from trainprof.rules.experiments.trial import read_trial

ROWS = REPOSITORY / "build" / "recovered"
PAGE = REPOSITORY / "docs" / "recovered.md"
GROUPS = ("stories", "cases", "blind")
TIMEOUT_S = 120
"""Of a trial, which takes a few seconds."""
SCREENED_PAIRS = 2
"""After so many, a candidate that was slower each time is dropped, as a tune drops it."""
SLOWER = 0.97
AGENT = ("--quiet", "--no-probe", "--no-stacks", "--trace", "off")


def main() -> None:
    """The command."""
    options = _options()
    cases = [
        case
        for case in in_running_order(list(all_cases()))
        if case.group in GROUPS and case.plants and is_fixable(case)
        if not options.names or any(name in case.name for name in options.names)
    ]
    until = time.monotonic() + 60.0 * options.minutes
    for number, case in enumerate(cases, 1):
        if options.no_runs or time.monotonic() > until:
            break
        started = time.monotonic()
        row = measure(case, options, until)
        seconds = time.monotonic() - started
        print(f"{number:3}/{len(cases)} {seconds:5.1f} s  {summary(row)}", flush=True)
    rows = [row for case in cases if (row := _read(case)) is not None]
    if options.names and not options.out:
        sys.stdout.write(page(rows, len(cases)))
    else:
        (options.out or PAGE).write_text(page(rows, len(cases)), encoding="utf-8")
        print(f"{len(rows)} of {len(cases)} cases; see {options.out or PAGE}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make recovered", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of case names; everything by default")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--trial", type=float, default=2.0, help="seconds of steps in a trial")
    parser.add_argument("--minutes", type=float, default=60.0, help="no round begins after this")
    parser.add_argument("--plain", action="store_true", help="whole scripts by the clock, too")
    parser.add_argument(
        "--prepare", action="store_true", help="record, diagnose, screen; no rounds"
    )
    parser.add_argument("--no-runs", action="store_true", help="only write the page")
    parser.add_argument("--out", type=Path, help="where the page goes")
    return parser.parse_args()


def _path(case: Case) -> Path:
    return ROWS / f"{case.name.replace('/', '-')}.json"


def _read(case: Case) -> dict[str, Any] | None:
    path = _path(case)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _write(case: Case, row: dict[str, Any]) -> None:
    ROWS.mkdir(parents=True, exist_ok=True)
    _path(case).write_text(json.dumps(row, indent=1), encoding="utf-8")


def measure(case: Case, options: argparse.Namespace, until: float) -> dict[str, Any]:
    """All rounds of one case that are missing."""
    try:
        prepared = prepare(case, options.trial)
    except RuntimeError as error:
        row: dict[str, Any] = {"case": case.name, "rule": case.plants[0], "problem": str(error)}
        _write(case, row)
        return row
    with tempfile.TemporaryDirectory(prefix="recovered-") as scratch:
        arms = Arms(case, prepared, Path(scratch))
        row = _read(case) or {}
        if row.get("key") != arms.key:
            row = {**as_json(prepared), "key": arms.key, "rounds": [], **arms.screened()}
            _write(case, row)
        arms.choose(row["dropped"])
        while not options.prepare and len(row["rounds"]) < options.rounds:
            if time.monotonic() > until:
                break
            row["rounds"].append(arms.round(len(row["rounds"])))
            row["losses"] = arms.losses(row.get("losses"))
            _write(case, row)
        if options.plain and "plain" not in row:
            row["plain"] = arms.plain()
            _write(case, row)
    return row


class Arms:
    """The ways in which one case is run.

    Args:
        case: Of the zoo.
        prepared: What would be changed in it.
        scratch: An empty folder.
    """

    def __init__(self, case: Case, prepared: Prepared, scratch: Path) -> None:
        self._case = case
        self._prepared = prepared
        self._scratch = scratch
        self._unchanged = scratch / "unchanged" / case.folder.name
        self._patched = scratch / "patched" / case.folder.name
        for copy in (self._unchanged, self._patched):
            shutil.copytree(case.folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
        self._applications = prepared.applications
        self._trials: dict[str, list[Any]] = {}
        self.by_hand = write_patch(self._patched, prepared)
        self._diff = (self._patched / "fix.patch").read_text() if self._wanted else ""
        self.key = f"{prepared.key()} {self._diff}"

    @property
    def _wanted(self) -> bool:
        return bool(self._prepared.applications or self._prepared.source_only)

    def screened(self) -> dict[str, Any]:
        """Which candidates a tune would drop at once: not in force, or slower in each pair."""
        dropped: dict[str, str] = {}
        for one in self._prepared.applications:
            plan = plan_in(self._unchanged, (one,))
            ratios = []
            for _ in range(SCREENED_PAIRS if len(self._prepared.applications) > 1 else 1):
                new = self._run(self._unchanged / "train.py", plan)
                if new["seconds"] is None:
                    dropped[one.fix] = new["problem"]
                    break
                old = self._run(self._unchanged / "train.py", Plan(()))
                if old["seconds"] is not None:
                    ratios.append(old["seconds"] / new["seconds"])
            if len(ratios) == SCREENED_PAIRS and max(ratios) < SLOWER:
                dropped[one.fix] = f"slower, {max(ratios):.2f}"
        return {"dropped": dropped, "by_hand": self.by_hand, "diff": self._diff}

    def choose(self, dropped: dict[str, str]) -> None:
        """Leaves out of plan and patch what was dropped."""
        kept = tuple(one for one in self._prepared.applications if one.fix not in dropped)
        if kept == self._applications:
            return
        self._applications = kept
        shutil.rmtree(self._patched)
        shutil.copytree(self._case.folder, self._patched)
        shrunk = Prepared(**{**vars(self._prepared), "applications": kept})
        self.by_hand = write_patch(self._patched, shrunk)

    def _is_patched(self) -> bool:
        old, new = (folder / "train.py" for folder in (self._unchanged, self._patched))
        return old.read_bytes() != new.read_bytes()

    def round(self, number: int) -> dict[str, Any]:
        """Each arm once; every other round in the opposite order."""
        train, plan = self._unchanged / "train.py", plan_in(self._unchanged, self._applications)
        arms = {"train": (train, Plan(()))}
        if self._applications:
            arms["plan"] = (train, plan)
        if self._is_patched():
            arms["patched"] = (self._patched / "train.py", Plan(()))
        arms["fixed"] = (self._unchanged / "fixed.py", Plan(()))
        names = list(arms)
        half = number // 2 % len(names)
        names = names[half:] + names[:half]
        results = {}
        for name in names if number % 2 == 0 else names[::-1]:
            results[name] = self._run(*arms[name])
            self._trials.setdefault(name, []).append(results[name].pop("losses"))
        return {name: results[name] for name in arms}

    def losses(self, earlier: dict[str, Any] | None) -> dict[str, Any]:
        """The loss checks of plan and patch; those of earlier rounds where there are none new."""
        found = dict(earlier or {})
        for name in ("plan", "patched"):
            if name in self._trials:
                check = check_losses(
                    self._trials["train"],
                    self._trials[name],
                    safety=self._prepared.safety,
                    rounding=self._prepared.rounding,
                )
                found[name] = {"passed": check.passed, "text": check.text}
        return found

    def _run(self, script: Path, plan: Plan) -> dict[str, Any]:
        """One trial: seconds a sample (or a step), losses, and why it does not count."""
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        (folder / "work").mkdir()
        asked = ["--out", str(folder / "run"), "--steps", str(self._prepared.steps), *AGENT]
        if plan.applications:
            (folder / "plan.json").write_text(plan_to_json(plan), encoding="utf-8")
            asked += ["--plan", str(folder / "plan.json")]
        trainprof = [sys.executable, "-m", "trainprof", "run", *asked, "--"]
        problem, _ = _finish([*trainprof, *self._command(script)], folder / "work")
        trial = {"seconds": None, "losses": {}, "problem": problem}
        if problem is None:
            try:
                run = read_run(folder / "run")
                seen = read_trial(run, self._prepared.steps, self._prepared.warm_up)
            except RunFolderError as error:
                trial["problem"] = str(error)
            else:
                trial = {
                    "seconds": seen.seconds,
                    "per": seen.per,
                    "losses": dict(seen.losses),
                    "problem": seen.problem,
                }
        shutil.rmtree(folder, ignore_errors=True)
        return trial

    def _command(self, script: Path) -> list[str]:
        return [sys.executable, "-W", "ignore", *self._case.launcher, str(script)]

    def plain(self) -> dict[str, float | None]:
        """Seconds of the whole scripts, start-up included, without trainprof and its agent."""
        scripts = {"train": self._unchanged / "train.py", "fixed": self._unchanged / "fixed.py"}
        if self._is_patched():
            scripts["patched"] = self._patched / "train.py"
        seconds: dict[str, float | None] = {}
        for name, script in scripts.items():
            folder = Path(tempfile.mkdtemp(dir=self._scratch))
            problem, wall_s = _finish(self._command(script), folder)
            seconds[name] = None if problem else wall_s
        return seconds


def _finish(command: Sequence[str], folder: Path) -> tuple[str | None, float]:
    """Runs to the end; gives what went wrong, and seconds."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TRAINPROF_")},
        **{"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "0"},
        "TMPDIR": str(folder),
    }
    started = time.perf_counter()
    process = subprocess.Popen(
        list(command),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"longer than {TIMEOUT_S} s", math.nan
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        return f"exit status {process.returncode}: {lines[-1] if lines else ''}"[:300], math.nan
    return None, time.perf_counter() - started


if __name__ == "__main__":
    main()
