"""What it costs to watch a training: the dashboard, TensorBoard and W&B while it runs, the report.

    python benchmarks/watching.py [--part steps|report|lag] [--rounds 5] [--markdown FILE]

Each part takes a few minutes on a quiet machine. With --markdown the parts that were measured are
replaced in the page, and the others stay.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from overhead import commit
from read_run import write_run
from traces_processes import MIB, run
from watching_arms import SIZE, Watched, at_rest, watched

from trainprof.rules.statistics.pairs import paired_ratio

TESTS = Path(__file__).resolve().parents[1] / "tests" / "unit" / "dashboard"
STEPS = 3000
LONG_RUN_STEPS = 100_000
RANKS, STEPS_PER_S, LAG_S = 8, 1000, 10
ARMS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "dashboard": ("--tui",),
    "TensorBoard": ("--tensorboard", "events"),
    "W&B": ("--wandb",),
    "plain again": (),
}
"""Options of `trainprof run`; the first is what the others are held against."""
NEEDS = {"dashboard": "textual", "TensorBoard": "tensorboard", "W&B": "wandb"}


def steps_part(rounds: int) -> list[str]:
    """The training with each way to watch it, against itself with none."""
    arms = [arm for arm in ARMS if arm not in NEEDS or importlib.util.find_spec(NEEDS[arm])]
    measured: list[dict[str, Watched]] = []
    for number in range(rounds):
        order = arms if number % 2 == 0 else arms[::-1]
        measured.append({arm: _run(arm) for arm in order})
        print(f"\rsteps: {number + 1}/{rounds} rounds", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    step_us = statistics.median(one["plain"].step_s for one in measured) * 1e6
    lines = [
        f"{rounds} rounds of {STEPS} steps of {step_us:.0f} µs, the arms in turns: "
        f"{', '.join(arms)}, and back. Load at the end {os.getloadavg()[0]:.1f}.",
        "",
        "| watched by | times the plain step | 95 % interval | times its CPU time | 95 % interval "
        "| CPU of who watches |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for arm in arms:
        cores = statistics.median(one[arm].cores for one in measured)
        ratios = ["", "", "", ""] if arm == "plain" else [
            *_ratio([one[arm].step_s / one["plain"].step_s for one in measured]),
            *_ratio([one[arm].thread_s / one["plain"].thread_s for one in measured]),
        ]  # fmt: skip
        lines.append(f"| {arm} | {' | '.join(ratios)} | {cores:.1%} of a core |")
    absent = [f"{arm}: {NEEDS[arm]} is not installed" for arm in ARMS if arm not in arms]
    return [*lines, *(["", *absent] if absent else [])]


def _run(arm: str) -> Watched:
    with tempfile.TemporaryDirectory() as folder:
        return watched(ARMS[arm], STEPS, Path(folder) / "run")


def _ratio(ratios: list[float]) -> tuple[str, str]:
    found = paired_ratio([math.log(one) for one in ratios])
    if found.low is None or found.high is None:
        return f"{found.point:.3f}", "of one round"
    return f"{found.point:.3f}", f"{found.low:.3f} to {found.high:.3f}"


def report_part(rounds: int) -> list[str]:
    """The page of a long run: diagnosed and written by the command, and the page by itself."""
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "run"
        folder.mkdir()
        write_run(folder, LONG_RUN_STEPS, 1)
        command = [sys.executable, "-m", "trainprof", "report", str(folder)]
        whole = [run(command, dict(os.environ)) for _ in range(rounds)]
        pages = [_page_alone(folder) for _ in range(rounds)]
        size = (folder / "report.html").stat().st_size
    rows = {
        "`trainprof report`, the whole process": [(one.wall_s, one.cpu_s) for one in whole],
        "the page alone, once it is diagnosed": pages,
    }
    lines = [
        f"A run of {LONG_RUN_STEPS:,} steps, one rank, made up by `read_run.py`; the longest "
        f"of {rounds}. The page takes {size / MIB:.2f} MiB. Load at the end "
        f"{os.getloadavg()[0]:.1f}.",
        "",
        "| what | wall | CPU |",
        "|---|--:|--:|",
    ]
    for what, times in rows.items():
        wall_s, cpu_s = (max(one) for one in zip(*times, strict=True))
        lines.append(f"| {what} | {wall_s:.2f} s | {cpu_s:.2f} s |")
    return lines


def _page_alone(folder: Path) -> tuple[float, float]:
    """Wall and CPU time of what a run adds at its end, when it has diagnosed itself."""
    from trainprof.cli.judgement import judge
    from trainprof.cli.report_page import REPORT_FILE, run_extras, write_page
    from trainprof.cli.settings import load_settings

    diagnosis = judge(folder, load_settings())
    begun_s, used_s = time.perf_counter(), _cpu_s()
    write_page(diagnosis, run_extras(folder, folder, diagnosis), folder / REPORT_FILE)
    return time.perf_counter() - begun_s, _cpu_s() - used_s


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def lag_part(rounds: int) -> list[str]:
    """How long after its record was written a step is on the screen; and the dashboard at rest."""
    sys.path.insert(0, str(TESTS))
    from lags import lags_s

    lags: list[float] = []
    with tempfile.TemporaryDirectory() as base:
        for number in range(rounds):
            lags += lags_s(Path(base) / f"run-{number}", RANKS, STEPS_PER_S, LAG_S)
        rest = at_rest(Path(base) / "run-0")
    lags.sort()
    parts = [lags[min(len(lags) - 1, int(len(lags) * part))] for part in (0.5, 0.95, 1.0)]
    return [
        f"{RANKS} ranks that write {STEPS_PER_S:,} steps a second each, {rounds} x {LAG_S} s; "
        f"{len(lags)} writes, from each until the screen was painted with its steps. Load at the "
        f"end {os.getloadavg()[0]:.1f}.",
        "",
        "| median | 95 % | longest |",
        "|--:|--:|--:|",
        f"| {' | '.join(f'{one:.2f} s' for one in parts)} |",
        "",
        f"`trainprof top` of the finished run, at rest: {rest:.1%} of a core.",
    ]


PARTS: dict[str, tuple[str, Callable[[int], list[str]]]] = {
    "steps": ("Steps while somebody watches", steps_part),
    "report": ("The report at the end", report_part),
    "lag": ("How late the dashboard is", lag_part),
}
HEAD = f"""# What watching costs

Written by `python benchmarks/watching.py --markdown docs/watching-cost.md`; not edited by hand.

The steps are those of `overhead_training.py --size {SIZE}`, each arm a fresh process in a
pseudo-terminal under `trainprof run`, the order turning with each round. Times are read from the
steps of the run itself: the mean of its steady steps, and the CPU time of the training thread in
them, which other programs on the machine disturb less. Ratios are taken within a round, with
Student's t on their logarithms (95 %; the point is the geometric mean, from eight rounds on the
median). *Plain again* is the same arm a second time: its interval says what this machine can
resolve. *CPU of who watches* is that of `trainprof run` and of all that it has started but the
training, while the training made steps (median): in the plain arm the samplers alone. So short a
training holds the start of whoever watches and the first diagnosis, which a longer one pays once.
"""


def page(before: str, measured: dict[str, list[str]]) -> str:
    """The page with what was measured now, and the other parts as they were.

    Args:
        before: The page so far; empty for a new one.
        measured: Lines by part.
    """
    old = dict(one.split("\n", 1) for one in before.split("\n## ")[1:])
    sections = []
    for part, (title, _) in PARTS.items():
        body = "\n".join(measured[part]) if part in measured else old.get(title, "").strip()
        if body:
            sections.append(f"\n## {title}\n\n{body}\n")
    return HEAD + ("".join(sections) or "\nNo figures have been taken yet.\n")


def main() -> None:
    """Measures the parts that are asked for, and prints them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    machine = (
        f"Commit {commit()}; Python {platform.python_version()}; {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total >> 30} GiB, {platform.machine()}, {platform.system()}."
    )
    measured = {}
    for part in given.part or PARTS:
        measured[part] = [machine, "", *PARTS[part][1](given.rounds)]
        print("\n".join([f"\n{PARTS[part][0]}\n", *measured[part]]), flush=True)
    if given.markdown:
        before = given.markdown.read_text() if given.markdown.exists() else ""
        given.markdown.write_text(page(before, measured))


if __name__ == "__main__":
    main()
