"""How often `trainprof compare --fail-if-slower 5%` fails where nothing is slower.

Pairs of identical runs, each a fresh process, in alternating order. Then the same runs as groups of
five; and, to see that it finds something, five runs whose steps are really 15 % longer against five
that are not, made in turns.

    python benchmarks/compare_same.py [--pairs 20] [--folder DIR] [--markdown docs/compare-same.md]

With --folder the runs stay there, and those that are there already are not made again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from trainprof.profiler.model.comparison import Comparison

TRAINING = Path(__file__).with_name("compare_same_training.py")
LIMIT = "5%"
GROUP = 5
SLOWER = "0.15"


def record(folder: Path, slower: str = "0") -> Path:
    """One run in a fresh process, unless its folder is there already."""
    if not folder.exists():
        command = [sys.executable, "-m", "trainprof", "run", "--quiet", "--out", str(folder)]
        command += ["--", sys.executable, str(TRAINING), "--slower", slower]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=environment, check=True)
    return folder


def in_turns(folder: Path, first: str, second: str, count: int, slower: str = "0") -> None:
    """`count` runs of either arm: first, second, second, first, first ..."""
    for number in range(count):
        arms = [(first, "0"), (second, slower)]
        for arm, added in arms if number % 2 == 0 else reversed(arms):
            record(folder / f"{arm}-{number:02}", added)


def compared(base: Sequence[Path], candidate: Sequence[Path]) -> tuple[Comparison, int]:
    """What the command says, and its exit status."""
    sides = [",".join(map(str, side)) for side in (base, candidate)]
    command = [sys.executable, "-m", "trainprof", "compare", *sides]
    command += ["--fail-if-slower", LIMIT, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    return msgspec.json.decode(done.stdout, type=Comparison), done.returncode


def row(name: str, comparison: Comparison, status: int) -> str:
    """One line of the table."""
    ratio, gate = comparison.ratio, comparison.gate
    assert gate is not None
    measured = ("-", "-") if ratio is None else (
        f"{ratio.point:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}"
    )  # fmt: skip
    cells = (name, *measured, comparison.verdict, gate.outcome, str(status))
    return f"| {' | '.join(cells)} |"


def measure(folder: Path, pairs: int) -> tuple[list[str], int]:
    """Makes what runs are missing; gives sums and table, and how many single pairs failed."""
    in_turns(folder, "same-a", "same-b", pairs)
    in_turns(folder, "base", "slower", GROUP, SLOWER)
    a, b = (sorted(folder.glob(f"same-{arm}-*"))[:pairs] for arm in "ab")
    single = [compared([one], [other]) for one, other in zip(a, b, strict=True)]
    starts = range(0, pairs - GROUP + 1, GROUP)
    groups = [compared(a[n : n + GROUP], b[n : n + GROUP]) for n in starts]
    base, slower = (sorted(folder.glob(f"{arm}-*")) for arm in ("base", "slower"))
    real = compared(base, slower)
    failed = sum(status for _, status in single)
    failed_groups = sum(status for _, status in groups)
    lines = [
        f"- identical runs, one against one: {failed} of {len(single)} comparisons failed",
        f"- identical runs, {GROUP} against {GROUP}: {failed_groups} of {len(groups)} failed",
        f"- steps {float(SLOWER):.0%} longer, {GROUP} against {GROUP}: exit status {real[1]}",
        "",
        "| runs | times the base's step | 95 % interval | verdict | gate | exit |",
        "|---|--:|--:|---|---|--:|",
    ]
    lines += [row(f"pair {number}", *one) for number, one in enumerate(single, start=1)]
    lines += [row(f"group {number}", *one) for number, one in enumerate(groups, start=1)]
    return [*lines, row("slower", *real)], failed


def main() -> int:
    """Prints the table; exit status 1 where more than one pair in twenty fails."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        lines, failed = measure((options.folder or Path(temporary)).resolve(), options.pairs)
    print("\n".join(lines))
    if options.markdown:
        options.markdown.write_text("\n".join([*HEADING, *lines]) + "\n")
    return int(failed > options.pairs / 20)


HEADING = (
    "# Comparing equal runs",
    "",
    "Written by `benchmarks/compare_same.py`: what `trainprof compare --fail-if-slower 5%` says of",
    "identical runs, and of runs whose steps are really longer.",
    "",
)


if __name__ == "__main__":
    sys.exit(main())
