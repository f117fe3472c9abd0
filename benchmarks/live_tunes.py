"""Whole tunes of a 5 ms script: placebos must not be kept, what is 1.3 times faster must.

Each tune tries three placebos whose knob reads back active and one that is not in force; every
second one also a fix that takes a planted cost out of the step, by which it gets 1.3 times faster.
All come in as another package's fixes do. A tune is one row of the results; what is there already
is not done again.

    python benchmarks/live_tunes.py RESULTS.json [--tunes 20] [--cores 0,1] [--markdown PAGE.md]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PLACEBOS = ("placebo-flag", "placebo-hook", "placebo-wrapper")
IDLE, PLANTED = "placebo-idle", "planted-spin"
FIXES = {
    "placebo-flag": "PlaceboFlag",
    "placebo-hook": "PlaceboHook",
    "placebo-wrapper": "PlaceboWrapper",
    IDLE: "PlaceboIdle",
    PLANTED: "PlantedSpin",
}
STEP_S = 0.005
SPEEDUP = 1.3
STEPS = 160
"""Of a trial: 0.8 s of 5 ms steps; it takes three to start."""
BUDGET_S = 310.0
"""Of a tune with a planted fix; two thirds without one. All candidates come to their first look,
and twenty fit into 45 minutes of two cores that do nothing else."""
LESS = 2 / 3
MOST_PLACEBOS_KEPT = 1
LEAST_PLANTED_KEPT = 0.9
VERDICTS = ("kept", "inconclusive", "rejected", "failed")
NOT_IN_FORCE = ("refused", "failed")


def main() -> int:
    """Runs what is missing, and judges the whole; 1 if it does not hold."""
    options = _options()
    results = _read(options.results)
    missing = [number for number in range(options.tunes) if str(number) not in results["rows"]]
    if missing:
        with tempfile.TemporaryDirectory(prefix="live-tunes-") as folder:
            place = Path(folder)
            _lay_out(place)
            results["setup"] = results.get("setup") or _calibrate(place, options.cores[0])
            _run_all(missing, options, place, results)
    report = "\n".join(_page(results)) + "\n"
    print(report)
    if options.markdown:
        options.markdown.write_text(report, encoding="utf-8")
    return 0 if _holds(results) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, help="JSON file; is continued if it is there")
    parser.add_argument("--tunes", type=int, default=20)
    parser.add_argument(
        "--cores",
        type=lambda text: [int(core) for core in text.split(",")],
        default=[0],
        help="one tune at a time is pinned to each (default: 0)",
    )
    parser.add_argument(
        "--budget", type=float, default=BUDGET_S, help="seconds of a tune with a planted fix"
    )
    parser.add_argument("--markdown", type=Path, help="page to write")
    return parser.parse_args()


def _read(path: Path) -> dict[str, Any]:
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    return {"rows": {}}


def _lay_out(place: Path) -> None:
    """The project, and a package installed beside trainprof that brings the fixes."""
    project, site = place / "project", place / "site"
    info = site / "live_tunes_fixes-1.0.dist-info"
    for folder in (project, info):
        folder.mkdir(parents=True)
    shutil.copy(HERE / "live_tunes_training.py", project / "train.py")
    shutil.copy(HERE / "live_tunes_planted.py", project / "planted.py")
    shutil.copy(HERE / "live_tunes_fixes.py", site)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: live-tunes-fixes\nVersion: 1.0\n")
    lines = [f"{name} = live_tunes_fixes:{kind}" for name, kind in FIXES.items()]
    (info / "entry_points.txt").write_text("\n".join(["[trainprof.fixes]", *lines, ""]))


def _calibrate(place: Path, core: int) -> dict[str, Any]:
    """Rows of a batch and milliseconds of the plant, such that a step takes 5 ms with it.

    Raises:
        RuntimeError: the machine is too busy to tell.
    """
    wanted_s = STEP_S / SPEEDUP
    batch = 160
    for _ in range(6):
        step_s = _step_s(place, core, batch)
        if abs(step_s / wanted_s - 1.0) < 0.15:
            break
        batch = round(batch * min(max(wanted_s / step_s, 0.6), 1.6))
    else:
        raise RuntimeError("the time of a step varies too much here; wait until others are done")
    return {
        "batch": batch,
        "work_ms": step_s * 1e3,
        "spin_ms": (SPEEDUP - 1.0) * step_s * 1e3,
        "steps": STEPS,
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }


def _step_s(place: Path, core: int, batch: int) -> float:
    command = [sys.executable, "train.py", "--steps", "400", "--batch", str(batch)]
    done = subprocess.run(
        _pinned(core, command),
        cwd=place / "project",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout)["step_s"])


def _pinned(core: int, command: list[str]) -> list[str]:
    return ["taskset", "-c", str(core), *command]


def _run_all(
    missing: list[int], options: argparse.Namespace, place: Path, results: dict[str, Any]
) -> None:
    """One tune at a time on each core; a row is written as soon as it is there."""
    lock, waiting = threading.Lock(), iter(missing)

    def work(core: int) -> None:
        while True:
            with lock:
                number = next(waiting, None)
            if number is None:
                return
            row = _tune(number, core, place, results["setup"], options.budget)
            with lock:
                results["rows"][str(number)] = row
                _write(options.results, results)
            print(f"tune {number}: {row['seconds']:.0f} s, {_told(row)}", file=sys.stderr)

    with ThreadPoolExecutor(len(options.cores)) as pool:
        for done in [pool.submit(work, core) for core in options.cores]:
            done.result()


def _write(path: Path, results: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(results, indent=1, sort_keys=True), encoding="utf-8")
    partial.replace(path)


def _tune(
    number: int, core: int, place: Path, setup: dict[str, Any], budget_s: float
) -> dict[str, Any]:
    """One tune, in a project folder of its own."""
    project = place / f"project-{number}"
    shutil.copytree(place / "project", project)
    fixes = _fixes_of(number)
    command = [sys.executable, "-m", "trainprof", "tune", "--format", "json", "--quiet"]
    budget_s *= 1.0 if PLANTED in fixes else LESS
    command += ["--budget", f"{budget_s:.0f}", "--steps", str(setup["steps"])]
    command += [word for fix in fixes for word in ("--fix", fix)]
    script = ["train.py", "--batch", str(setup["batch"]), "--spin-ms", str(setup["spin_ms"])]
    paths = [str(place / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    started = time.monotonic()
    done = subprocess.run(
        _pinned(core, [*command, "--", *script]),
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"tune {number} failed: {done.stderr.strip()}")
    return {"core": core, "seconds": time.monotonic() - started, **_row(json.loads(done.stdout))}


def _fixes_of(number: int) -> list[str]:
    """What tune `number` tries; the planted fix has another place in the order each time."""
    fixes = [IDLE, *PLACEBOS]
    if number % 2:
        fixes.insert((number // 2) % (len(fixes) + 1), PLANTED)
    return fixes


def _row(result: dict[str, Any]) -> dict[str, Any]:
    fixes = {
        one["fix"]: {
            "verdict": verdict,
            **{key: one[key] for key in ("speedup", "ci", "pairs", "reason")},
        }
        for verdict in VERDICTS
        for one in result[verdict]
    }
    for one in result["refused"]:
        fixes[one["fix"]] = {"verdict": "refused", "speedup": None, "reason": one["reason"]}
    return {"fixes": fixes, "noise": result["aa"]["sd"], "ended": result["ended"]}


def _told(row: dict[str, Any]) -> str:
    return ", ".join(f"{fix} {found['verdict']}" for fix, found in sorted(row["fixes"].items()))


def _found(results: dict[str, Any], names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for row in results["rows"].values():
        yield from (found for fix, found in row["fixes"].items() if fix in names)


def _holds(results: dict[str, Any]) -> bool:
    """At most one placebo kept in all, nine of ten planted ones, nothing that was not in force."""
    placebos = [found["verdict"] for found in _found(results, PLACEBOS)]
    planted = [found["verdict"] for found in _found(results, (PLANTED,))]
    idle = [found["speedup"] for found in _found(results, (IDLE,))]
    return (
        placebos.count("kept") <= MOST_PLACEBOS_KEPT
        and planted.count("kept") >= LEAST_PLANTED_KEPT * len(planted)
        and idle.count(None) == len(idle)
    )


def _page(results: dict[str, Any]) -> Iterator[str]:
    setup, rows = results["setup"], results["rows"]
    yield "# Placebos and a planted gain, in whole tunes"
    yield ""
    yield "Written by `make bench-tunes`; not edited by hand."
    yield (
        f"{len(rows)} tunes of a script with {setup['work_ms']:.2f} ms of work in a step and "
        f"{setup['spin_ms']:.2f} ms of planted cost, trials of {setup['steps']} steps, each tune "
        f"on one core ({setup['machine']}, Python {setup['python']})."
    )
    yield ""
    yield "| fix | tried | kept | inconclusive | no gain | not in force | ratios seen |"
    yield "|---|---|---|---|---|---|---|"
    for name in FIXES:
        found = list(_found(results, (name,)))
        verdicts = [one["verdict"] for one in found]
        counts = [verdicts.count(verdict) for verdict in ("kept", "inconclusive", "rejected")]
        counts.append(sum(verdict in NOT_IN_FORCE for verdict in verdicts))
        ratios = sorted(one["speedup"] for one in found if one["speedup"] is not None)
        seen = f"{ratios[0]:.3f} to {ratios[-1]:.3f}" if ratios else "none"
        yield f"| `{name}` | {len(found)} | {' | '.join(map(str, counts))} | {seen} |"
    yield ""
    minutes = sum(row["seconds"] for row in rows.values()) / 60.0
    noise = sorted(row["noise"] for row in rows.values() if row["noise"] is not None)
    spread = f"{noise[len(noise) // 2] * 100:.1f} %" if noise else "an unknown share"
    yield (
        f"Equal runs differed by {spread} (median over tunes of the standard deviation of a pair); "
        f"all tunes took {minutes:.0f} minutes of one core."
    )


if __name__ == "__main__":
    sys.exit(main())
