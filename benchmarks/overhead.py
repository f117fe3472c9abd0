"""What trainprof costs the training it watches.

Fresh processes, a fixed number of steps, the arms in alternating order, and an A/A arm (plain
against plain) in the same table: its interval says what this machine can resolve. Ratios of pairs
with Student's t on their logarithms.

    python benchmarks/overhead.py [--pairs 10] [--size tiny-1ms] [--markdown docs/overhead.md]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAINING = Path(__file__).with_name("overhead_training.py")
STEPS = {"tiny-1ms": 4000, "wide-20ms": 300, "deep-20ms": 300}
WARM_UP = {"tiny-1ms": 400, "wide-20ms": 40, "deep-20ms": 40}
BLOCKS = 40
"""Of the timed steps; a process is judged by the lower quartile of its blocks."""
T_975 = {3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26, 12: 2.20, 16: 2.13, 20: 2.09}
"""Student's t, two-sided 95 %, by number of pairs (scipy is no dependency of ours)."""


def run_arm(arm: str, size: str, steps: int, options: tuple[str, ...] = ()) -> dict[str, float]:
    """One fresh process; its own timings plus start-up and tail seen from outside."""
    command = [sys.executable, str(TRAINING), "--size", size, "--steps", str(steps)]
    command += ["--warm-up", str(WARM_UP[size]), "--block", str(steps // BLOCKS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        if arm == "trainprof":
            profiled = [sys.executable, "-m", "trainprof", "run", "--quiet", *options]
            command = [*profiled, "--out", f"{folder}/run", "--", *command]
        started = time.perf_counter()
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, cwd=folder
        )
        ended = time.perf_counter()
    timings = json.loads(done.stdout.splitlines()[-1])
    blocks = sorted(timings.pop("blocks_s"))
    quiet_s = blocks[len(blocks) // 4] * BLOCKS
    return {
        **timings,
        "thread_s": quiet_s,
        "quiet_s": quiet_s + timings["other_threads_s"],
        "before_first_step_s": timings["first_step_s"] - started,
        "after_last_line_s": ended - timings["ended_s"],
    }


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Geometric mean and 95 % interval of ratios of pairs."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    if len(logs) < 3:
        return math.exp(mean), math.nan, math.nan
    t = T_975[max(n for n in T_975 if n <= len(logs))]
    half = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def measure(size: str, pairs: int, steps: int) -> dict[str, object]:
    """All pairs of one size; the order of the three arms turns with each round."""
    arms = ["plain", "trainprof", "plain again"]
    rounds: list[dict[str, dict[str, float]]] = []
    log: list[str] = []
    for index in range(pairs):
        order = arms if index % 2 == 0 else arms[::-1]
        rounds.append({arm: run_arm(arm, size, steps) for arm in order})
        log.append("".join({"plain": "A", "trainprof": "B", "plain again": "a"}[a] for a in order))
        print(f"\r{size}: {index + 1}/{pairs} rounds", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    table: dict[str, object] = {"size": size, "steps": steps, "pairs": pairs, "order": log}
    for clock in ("quiet_s", "wall_s", "cpu_s"):
        for name, arm, base in (
            ("trainprof", "trainprof", "plain"),
            ("A/A", "plain again", "plain"),
        ):
            ratios = [entry[arm][clock] / entry[base][clock] for entry in rounds]
            table[f"{name} {clock}"] = interval(ratios)
    plain_us, watched_us, thread_us, agent_us = (
        statistics.median(entry[arm][clock] for entry in rounds) / steps * 1e6
        for arm, clock in (
            ("plain", "quiet_s"),
            ("trainprof", "quiet_s"),
            ("trainprof", "thread_s"),
            ("trainprof", "other_threads_s"),
        )
    )
    submodules = rounds[0]["plain"]["submodules"]
    table["step_us"] = plain_us
    table["added_us_per_step"] = watched_us - plain_us
    table["added_us_in_the_training_thread"] = thread_us - plain_us
    table["agent_thread_us_per_step"] = agent_us
    table["added_us_per_submodule_call"] = (watched_us - plain_us) / submodules
    table["submodules"] = submodules
    for name in ("before_first_step_s", "after_last_line_s"):
        added = [entry["trainprof"][name] - entry["plain"][name] for entry in rounds]
        table[f"added_{name}"] = statistics.median(added)
    return table


def show(table: dict[str, object]) -> None:
    """One size as text."""
    print(
        f"\n{table['size']}: {table['step_us']:.0f} us a step, {table['submodules']} modules, "
        f"{table['steps']} steps, {table['pairs']} rounds ({' '.join(table['order'])})"
    )
    for name, value in table.items():
        if isinstance(value, tuple):
            ratio, low, high = value
            print(f"  {name:<18} {ratio:.4f}  [{low:.4f}, {high:.4f}]")
    print(
        f"  added (medians): {table['added_us_per_step']:.1f} us a step, of which "
        f"{table['added_us_in_the_training_thread']:.1f} in the training thread and "
        f"{table['agent_thread_us_per_step']:.1f} in the agent's; "
        f"{table['added_us_per_submodule_call']:.3f} us a submodule call"
    )
    print(
        f"  added before the first step {table['added_before_first_step_s']:.2f} s, "
        f"after the last line {table['added_after_last_line_s']:.2f} s (medians)"
    )


PAGE = """# What trainprof costs

Written by `python benchmarks/overhead.py --markdown docs/overhead.md`; not edited by hand. Each arm
is a fresh process with one thread and a fixed number of steps; the arms alternate (each order
stands beside its table). *A/A* is the same script without trainprof against itself: its
interval says what this machine can resolve. Intervals are 95 %, Student's t on the logarithms of
the ratios of pairs. *CPU* is the CPU time of the whole training process, the agent's thread
included. *Quiet* is what other programs on the machine disturb least: the CPU time of the training
thread in the lower quartile of 40 blocks of steps, plus that of all other threads of the process.

{body}
"""


def page(tables: list[dict[str, object]], machine: str) -> str:
    """The tables as a page of the documentation."""
    hashes = {file.name: _hash(file) for file in (Path(__file__), TRAINING)}
    lines = [
        f"Machine: {machine}. Commit {commit()}; "
        + ", ".join(f"{name} {digest}" for name, digest in hashes.items())
        + ".",
        "",
    ]
    for table in tables:
        lines += [
            f"## {table['size']}: {table['step_us']:.0f} µs a step, {table['submodules']} modules",
            "",
            f"{table['steps']} steps, {table['pairs']} rounds: {' '.join(table['order'])} "
            "(A plain, B trainprof, a plain again).",
            "",
            "| ratio | value | interval |",
            "|---|---|---|",
        ]
        for name, value in table.items():
            if isinstance(value, tuple):
                label = name.replace("_s", "").replace("cpu", "CPU")
                ratio, low, high = value
                lines.append(f"| {label} | {ratio:.4f} | {low:.4f} to {high:.4f} |")
        lines += [
            "",
            f"Medians: {table['added_us_per_step']:.1f} µs a step more by the quiet clock, "
            f"{table['added_us_in_the_training_thread']:.1f} of them in the training thread and "
            f"{table['agent_thread_us_per_step']:.1f} in the agent's; "
            f"{table['added_us_per_submodule_call']:.3f} µs per submodule call. Before the first "
            f"step {table['added_before_first_step_s']:.2f} s more, after the last line "
            f"{table['added_after_last_line_s']:.2f} s more (medians; `--quiet`).",
            "",
        ]
    return PAGE.format(body="\n".join(lines).rstrip())


def _hash(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def commit() -> str:
    """Of the checkout that is measured, in short."""
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=TRAINING.parent,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Measures and prints every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--size", choices=STEPS, action="append")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    machine = (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    print(machine)
    tables = []
    for size in arguments.size or list(STEPS):
        tables.append(measure(size, arguments.pairs, STEPS[size]))
        show(tables[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(tables, indent=1) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(page(tables, machine))


if __name__ == "__main__":
    main()
