"""What sampling stacks costs: trainprof with stacks against trainprof without, in a window.

The steps last less than a window of py-spy, so that every one of them is sampled: later on it is a
ninth of the time. Fresh processes, arms in alternating order, and an A/A arm (without stacks,
twice) that says what this machine can resolve.

    python benchmarks/stacks_overhead.py [--pairs 8]
"""

from __future__ import annotations

import argparse
import sys

from overhead import interval, run_arm

SIZE, STEPS = "tiny-1ms", 4000
ARMS = {"without": ("--no-stacks",), "with": ("--stacks",), "without again": ("--no-stacks",)}


def main() -> None:
    """Measures and prints the two ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8)
    pairs = parser.parse_args().pairs
    rounds = []
    for index in range(pairs):
        order = list(ARMS) if index % 2 == 0 else list(ARMS)[::-1]
        common = ("--no-probe", "--trace", "off")
        rounds.append(
            {arm: run_arm("trainprof", SIZE, STEPS, (*ARMS[arm], *common)) for arm in order}
        )
        print(f"\r{index + 1}/{pairs} rounds", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for name, arm in (("stacks", "with"), ("A/A", "without again")):
        ratios = [entry[arm]["wall_s"] / entry["without"]["wall_s"] for entry in rounds]
        ratio, low, high = interval(ratios)
        print(f"{name:<8} wall {ratio:.4f} [{low:.4f}, {high:.4f}]")


if __name__ == "__main__":
    main()
