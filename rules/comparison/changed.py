"""What is not the same in two groups of runs: versions, flags, arguments, commit, machine."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence

from trainprof.profiler.model.comparison import FactChange
from trainprof.rules.comparison.measured import JudgedRun
from trainprof.rules.experiments.machine import machine_class

KINDS = ("loader", "batch", "model", "optimizer", "flags", "distributed")
"""Facts that are compared, in the order of a reader's interest."""

NO_SETTING = frozenset(
    {
        "accelerator_uuids",
        "backwards",
        "buffer_bytes",
        "bytes",
        "dataset_objects",
        "dataset_objects_bytes",
        "gc_frozen",
        "iterators_made",
        "loaders_made",
        "rank",
        "rows",
        "state_bytes",
        "submodules",
        "synced_backwards",
    }
)
"""What follows from the length of a run or from its machine, or is no setting."""

OF_WORKERS = frozenset({"multiprocessing_context", "prefetch_factor"})
"""Settings of a loader that has none of them where it has no workers."""

MOST_CHARACTERS = 200
"""Of a value; longer ones are cut."""


def changed_facts(
    base: Sequence[JudgedRun], candidate: Sequence[JudgedRun]
) -> tuple[FactChange, ...]:
    """Every setting of which the groups do not hold the same values."""
    old, new = ([dict(_settings(run)) for run in group] for group in (base, candidate))
    names = dict.fromkeys(name for settings in (*old, *new) for name in settings)
    changes = []
    for name in names:
        first, second = _values(old, name), _values(new, name)
        if set(first) != set(second):
            changes.append(FactChange(*name, first, second))
    return tuple(changes)


def _values(
    group: Sequence[Mapping[tuple[str, str], str]], name: tuple[str, str]
) -> tuple[str, ...]:
    return tuple(dict.fromkeys(settings.get(name, "absent") for settings in group))


def _settings(run: JudgedRun) -> Iterator[tuple[tuple[str, str], str]]:
    """((subject, name), value) of all that is compared of a run."""
    info, summary = run.info, run.diagnosis.run
    known = {
        ("command", "arguments"): shlex.join(info.argv),
        ("command", "commit"): info.commit,
        ("command", "steps limit"): info.steps_limit,
        ("version", "python"): summary.python,
        ("version", "torch"): summary.torch,
        ("version", "trainprof"): info.trainprof,
        ("machine", "hardware"): machine_class(info.hardware),
        ("machine", "host"): info.host,
        ("machine", "device"): summary.device,
        ("machine", "ranks"): summary.world_size,
    }
    for name, value in known.items():
        yield name, _text(value)
    for variable, setting in sorted(info.environment.items()):
        yield ("environment", variable), _text(setting)
    for kind in KINDS:
        yield from _facts(kind, run.diagnosis.facts.get(kind))


def _facts(kind: str, facts: object) -> Iterator[tuple[tuple[str, str], str]]:
    if not isinstance(facts, Mapping):
        return
    if kind == "flags":  # of the start only where there is no later reading
        latest = "steady" if "steady" in facts else "start"
        facts = {kind: facts[latest]} if latest in facts else {}
    for key, values in facts.items():
        subject = kind if key == kind or len(facts) == 1 else f"{kind} {key}"
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if value is None and name in OF_WORKERS:
                continue
            if name not in NO_SETTING and not str(name).endswith("where"):
                yield (subject, str(name)), _text(value)


def _text(value: object) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 3]}..."
