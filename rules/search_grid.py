"""Whether the runs of a script are a grid: every combination of several numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from trainprof.profiler.store.trials import script

Options = dict[str, str]
"""Argument -> value, as text."""

REPEATED = frozenset(
    ("seed", "seeds", "fold", "folds", "split", "rep", "repeat", "repetition", "trial", "run", "id")
)
"""Words of arguments whose values are repetitions of one trial."""

PLACES = frozenset(
    (
        *("name", "tag", "out", "output", "dir", "directory", "path", "folder", "file", "log"),
        *("logs", "save", "ckpt", "checkpoint", "device", "gpu", "gpus", "cuda", "port"),
        *("host", "rank", "node", "nodes", "worker", "workers", "thread", "threads", "job"),
        *("index", "group", "project", "comment", "note", "version"),
    )
)
"""Words of arguments that say where a run lies or runs, not what it tries."""

STUDIED = frozenset(
    (
        *("epoch", "epochs", "step", "steps", "iter", "iters", "iterations", "budget"),
        *("samples", "subset", "fraction", "percent", "data", "dataset"),
    )
)
"""Words of arguments whose effect is itself the question: runs that differ in them are apart."""

TUNED = frozenset(
    (
        *("lr", "rate", "decay", "wd", "l1", "l2", "momentum", "dropout", "drop", "batch"),
        *("bs", "beta", "beta1", "beta2", "gamma", "alpha", "lam", "lambda", "clip", "warmup"),
        *("smoothing", "temperature", "tau", "eps", "noise", "hidden", "width", "depth"),
        *("layers", "heads", "dim", "units", "weight"),
    )
)
"""Words of arguments that nobody varies but to find the best value."""

LEAST_TUNED = 2
"""Arguments of a grid that are named by one of them."""

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"[-_./]+|(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Grid:
    """A full factorial design.

    Attributes:
        runs: Combinations that were run.
        values: Argument -> how many values of it were tried.
    """

    runs: int
    values: dict[str, int]


def find_grid(commands: Iterable[Sequence[str]], here: Sequence[str]) -> Grid | None:
    """The grid that a command is part of, or None.

    Only commands with the same arguments as `here` are compared, and of those only such as share
    all its words (a data set, a model) and all that is a study of its own; what is left to differ
    are numbers. Repetitions count once.

    Args:
        commands: Of all runs of the script.
        here: The command of the run at hand.
    """
    own = read_options(here)
    alike = [
        options
        for command in commands
        if (options := read_options(command)).keys() == own.keys()
        and all(options[name] == own[name] for name in own if not _is_compared(name, own[name]))
        and all(_is_number(options[name]) for name in own if _is_compared(name, own[name]))
    ]
    compared = [name for name in own if _is_compared(name, own[name])]
    trials = {tuple(float(options[name]) for name in compared) for options in alike}
    columns = {name: {trial[place] for trial in trials} for place, name in enumerate(compared)}
    varied = {name: len(values) for name, values in columns.items() if len(values) > 1}
    tuned = [name for name in varied if words(name) & TUNED]
    if len(tuned) < LEAST_TUNED or math.prod(varied.values()) != len(trials):
        return None
    return Grid(len(trials), varied)


def read_options(command: Sequence[str]) -> Options:
    """The arguments after the program by name, without repetitions and places.

    `--name=value`, `--name value value`, `--flag`, `name=value`, and words by their position.
    """
    found: Options = {}
    name: str | None = None
    position = 0
    for token in command[len(script(command)) :]:
        head, equals, value = token.partition("=")
        if token.startswith("-") and not _is_number(token):
            name = head.lstrip("-")
            found[name] = f"{found[name]};{value}" if name in found else value
            name = None if equals else name
        elif name is not None:
            found[name] = f"{found[name]} {token}".lstrip()
        elif equals and head.replace(".", "").replace("_", "").isalnum():
            found[head] = value
        else:
            found[f"#{position}"] = token
            position += 1
    return {name: value for name, value in found.items() if not words(name) & (REPEATED | PLACES)}


def words(name: str) -> set[str]:
    """The words that an argument's name is made of, in lower case."""
    return {word.lower() for word in _BETWEEN_WORDS.split(name.lstrip("-+")) if word}


def _is_compared(name: str, value: str) -> bool:
    return _is_number(value) and not words(name) & STUDIED


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None
