"""Runs the zoo and writes its table: `make zoo`.

A script that has been run with this version is not run again, so a run that was cut short goes on
where it ended. Without names everything is run, and docs/zoo.md is written; with names (parts of
case names) those cases only, and the table is printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from zoo.cases import REPOSITORY, Case, Script, all_cases, in_running_order
from zoo.recording import record, recorded
from zoo.results import Result, result_of
from zoo.table import write_page

PAGE = REPOSITORY / "docs" / "zoo.md"


def main() -> int:
    """The command."""
    options = _options()
    cases = [
        case
        for case in in_running_order(list(all_cases()))
        if not options.names or any(name in case.name for name in options.names)
    ]
    scripts = [script for case in cases for script in case.scripts]
    if not options.no_runs:
        _run_missing(scripts, deadline=time.monotonic() + 60 * options.minutes)
    results = [result for script in scripts if (result := result_of(script)) is not None]
    text = write_page(results, len(scripts))
    if options.names and not options.out:
        sys.stdout.write(text)
    else:
        (options.out or PAGE).write_text(text, encoding="utf-8")
        print(f"{len(results)} of {len(scripts)} scripts judged; see {options.out or PAGE}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make zoo", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of case names; everything by default")
    parser.add_argument("--minutes", type=float, default=60.0, help="no run is begun after this")
    parser.add_argument("--no-runs", action="store_true", help="only judge what has been run")
    parser.add_argument("--out", type=Path, help="where the table goes")
    return parser.parse_args()


def _run_missing(scripts: Sequence[Script], deadline: float) -> None:
    missing = [script for script in scripts if recorded(script) is None]
    print(f"{len(scripts)} scripts, {len(missing)} of them to run", flush=True)
    for number, script in enumerate(missing, start=1):
        if time.monotonic() > deadline:
            print(f"out of time: {len(missing) - number + 1} scripts are left for the next run")
            return
        facts = record(script)
        result = result_of(script)
        assert result is not None
        beside = "busy" if script.case.is_busy else "quiet"
        print(
            f"{number:4}/{len(missing)} {facts['wall_s']:5.1f} s {beside:5}  {script.name}: "
            f"{_said(result, script.case)}",
            flush=True,
        )


def _said(result: Result, case: Case) -> str:
    if result.fault is not None:
        said = ", ".join(result.fault.said[:3]) or "nothing"
        mark = "found" if result.fault.found_first else "MISSED"
        return f"{mark} {case.plants[0]}; said {said}"
    if result.healthy is not None:
        alarms = ", ".join(result.healthy.alarms)
        return f"FALSE ALARM {alarms}" if alarms else f"silent ({result.healthy.verdict})"
    return f"FAILED {result.error.strip().splitlines()[-1:]}"


if __name__ == "__main__":
    sys.exit(main())
