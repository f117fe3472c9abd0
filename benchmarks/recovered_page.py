"""docs/recovered.md: what is recovered, case by case."""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.cases import REPOSITORY

from trainprof.rules.statistics.pairs import Ratio, paired_ratio

LEAST_GAIN = 1.03
"""Of fixed.py over train.py: below it there is nothing to recover in so few rounds."""
LEAST_ROUNDS = 3
"""For an interval; of two rounds it is wider than anything it could tell."""
AS_FAST = 0.95
"""Patch over plan, where there are too few rounds for an interval (a starting value)."""
INTRODUCTION = """\
# What is recovered

Written by `make recovered`. Each case of the zoo whose rule advises a fix was diagnosed; what
`trainprof tune` would try became a plan and, by `trainprof fix --write`, a patch of a copy. Then
train.py, train.py under the plan, the patched train.py and fixed.py, the repair that was written
by hand with the case, ran in alternating rounds: fresh processes with OMP_NUM_THREADS=1, cut to the
same steps, timed per sample by the same agent, without the warm-up. The patched source ran without
any plan.

*Recovered* is (T_train - T_plan) / (T_train - T_fixed), from geometric means of the rounds. Above
1 the plan is faster than the repair by hand. *Patch / plan* is T_plan / T_patched: above 1 the
patched source is faster than the plan. Intervals are 95 %, Student's t on the logarithms of the
rounds. *Whole script* is the time of the unchanged script over that of the patched one, each from
start to end by the clock, once, without trainprof. Of several candidates, one that was not in
force, or slower in two alternating trials before (below 0.95), is left out, as a tune would do.
"""


@dataclass(frozen=True)
class Result:
    """The figures of one case; None where an arm was not measured."""

    row: dict[str, Any]
    fixed: Ratio | None
    plan: Ratio | None
    patched: Ratio | None
    patched_over_plan: Ratio | None

    @property
    def counts(self) -> bool:
        """Whether there was something to recover, by fixes that leave the training as it is."""
        semantic = self.row["found"] and not self.row["advised"]
        return self.fixed is not None and self.fixed.point >= LEAST_GAIN and not semantic

    @property
    def is_source_only(self) -> bool:
        """Whether no fix of the run time is meant for it."""
        return bool(self.row.get("source_only")) and not self.row.get("kept")

    @property
    def recovered(self) -> float | None:
        """By the plan; by the patch where only the source can be changed; 0 of nothing applied."""
        if not self.counts or self.fixed is None:
            return None
        new = self.patched if self.is_source_only else self.plan
        return 0.0 if new is None else (1 - 1 / new.point) / (1 - 1 / self.fixed.point)


def result(row: dict[str, Any]) -> Result:
    """What the rounds of a row say."""
    return Result(
        row,
        _ratio(row, "train", "fixed"),
        _ratio(row, "train", "plan"),
        _ratio(row, "train", "patched"),
        _ratio(row, "plan", "patched"),
    )


def _ratio(row: dict[str, Any], old: str, new: str) -> Ratio | None:
    logs = []
    for one in row.get("rounds", ()):
        trials = [one.get(name, {}) for name in (old, new)]
        times = [trial.get("seconds") for trial in trials]
        if all(times) and trials[0].get("per") == trials[1].get("per"):
            logs.append(math.log(times[0] / times[1]))
    if not logs:
        return None
    if len(logs) < LEAST_ROUNDS:
        return Ratio(math.exp(statistics.fmean(logs)), None, None, len(logs))
    found = paired_ratio(logs)
    return Ratio(math.exp(statistics.fmean(logs)), found.low, found.high, len(logs))


def summary(row: dict[str, Any]) -> str:
    """A line for the terminal."""
    if "problem" in row:
        return f"{row['case']}: {row['problem']}"
    one = result(row)
    fixes = ", ".join(_fixes(row)) or "nothing applied"
    return (
        f"{row['case']}: {fixes}; fixed {_times(one.fixed)}, plan {_times(one.plan)}, patched "
        f"{_times(one.patched)}, recovered {_number(one.recovered)} {'; '.join(_why(one))}"
    )


def page(rows: Sequence[dict[str, Any]], cases: int) -> str:
    """The whole page.

    Args:
        rows: What has been measured.
        cases: How many cases there are.
    """
    results = sorted(map(result, rows), key=lambda one: one.row["case"])
    parts = [INTRODUCTION, _provenance(results, cases), _totals(results), _table(results)]
    return "\n".join([*parts, _notes(results)]).rstrip() + "\n"


def commit() -> str:
    """Of the repository as it is now, with a plus sign where something is not committed."""
    asked = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    done = subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _provenance(results: Sequence[Result], cases: int) -> str:
    if not results:
        return ""
    commits = sorted({commit for one in results for commit in one.row.get("commits", ())})
    rounds = sorted(len(one.row.get("rounds", ())) for one in results)
    text = (
        f"Measured at {', '.join(f'`{one}`' for one in commits) or 'an unknown commit'}; written "
        f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC; {platform.machine()}, "
        f"{os.cpu_count()} cores; {len(results)} of {cases} cases, "
        f"{rounds[0]} to {rounds[-1]} rounds."
    )
    return text + "\n"


def _totals(results: Sequence[Result]) -> str:
    found = [one.recovered for one in results if one.recovered is not None]
    if not found:
        return "Nothing has been measured yet.\n"
    half = sum(value >= 0.5 for value in found)
    slower = [
        one.row["case"]
        for one in results
        if one.plan is not None and one.plan.high is not None and one.plan.high < 1.0
    ]
    equal = [
        one.patched_over_plan
        for one in results
        if one.patched_over_plan is not None and not one.row["by_hand"]
    ]
    as_fast = sum(one.point >= AS_FAST if one.high is None else one.high >= 1.0 for one in equal)
    pooled = paired_ratio([math.log(one.point) for one in equal]) if equal else None
    losses = [check["passed"] for one in results for check in one.row.get("losses", {}).values()]
    lines = [
        f"- Recovered, median of {len(found)} cases: **{statistics.median(found):.2f}**; "
        f"at least 0.5 in **{half} of {len(found)}**.",
        f"- Plans that are slower than the unchanged script: {', '.join(slower) or 'none'}.",
        f"- Patched source as fast as the plan, where it holds all of the plan, within the "
        f"interval (or within {1 - AS_FAST:.0%} where there are too few rounds for one): "
        f"{as_fast} of {len(equal)}; patch / plan over all of these cases: {_times(pooled)}.",
        f"- Loss checks passed: {losses.count(True)} of {len(losses)}; failed "
        f"{losses.count(False)}; the losses cannot tell in {losses.count(None)}.",
    ]
    return "\n".join(lines) + "\n"


def _table(results: Sequence[Result]) -> str:
    heads = ["case", "rule", "applied", "fixed.py", "plan", "recovered", "patched", "patch / plan"]
    heads += ["loss, plan", "loss, patch", "whole script, patched"]
    lines = [heads, ["---"] * len(heads)]
    for one in results:
        losses = one.row.get("losses", {})
        lines.append(
            [
                one.row["case"],
                f"`{one.row['rule']}`",
                ", ".join(f"`{fix}`" for fix in _fixes(one.row)) or "nothing",
                _times(one.fixed),
                _times(one.plan),
                _number(one.recovered),
                _times(one.patched),
                _times(one.patched_over_plan),
                *(_passed(losses.get(arm)) for arm in ("plan", "patched")),
                _whole(one.row),
            ]
        )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _notes(results: Sequence[Result]) -> str:
    lines = [f"- {one.row['case']}: {why}" for one in results for why in _why(one)]
    return "## Why it is not more\n\n" + "\n".join(lines) + "\n" if lines else ""


def _why(one: Result) -> list[str]:
    """Sentences about what was not applied, or not written."""
    row = one.row
    if "problem" in row:
        return [row["problem"]]
    why = []
    if not row["found"]:
        why.append(f"the diagnosis does not name `{row['rule']}`")
    why += [f"`{fix}` was left out: {reason}" for fix, reason in row["dropped"].items()]
    if not row["kept"]:
        why += [f"not tried: {text}" for text in row["refused"]]
    why += [f"by hand: {text.removeprefix('by hand: ')}" for text in row["by_hand"]]
    if row["found"] and not row["advised"]:
        why.append("what would repair it changes the training: it does not count")
    elif one.fixed is not None and not one.counts:
        why.append(f"fixed.py is no faster here ({one.fixed.point:.2f}): it does not count")
    problems = {
        f"{arm}: {trial['problem']}"
        for each in row.get("rounds", ())
        for arm, trial in each.items()
        if trial["problem"]
    }
    return [*why, *sorted(problems)]


def described(application: dict[str, Any]) -> str:
    """A fix with its settings."""
    settings = ", ".join(f"{name}={value}" for name, value in application["params"].items())
    return f"{application['fix']} ({settings})" if settings else application["fix"]


def _fixes(row: dict[str, Any]) -> list[str]:
    applied = [row["applications"][number]["fix"] for number in row.get("kept", ())]
    written = [f"{one['fix']} (source only)" for one in row.get("source_only", ())]
    return [*applied, *written]


def _passed(check: dict[str, Any] | None) -> str:
    if check is None:
        return ""
    return {True: "passed", False: "**failed**", None: "cannot tell"}[check["passed"]]


def _whole(row: dict[str, Any]) -> str:
    """train.py over the patched one, from start to end, by the clock and without trainprof."""
    seconds = row.get("plain", {})
    old, new = seconds.get("train"), seconds.get("patched")
    return f"{old / new:.2f}" if old and new else ""


def _times(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.point:.2f}"
    return f"{ratio.point:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
