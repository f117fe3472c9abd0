"""Natural experiments for simulated changes: trainings before and after their loader got workers.

The trace before predicts the step after, which the trace after tells. Its interpreter needs torch.

    python benchmarks/what_if_pairs.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trainprof.profiler.model.diagnosis import Gain
from trainprof.profiler.traces.events import Trace
from trainprof.profiler.traces.reading import read_trace
from trainprof.profiler.traces.timeline import timeline
from trainprof.profiler.traces.what_if import what_if

TRAINING = Path(__file__).parent / "what_if_pairs_training.py"


@dataclass(frozen=True)
class Pair:
    """A training, and by how many workers its items, which sleep or compute, are prepared then."""

    name: str
    kind: str
    item_ms: float
    step_ms: float
    workers: int


PAIRS = (
    Pair("items that wait, 0 to 2 workers", "sleep", 4.0, 50.0, 2),
    Pair("items that wait longer, 0 to 2 workers", "sleep", 12.0, 50.0, 2),
    Pair("items that wait longer, 0 to 4 workers", "sleep", 12.0, 40.0, 4),
    Pair("items that compute, 0 to 1 worker", "compute", 1.0, 40.0, 1),
)


@dataclass(frozen=True)
class Comparison:
    """Mean steps in s: before; as predicted at best, at worst and between; and after."""

    before_s: float
    best_s: float
    worst_s: float
    predicted_s: float
    after_s: float

    @property
    def error(self) -> float:
        """Of the prediction, as a part of what came."""
        return self.predicted_s / self.after_s - 1


def recorded(pair: Pair, workers: int, folder: Path) -> Trace:
    """The trace of a training."""
    path = folder / f"{workers}.json"
    arguments = (path, pair.kind, pair.item_ms, pair.step_ms, workers)
    subprocess.run(
        [sys.executable, TRAINING, *map(str, arguments)], check=True, capture_output=True
    )
    return read_trace(path)


def compared(pair: Pair) -> Comparison:
    """Records both trainings of a pair, and predicts the second from the first."""
    with tempfile.TemporaryDirectory() as folder:
        traces = [recorded(pair, workers, Path(folder)) for workers in (0, pair.workers)]
    found = [timeline(one) for one in traces]
    before_s, after_s = (one.window.length_ns / one.window.steps / 1e9 for one in found)
    result = what_if(traces[0], found[0], workers=pair.workers)
    assert result is not None
    outcome = result.outcomes["no-data-wait"]
    predicted_s = before_s / Gain(outcome.low, outcome.high).middle
    return Comparison(
        before_s, before_s / outcome.high, before_s / outcome.low, predicted_s, after_s
    )


def main() -> None:
    """Prints a row for each pair and round, as the page of traces has them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    rounds = parser.parse_args().rounds
    print("| training | step before | predicted | after | error |\n|---|--:|--:|--:|--:|")
    for pair in PAIRS:
        for _ in range(rounds):
            one = compared(pair)
            times = (one.before_s, one.predicted_s, one.after_s)
            cells = " | ".join(f"{1e3 * time:.1f} ms" for time in times)
            print(f"| {pair.name} | {cells} | {100 * one.error:+.0f} % |", flush=True)


if __name__ == "__main__":
    main()
