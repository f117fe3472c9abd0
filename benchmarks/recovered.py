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
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from recovered_page import commit, described, page, summary
from recovered_plan import SAFETIES, Prepared, as_json, is_fixable, plan_in, prepare, write_patch
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
SCREENED = 2
"""Alternating trials of each of several candidates, before the rounds."""
SLOWER = 0.95
"""A candidate among several that is as slow in them is left out, as no tune would prove it."""
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
    if not options.no_runs:
        until = time.monotonic() + 60.0 * options.minutes
        with tempfile.TemporaryDirectory(prefix="recovered-") as scratch:
            _measure(cases, options, Path(scratch), until)
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


def _measure(
    cases: Sequence[Case], options: argparse.Namespace, scratch: Path, until: float
) -> None:
    """One round of every case, then the next: cut short, all have as many, but for one."""
    everything = []
    for number, case in enumerate(cases, 1):
        if time.monotonic() > until:
            return
        started = time.monotonic()
        arms = _prepared(case, options.trial, scratch / str(number))
        if arms is not None and (arms.row["advised"] or not arms.row["found"]):
            everything.append(arms)
        seconds = time.monotonic() - started
        print(f"{number:3}/{len(cases)} {seconds:5.1f} s  {summary(_read(case) or {})}", flush=True)
    rounds = 0 if options.prepare else options.rounds
    for number in range(rounds):
        for arms in everything:
            if time.monotonic() > until:
                return
            if len(arms.row["rounds"]) <= number:
                arms.add_round()
                print(f"round {number + 1}: {summary(arms.row)}", flush=True)
    if options.plain:
        for arms in everything:
            if time.monotonic() < until:
                arms.add_plain()


def _prepared(case: Case, trial_s: float, scratch: Path) -> Arms | None:
    """A case that is ready for rounds; None if it cannot be run."""
    try:
        prepared = prepare(case, trial_s)
    except RuntimeError as error:
        _write(case, {"case": case.name, "rule": case.plants[0], "problem": str(error)})
        return None
    return Arms(case, prepared, scratch)


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
        self._trials: dict[str, list[Any]] = {}
        by_hand, diff = write_patch(self._patched, prepared)
        key = f"{prepared.key()} {diff}"
        row = _read(case) or {}
        if row.get("key") == key:
            row |= as_json(prepared)
        else:
            row = {**as_json(prepared), "key": key, "by_hand": by_hand, "diff": diff, "rounds": []}
            row["kept"], row["dropped"] = self._screened()
        self.row: dict[str, Any] = row
        self._applications = tuple(prepared.applications[number] for number in row["kept"])
        if len(row["kept"]) < len(prepared.applications):
            shutil.rmtree(self._patched)
            shutil.copytree(case.folder, self._patched)
            row["by_hand"], row["diff"] = write_patch(
                self._patched, replace(prepared, applications=self._applications)
            )
        _write(case, row)

    def _screened(self) -> tuple[list[int], dict[str, str]]:
        """Which of several candidates a tune would keep together, by number; why not the others.

        Those that are not in force, or slower by far, are dropped; of two settings of one object
        the faster one stays.
        """
        applications = self._prepared.applications
        if len(applications) < 2:
            return list(range(len(applications))), {}
        plans = [(), *((one,) for one in applications)]
        trials: list[list[dict[str, Any]]] = [[] for _ in plans]
        for turn in range(SCREENED):
            for number in range(len(plans))[:: 1 if turn % 2 == 0 else -1]:
                plan = plan_in(self._unchanged, plans[number])
                trials[number].append(self._run(self._unchanged / "train.py", plan))
        dropped: dict[str, str] = {}
        ratios: dict[int, float] = {}
        for number, one in enumerate(applications):
            new = trials[number + 1]
            problem = next((trial["problem"] for trial in new if trial["seconds"] is None), None)
            ratio = _ratio(trials[0], new)
            if problem is not None:
                dropped[described(asdict(one))] = problem
            elif ratio < SLOWER:
                dropped[described(asdict(one))] = f"slower, {ratio:.2f}"
            else:
                ratios[number] = ratio
        kept: dict[tuple[str, Any], int] = {}
        for number in sorted(ratios, key=lambda one: ratios[one], reverse=True):
            one = applications[number]
            first = kept.setdefault((one.fix, one.target), number)
            if first != number:
                dropped[described(asdict(one))] = "another setting was faster"
        return sorted(kept.values()), dropped

    def _is_patched(self) -> bool:
        old, new = (folder / "train.py" for folder in (self._unchanged, self._patched))
        return old.read_bytes() != new.read_bytes()

    def add_round(self) -> None:
        """Each arm once more; every other round in the opposite order."""
        number = len(self.row["rounds"])
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
        self.row["rounds"].append({name: results[name] for name in arms})
        self.row["losses"] = self._losses()
        self.row["commits"] = sorted({*self.row.get("commits", ()), commit()})
        _write(self._case, self.row)

    def _losses(self) -> dict[str, Any]:
        """The loss checks of plan and patch, over the rounds of this run."""
        safeties = [self._prepared.safeties[number] for number in self.row["kept"]]
        found = {}
        for name in ("plan", "patched"):
            if name in self._trials:
                check = check_losses(
                    self._trials["train"],
                    self._trials[name],
                    safety=max((one for one, _ in safeties), key=SAFETIES.index, default="safe"),
                    rounding=all(rounding for _, rounding in safeties),
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

    def add_plain(self) -> None:
        """Seconds of the whole scripts, start-up included, without trainprof and its agent."""
        scripts = {"train": self._unchanged / "train.py", "fixed": self._unchanged / "fixed.py"}
        if self._is_patched():
            scripts["patched"] = self._patched / "train.py"
        seconds: dict[str, float | None] = {}
        for name, script in scripts.items():
            folder = Path(tempfile.mkdtemp(dir=self._scratch))
            problem, wall_s = _finish(self._command(script), folder)
            seconds[name] = None if problem else wall_s
        self.row["plain"] = seconds
        _write(self._case, self.row)


def _ratio(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> float:
    """Seconds of the old over those of the new, of geometric means; 1 where any is missing."""
    pairs = list(zip(old, new, strict=True))
    if any(not trial["seconds"] for pair in pairs for trial in pair):
        return 1.0
    logs = [math.log(one["seconds"] / other["seconds"]) for one, other in pairs]
    return math.exp(sum(logs) / len(logs))


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
