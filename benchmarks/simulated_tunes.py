"""Thousands of whole tunes over replayed noise: how often what does nothing is kept.

    python benchmarks/simulated_tunes.py [TUNES]

The real course of a tune (`Tune`), with a runner that replays recorded times in place of starting
processes. The recording, `simulated_tunes_noise.json`, holds the times of equal runs of a script
with steps of 5 ms, one after another, in fresh processes on two cores that others used as well.
Prints a table in Markdown.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from trainprof.profiler.model.plan import Application
from trainprof.rules.experiments.candidates import Candidate
from trainprof.rules.experiments.trial import Trial
from trainprof.rules.experiments.tune import Tune

RECORDING = Path(__file__).with_name("simulated_tunes_noise.json")
STRETCH = 4
"""Trials in a row that are replayed together, where drift is to be kept: two pairs."""
HEAVY_TAILED = 0.05
"""Scale of the noise that is not recorded: Student's t with three degrees of freedom."""
STEPS = 30
LOSSES = {step: 1.0 / (step + 1) for step in range(STEPS)}

Noise = Callable[[np.random.Generator], Iterator[float]]
"""Logarithms of times, trial by trial."""


@cache
def recorded() -> list[float]:
    """Logarithms of the recorded times of a step."""
    return np.log(json.loads(RECORDING.read_text())["step_s"]).tolist()


def neighbours(random: np.random.Generator) -> Iterator[float]:
    """Pairs of recorded trials that followed each other, in any order."""
    times = recorded()
    while True:
        place = int(random.integers(len(times) - 1))
        pair = times[place : place + 2]
        yield from pair if random.random() < 0.5 else reversed(pair)


def stretches(random: np.random.Generator) -> Iterator[float]:
    """Stretches of the recording, forwards or backwards: the machine changes within a stretch."""
    times = recorded()
    while True:
        place = int(random.integers(len(times) - STRETCH))
        stretch = times[place : place + STRETCH]
        yield from stretch if random.random() < 0.5 else reversed(stretch)


def heavy_tailed(random: np.random.Generator) -> Iterator[float]:
    """A quieter machine, with outliers."""
    while True:
        yield math.log(0.005) + HEAVY_TAILED * float(random.standard_t(3))


NOISES: Mapping[str, Noise] = {
    "recorded pairs": neighbours,
    "recorded stretches": stretches,
    "heavy-tailed, 5 %": heavy_tailed,
}


class Replay:
    """Stands in for the runner of trials: the next time of the noise, divided by what fixes gain.

    Args:
        noise: Logarithms of times.
        gains: True ratio of each fix; 1 of those that are not named.
    """

    def __init__(self, noise: Iterator[float], gains: Mapping[str, float]) -> None:
        self._noise = noise
        self._gains = gains

    def run(self, plan: object, steps: int, label: str, seed_shift: int = 0) -> Trial:
        """One trial of one second."""
        seconds = math.exp(next(self._noise))
        for application in plan.applications:  # type: ignore[attr-defined]
            seconds /= self._gains.get(application.fix, 1.0)
        return Trial(seconds, steps=steps, losses=LOSSES, seed_calls=1, took_s=1.0)


def simulate(
    tunes: int, noise: Noise, fixes: Sequence[str], gains: Mapping[str, float] = {}, seed: int = 1
) -> Counter[str]:
    """How many tunes kept each fix, and under "" how many kept any.

    Args:
        tunes: To run.
        noise: Replayed.
        fixes: Tried in each tune.
        gains: Their true ratios.
        seed: Of the replay.
    """
    random = np.random.default_rng(seed)
    kept: Counter[str] = Counter()
    for _ in range(tunes):
        runner = Replay(noise(random), gains)
        candidates = [
            Candidate(Application(fix), "rule", "safe", True, None, None) for fix in fixes
        ]
        tune = Tune(runner, candidates, (), steps=STEPS, budget_s=1e9, clock=lambda: 0.0)
        outcome = tune.run()
        names = {one.name for one in outcome.experiments if one.verdict == "keep"}
        kept.update(names | ({""} if names else set()))
    return kept


def row(name: str, tunes: int) -> str:
    """A line of Markdown; gains are looked for in a fifth of the tunes."""
    noise = NOISES[name]
    alone = simulate(tunes, noise, ["a"])[""] / tunes
    three = simulate(tunes, noise, ["a", "b", "c"])
    each = sum(three[fix] for fix in "abc") / 3 / tunes
    few = max(tunes // 5, 1)
    power = simulate(few, noise, ["real"], {"real": 1.3})["real"] / few
    beside = simulate(few, noise, ["real", "b", "c"], {"real": 1.3})["real"] / few
    shares = (alone, three[""] / tunes, each, power, beside)
    return f"| {name} | {' | '.join(f'{100 * share:.2f} %' for share in shares)} |"


if __name__ == "__main__":
    tunes = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print(
        "| noise | one placebo | any of three | each of three | 1.3 times | beside two placebos |"
    )
    print("|---|---|---|---|---|---|")
    with ProcessPoolExecutor() as pool:
        for line in pool.map(row, NOISES, [tunes] * len(NOISES)):
            print(line, flush=True)
