"""What the diagnosis of a trace costs, beside HolisticTraceAnalysis, by size, and with many ranks.

Whole processes from start to printed text, the arms in alternating order, with an A/A arm in the
same table: its interval says what this machine can resolve. The traces are not part of the project.

    python benchmarks/traces.py TRACE [--pairs 10] [--ranks TRACE...] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil
from traces_processes import MIB, Process, run, run_family

HERE = Path(__file__).parent
PEER = HERE / ".venv-peer"
TIMES = (1, 2, 5, 12, 24)
"""How often the trace follows itself."""
RANKS = 256
ORDER_STATISTIC = {6: 1, 8: 1, 10: 2, 12: 3, 16: 4, 20: 6}
"""Which from either end bounds a median with at least 95 %, by number of pairs."""


def peer_python() -> str:
    """The interpreter of the peer's environment, which is made where there is none."""
    python = PEER / "bin" / "python"
    if not (PEER / ".installed").exists():
        print(
            "Installing HolisticTraceAnalysis into an environment of its own ...", file=sys.stderr
        )
        subprocess.run([sys.executable, "-m", "venv", PEER], check=True)
        wanted = ["-r", str(HERE / "traces_peer.txt")]
        subprocess.run([python, "-m", "pip", "install", "-qq", *wanted], check=True)
        (PEER / ".installed").touch()
    return str(python)


def environment(compiled: Path) -> dict[str, str]:
    """Of both: each keeps what it has compiled, as an installed program does."""
    kept = {**os.environ, "PYTHONPYCACHEPREFIX": str(compiled), "MPLBACKEND": "agg"}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


def diagnose(*traces: Path, jobs: int | None = None) -> list[str]:
    """Our command."""
    options = ["--jobs", str(jobs)] if jobs else []
    return [sys.executable, "-m", "trainprof", "diagnose", *options, *map(str, traces)]


def tiled(*arguments: object) -> str:
    """What the tiler prints; in a process of its own: those that we start count our memory."""
    command = [sys.executable, str(HERE / "trace_tiles.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def compared(trace: Path, pairs: int, kept: dict[str, str]) -> tuple[list[str], list[str]]:
    """Rows of the table of both, and in which order they ran."""
    commands = {
        "A": diagnose(trace),
        "B": [peer_python(), str(HERE / "traces_peer.py"), str(trace.resolve())],
        "a": diagnose(trace),
    }
    for command in commands.values():
        run(command, kept)  # compiles, and brings the file into memory
    rounds: list[dict[str, Process]] = []
    log = []
    for number in range(pairs):
        order = "ABa" if number % 2 == 0 else "aBA"
        rounds.append({arm: run(commands[arm], kept) for arm in order})
        log.append(order)
        print(f"\rround {number + 1} of {pairs}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    rows = [
        "| | trainprof | HTA 0.5.0 | ratio | 95 % | A/A | 95 % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, field, scale, unit in (
        ("wall time", "wall_s", 1.0, "s"),
        ("CPU time", "cpu_s", 1.0, "s"),
        ("peak memory", "peak_bytes", MIB, "MiB"),
    ):
        arms = {arm: [getattr(one[arm], field) / scale for one in rounds] for arm in commands}
        ours, theirs = (statistics.median(arms[arm]) for arm in "AB")
        rows.append(
            f"| {name} | {ours:.3g} {unit} | {theirs:.3g} {unit} "
            f"| {_median(arms['B'], arms['A'])} | {_median(arms['a'], arms['A'])} |"
        )
    return rows, log


def _median(above: Sequence[float], below: Sequence[float]) -> str:
    """Of the ratios of pairs, with its interval; two cells."""
    ratios = sorted(one / other for one, other in zip(above, below, strict=True))
    place = ORDER_STATISTIC.get(len(ratios))
    bounds = f"{ratios[place - 1]:.3g} to {ratios[-place]:.3g}" if place else "-"
    return f"{statistics.median(ratios):.3g} | {bounds}"


def by_size(trace: Path, folder: Path, kept: dict[str, str], repeat: int) -> list[str]:
    """Rows by number of events, and what a straight line leaves over."""
    sizes, walls, rows = [], [], []
    rows = [
        "| events | wall time | of a million events | CPU time | peak memory |",
        "|---|---|---|---|---|",
    ]
    for times in TIMES:
        path = folder / f"{times}.json.gz"
        count = int(tiled("time", trace, times, path).split()[0])
        found = [run(diagnose(path), kept) for _ in range(repeat)]
        wall_s, cpu_s = (
            statistics.median(getattr(one, name) for one in found) for name in ("wall_s", "cpu_s")
        )
        peak = max(one.peak_bytes for one in found) / MIB
        sizes.append(count)
        walls.append(cpu_s)
        rows.append(
            f"| {count:,} | {wall_s:.2f} s | {wall_s / count * 1e6:.2f} s | {cpu_s:.2f} s "
            f"| {peak:.0f} MiB |"
        )
        path.unlink()
        print(rows[-1], file=sys.stderr)
    slope, start = statistics.linear_regression(sizes, walls)
    worst = max(
        abs(wall / (start + slope * size) - 1) for size, wall in zip(sizes, walls, strict=True)
    )
    rows += [
        "",
        f"CPU time is {start:.2f} s and {slope * 1e6:.2f} s for each million events; what was "
        f"measured lies within {worst:.0%} of that line.",
    ]
    return rows


def many_ranks(sources: Sequence[Path], folder: Path, kept: dict[str, str]) -> list[str]:
    """Rows by number of processes."""
    tiled("ranks", RANKS, folder, *sources)
    paths = sorted(folder.iterdir())
    rows = [
        "| processes | wall time | memory of the first | most memory of another |",
        "|---|---|---|---|",
    ]
    for jobs in (1, len(os.sched_getaffinity(0))):
        found = run_family(diagnose(*paths, jobs=jobs), kept)
        worker = max(found.worker_bytes.values(), default=0)
        other = f"{worker / MIB:.0f} MiB" if worker else "-"
        rows.append(
            f"| {jobs} | {found.wall_s:.2f} s | {found.parent_bytes / MIB:.0f} MiB | {other} |"
        )
        print(rows[-1], file=sys.stderr)
    return rows


def page(given: argparse.Namespace, folder: Path) -> list[str]:
    """All of it as Markdown."""
    kept = environment(folder / "compiled")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        cwd=HERE,
        check=False,
    ).stdout.strip()
    digest = hashlib.sha256(given.trace.read_bytes()).hexdigest()
    rows, log = compared(given.trace, given.pairs, kept)
    lines = [
        "# What the diagnosis of a trace costs",
        "",
        "Written by `make bench-traces`: whole processes from start to printed text, in "
        "alternating order; ratios are medians of pairs. Peak memory is that of the largest "
        "process of a command; a trace of 1 to 32 MiB is read by a second one beside it.",
        "",
        f"- commit {commit}; Python {platform.python_version()}; {os.cpu_count()} cores, "
        f"{psutil.virtual_memory().total >> 30} GiB, {platform.machine()}, {platform.system()}",
        f"- the trace: sha256 {digest}",
        "- HTA: HolisticTraceAnalysis 0.5.0, its temporal, idle time and kernel breakdown",
        f"- order (A, a: trainprof; B: HTA): {' '.join(log)}; load of the machine at the end "
        f"{os.getloadavg()[0]:.1f}",
        "",
        "## Beside HTA",
        "",
        *rows,
        "",
        "## By size",
        "",
        "The trace after itself, with times, ids and step numbers of its own.",
        "",
        *by_size(given.trace, folder, kept, given.repeat),
    ]
    if given.ranks:
        lines += [
            "",
            f"## {RANKS} ranks",
            "",
            f"{len(given.ranks)} ranks side by side, as many times as it takes; "
            f"{sum(one.stat().st_size for one in given.ranks) >> 10} KiB packed.",
            "",
            *many_ranks(given.ranks, folder / "ranks", kept),
        ]
    return lines


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3, help="Processes of each size.")
    parser.add_argument("--ranks", type=Path, nargs="*", default=[])
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = "\n".join(page(given, Path(folder))) + "\n"
    if given.markdown:
        given.markdown.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
