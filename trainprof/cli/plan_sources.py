"""Which files a plan is about, and how they were when it was proven."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainprof.profiler.model.plan import Plan
from trainprof.profiler.samplers.hardware import read_hardware
from trainprof.profiler.store.layout import PROCESS_FILE, PROCESSES_FOLDER
from trainprof.rules.experiments.machine import machine_class
from trainprof.rules.source_edits.written import digest


def script_of(command: Sequence[str], folder: str) -> str | None:
    """The script that a command starts, as an absolute path; None where it names none.

    Args:
        command: `train.py`, `python -m package.train`, `torchrun train.py` with their arguments.
        folder: It is started in.
    """
    for place, word in enumerate(command):
        candidates = [word] if word.endswith(".py") else []
        if word == "-m" and place + 1 < len(command):
            module = command[place + 1].replace(".", os.sep)
            candidates = [f"{module}.py", os.path.join(module, "__main__.py")]
        for candidate in candidates:
            path = os.path.abspath(os.path.join(folder, candidate))
            if os.path.isfile(path):
                return path
    return None


def script_of_run(folder: Path, command: Sequence[str], cwd: str) -> str | None:
    """The script of a recorded run: of its command, else of the process that trained."""
    script = script_of(command, cwd)
    if script is not None:
        return script
    for path in sorted(folder.glob(f"{PROCESSES_FOLDER}/*/{PROCESS_FILE}")):
        try:
            process = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(process, dict) and process.get("role") == "trainer":
            return script_of([str(word) for word in process.get("argv") or ()], cwd)
    return None


def with_sources(plan: Plan, script: str | None) -> Plan:
    """A plan that knows the script and the hashes of the files that it is about."""
    files = [one.target.file for one in plan.applications if one.target is not None]
    sources = dict(plan.sources)
    for path in dict.fromkeys([*files, *([script] if script else [])]):
        try:
            sources[path] = digest(Path(path).read_bytes())
        except OSError:
            continue
    return replace(plan, sources=sources, script=script)


def with_proof(plan: Plan, torch: str | None, proof: Mapping[str, Any]) -> Plan:
    """A plan that knows with which torch and on which machine what was measured."""
    return replace(plan, torch=torch, machine=machine_class(read_hardware()), proof=proof)


def torch_of_run(folder: Path) -> str | None:
    """The version that a recorded run trained with."""
    for path in sorted(folder.glob(f"{PROCESSES_FOLDER}/*/{PROCESS_FILE}")):
        try:
            process = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(process, dict) and process.get("role") == "trainer":
            version = process.get("torch")
            return version if isinstance(version, str) else None
    return None


def changes_since(plan: Plan) -> Iterator[str]:
    """What is not as it was when a plan was proven."""
    for path, hashed in plan.sources.items():
        try:
            same = digest(Path(path).read_bytes()) == hashed
        except OSError:
            same = False
        if not same:
            yield f"{os.path.basename(path)} has changed since it was proven"
    if plan.machine is not None and plan.machine != machine_class(read_hardware()):
        yield f"it was proven on another machine ({plan.machine})"
