"""How well data-workers-under predicts what its number of workers gives.

For each kind of loader: one run without workers under trainprof, which recommends a number and
predicts the speed-up; then the training without workers and with that number, in fresh processes
that alternate. The point of a prediction is the (geometric) middle of its interval.

    python benchmarks/loader_prediction.py [--pairs 3] [--kind NAME] [--markdown FILE]

Items that wait can be shown on a busy machine. Items or steps that compute need free cores: beside
other programs neither the prediction nor the truth is the training's own, and the table says so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from loader_prediction_training import parse, train
from overhead import interval

TRAINING = Path(__file__).with_name("loader_prediction_training.py")
RULE = "data-workers-under"
CONTEXT = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Kind:
    """A loader and its consumer; times in ms, of an item (16 in a batch) and of a step."""

    name: str
    item_wait: float = 0.0
    item_compute: float = 0.0
    step_wait: float = 0.0
    step_compute: float = 0.0
    jitter: bool = False
    steps: int = 120

    @property
    def needs_cores(self) -> bool:
        """Whether items compute: then the truth depends on cores that are free."""
        return self.item_compute > 0

    @property
    def arguments(self) -> list[str]:
        """For the training script."""
        times = {
            "item-wait": self.item_wait,
            "item-compute": self.item_compute,
            "step-wait": self.step_wait,
            "step-compute": self.step_compute,
        }
        pairs = [text for key, ms in times.items() for text in (f"--{key}-ms", str(ms))]
        return [*pairs, "--steps", str(self.steps), *(["--jitter"] if self.jitter else [])]

    @property
    def description(self) -> str:
        """In words."""
        parts = {
            "waits": (self.item_wait, self.step_wait),
            "computes": (self.item_compute, self.step_compute),
        }
        item = " and ".join(f"{verb} {ms[0]:g} ms" for verb, ms in parts.items() if ms[0])
        step = " and ".join(f"{verb} {ms[1]:g} ms" for verb, ms in parts.items() if ms[1])
        return f"item {item}{' (exponential)' if self.jitter else ''}; step {step}"


KINDS = (
    Kind("quick waits", item_wait=0.2, step_wait=4.0, steps=240),
    Kind("waits, device", item_wait=1.0, step_wait=5.0),
    Kind("waits, slower device", item_wait=1.0, step_wait=12.0),
    Kind("waits, host computes", item_wait=1.0, step_compute=6.0),
    Kind("long waits", item_wait=5.0, step_wait=15.0, steps=60),
    Kind("uneven waits", item_wait=1.0, step_wait=5.0, jitter=True),
    Kind("waits and computes", item_wait=1.0, item_compute=0.2, step_wait=8.0),
    Kind("computes, device", item_compute=0.5, step_wait=8.0),
    Kind("computes, host computes", item_compute=0.5, step_compute=6.0),
)


@dataclass(frozen=True)
class Outcome:
    """What was promised for a kind, and what came of it.

    Attributes:
        predicted: T_old / T_new: low, middle, high; `measured` likewise mean, low, high.
    """

    kind: Kind
    workers: int
    predicted: tuple[float, float, float]
    measured: tuple[float, float, float]

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted[1] / self.measured[0]


def environment() -> dict[str, str]:
    """One thread, so that the training's own is all that computes."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def recommendation(kind: Kind) -> tuple[int, tuple[float, float, float]] | None:
    """Workers and gain that trainprof names for the training without workers."""
    with tempfile.TemporaryDirectory() as folder:
        trainprof = [sys.executable, "-m", "trainprof"]
        script = [sys.executable, str(TRAINING), *kind.arguments]
        run = [*trainprof, "run", "--quiet", "--out", f"{folder}/run", "--", *script]
        subprocess.run(run, env=environment(), capture_output=True, check=True, cwd=folder)
        told = subprocess.run(
            [*trainprof, "diagnose", f"{folder}/run", "--format", "json"],
            capture_output=True,
            check=True,
            cwd=folder,
        )
    for finding in json.loads(told.stdout)["findings"]:
        workers = [fix["params"].get("num_workers") for fix in finding["fixes"]]
        if finding["rule"] == RULE and workers and workers[0]:
            low, high = finding["gain"]["low"], finding["gain"]["high"]
            return workers[0], (low, math.sqrt(low * high), high)
    return None


def seconds_per_step(kind: Kind, workers: int) -> float:
    """One fresh process, without trainprof; it is forked, so that torch is imported once only."""
    here, there = CONTEXT.Pipe(duplex=False)
    arguments = parse([*kind.arguments, "--workers", str(workers)])
    child = CONTEXT.Process(target=lambda: there.send(train(arguments)))
    child.start()
    there.close()
    seconds: float = here.recv()
    child.join()
    return seconds


def measure(kind: Kind, pairs: int) -> Outcome | None:
    """The prediction, then the pairs; None where nothing was recommended."""
    told = recommendation(kind)
    if told is None:
        return None
    workers, predicted = told
    ratios = []
    for pair in range(pairs):
        order = (0, workers) if pair % 2 == 0 else (workers, 0)
        times = {arm: seconds_per_step(kind, arm) for arm in order}
        ratios.append(times[0] / times[workers])
    return Outcome(kind, workers, predicted, interval(ratios))


HEAD = "| loader | workers | predicted | measured | predicted / measured |\n|---|---|---|---|---|"


def row(outcome: Outcome) -> str:
    """One line of the table."""
    low, middle, high = outcome.predicted
    mean, least, most = outcome.measured
    bounds = "" if math.isnan(least) else f" [{least:.2f}, {most:.2f}]"
    cores = " (needs free cores)" if outcome.kind.needs_cores else ""
    return (
        f"| {outcome.kind.name}: {outcome.kind.description}{cores} | {outcome.workers} "
        f"| {middle:.2f} ({low:.2f} to {high:.2f}) | {mean:.2f}{bounds} | {outcome.ratio:.2f} |"
    )


def summary(outcomes: list[Outcome]) -> str:
    """The median error, of items that wait and of all."""
    lines = []
    waiting = [outcome for outcome in outcomes if not outcome.kind.needs_cores]
    for name, group in (("Items that wait", waiting), ("All kinds", outcomes)):
        if group:
            errors = [abs(outcome.ratio - 1.0) for outcome in group]
            inside = sum(one.predicted[0] <= one.measured[0] <= one.predicted[2] for one in group)
            lines.append(
                f"{name}: the median error of the prediction is {statistics.median(errors):.0%}, "
                f"the largest {max(errors):.0%}; {inside} of {len(group)} measured speed-ups lie "
                "in the predicted interval."
            )
    return "\n".join(lines)


PAGE = """# How well the gain of more loader workers is predicted

Written by `python benchmarks/loader_prediction.py --markdown docs/loader-prediction.md`; not edited
by hand. For each kind of loader trainprof watches one run without workers and recommends a number
of workers; then the training runs without workers and with that number, without trainprof, in
fresh processes that alternate ({pairs} pairs). Speed-ups are T_old / T_new; a prediction's point is
the geometric middle of its interval; measured intervals are 95 %, Student's t on the logarithms.
Items or steps that compute need free cores: beside other programs neither figure is the training's
own.

Machine: {machine}. {hashes}.

{table}

{summary}
"""


def page(outcomes: list[Outcome], pairs: int) -> str:
    """The table as a page of the documentation."""
    load = os.getloadavg()[0]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the end"
    files = (Path(__file__), TRAINING)
    digests = ((file.name, hashlib.sha256(file.read_bytes()).hexdigest()[:12]) for file in files)
    hashes = ", ".join(f"{name} {digest}" for name, digest in digests)
    table = "\n".join([HEAD, *map(row, outcomes)])
    return PAGE.format(
        pairs=pairs, machine=machine, hashes=hashes, table=table, summary=summary(outcomes)
    )


def main() -> None:
    """Measures all kinds, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--kind", choices=[kind.name for kind in KINDS])
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    print(HEAD)
    outcomes = []
    for kind in KINDS:
        if args.kind in (None, kind.name):
            outcome = measure(kind, args.pairs)
            if outcome is None:
                print(f"| {kind.name}: {kind.description} | none recommended | | | |", flush=True)
            else:
                outcomes.append(outcome)
                print(row(outcome), flush=True)
    print(f"\n{summary(outcomes)}\nLoad of this machine: {os.getloadavg()[0]:.1f}")
    if args.markdown:
        args.markdown.write_text(page(outcomes, args.pairs), encoding="utf-8")


if __name__ == "__main__":
    main()
