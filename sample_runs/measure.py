"""Measures what the planted cause of each story costs: the twins in alternation, by the second.

    python sample_runs/measure.py                 every story that has a twin
    python sample_runs/measure.py slow_storage --pairs 8
    python sample_runs/measure.py --write         and note the figures in case.json

The unit is the time of the training loop per step, as the script itself prints it. The order of
the twins turns with each pair (bad good, good bad, …), so that a slow drift of the machine falls
on both alike; the interval is Student's t on the logarithms of the ratios.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

STORIES = Path(__file__).parent
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}
"""Two-sided 95 % quantile of Student's t by number of pairs."""


def seconds_per_step(script: Path) -> float:
    """Runs a script and reads its last line, "N steps in S s"."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    match = re.search(r"^(\d+) steps in ([\d.]+) s$", done.stdout, re.MULTILINE)
    if match is None:
        raise SystemExit(f"{script} did not say how long its steps took")
    return float(match[2]) / int(match[1])


def measure(story: Path, pairs: int) -> dict[str, float]:
    """The ratio train.py / fixed.py with its interval."""
    twins = (story / "train.py", story / "fixed.py")
    ratios = []
    for pair in range(pairs):
        order = twins if pair % 2 == 0 else twins[::-1]
        seconds = {script: seconds_per_step(script) for script in order}
        ratios.append(seconds[twins[0]] / seconds[twins[1]])
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    half = T_95[pairs] * statistics.stdev(logs) / math.sqrt(pairs)
    return {
        "ratio": math.exp(mean),
        "low": math.exp(mean - half),
        "high": math.exp(mean + half),
        "pairs": pairs,
        "smallest": min(ratios),
    }


def note(story: Path, measured: dict[str, float]) -> None:
    """Writes the figures into case.json."""
    path = story / "case.json"
    case = json.loads(path.read_text())
    ratio = measured["ratio"]
    case["planted_share"] = round(1 - 1 / ratio, 3)
    case["min_ratio"] = round(measured["smallest"], 2)
    case["measured"] = {
        "ratio": round(ratio, 2),
        "interval_95": [round(measured["low"], 2), round(measured["high"], 2)],
        "pairs": measured["pairs"],
    }
    path.write_text(json.dumps(case, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stories", nargs="*", help="folders (default: all that have a fixed.py)")
    parser.add_argument("--pairs", type=int, default=5, choices=sorted(T_95))
    parser.add_argument("--write", action="store_true", help="note the figures in case.json")
    args = parser.parse_args()
    chosen = args.stories or [path.parent.name for path in sorted(STORIES.glob("*/fixed.py"))]
    print(f"{'story':<24}{'ratio':>7}   95 % interval   smallest of {args.pairs}")
    for name in chosen:
        measured = measure(STORIES / name, args.pairs)
        interval = f"{measured['low']:.2f} .. {measured['high']:.2f}"
        print(f"{name:<24}{measured['ratio']:>7.2f}   {interval:<15}{measured['smallest']:>8.2f}")
        if args.write:
            note(STORIES / name, measured)


if __name__ == "__main__":
    main()
