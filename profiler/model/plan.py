"""`Plan`: what is to be changed in a training, as data; nothing that it names can be code.

The agent resolves the names among the fixes that ship with it, so a plan of a stranger cannot run
anything else. Standard library only, and read inside the user's process too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PLAN_FORMAT = 1


class PlanError(ValueError):
    """The text is no plan; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Target:
    """The object that a fix is for, by where the user's source makes it.

    Attributes:
        file: Absolute path. line: Of the call.
        type: Class of what tells two objects of one line apart: a loader's data set.
        ordinal: Which of the objects that this line makes; None for each of them (a loop).
    """

    file: str
    line: int
    type: str | None = None
    ordinal: int | None = None


@dataclass(frozen=True, slots=True)
class Application:
    """One fix with its parameters (JSON values), for one target or for the whole process.

    `safety` is that of this application, where it is another than the fix's own.
    """

    fix: str
    params: Mapping[str, Any] = field(default_factory=dict)
    target: Target | None = None
    safety: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Fixes to apply together.

    Attributes:
        sources: SHA-256 of the script and the modules that targets name, by absolute path.
        script: Absolute path, for changes of the source that are not for one object.
        torch: Version that it was proven with.
        proof: What was measured, for people; the agent does not read it.
        machine: Class of the machine that it was proven on.
        stale: What is not as it was proven; safe fixes apply all the same. is_forced: So do others.
        refused: Of a stale plan, what does not apply, each with the reason.
    """

    applications: tuple[Application, ...]
    sources: Mapping[str, str] = field(default_factory=dict)
    torch: str | None = None
    proof: Mapping[str, Any] = field(default_factory=dict)
    script: str | None = None
    machine: str | None = None
    stale: tuple[str, ...] = ()
    is_forced: bool = False
    refused: tuple[tuple[str, str], ...] = ()


def plan_to_json(plan: Plan) -> str:
    """The plan as a file."""
    return json.dumps({"format": PLAN_FORMAT, **asdict(plan)}, indent=1, sort_keys=True) + "\n"


def plan_from_json(text: str) -> Plan:
    """The plan of a file.

    Raises:
        PlanError: the text is none, or of a newer format.
    """
    try:
        data = json.loads(text)
    except ValueError:
        raise PlanError("it is not JSON") from None
    if not isinstance(data, dict) or not isinstance(data.get("applications"), list):
        raise PlanError("it does not list applications")
    if data.get("format") != PLAN_FORMAT:
        raise PlanError(f"its format is {data.get('format')!r}, not {PLAN_FORMAT}")
    proof = data.get("proof")
    return Plan(
        tuple(_application(one) for one in data["applications"]),
        _texts(data.get("sources")),
        data.get("torch") if isinstance(data.get("torch"), str) else None,
        proof if isinstance(proof, dict) else {},
        data.get("script") if isinstance(data.get("script"), str) else None,
        data.get("machine") if isinstance(data.get("machine"), str) else None,
        tuple(str(one) for one in _list(data.get("stale"))),
        data.get("is_forced") is True,
        tuple((str(one[0]), str(one[1])) for one in _list(data.get("refused")) if _is_pair(one)),
    )


def _application(data: Any) -> Application:
    if not isinstance(data, dict) or not isinstance(data.get("fix"), str):
        raise PlanError("an application does not name its fix")
    params = data.get("params") or {}
    if not isinstance(params, dict):
        raise PlanError(f"the parameters of {data['fix']} are no mapping")
    safety = data.get("safety")
    return Application(
        data["fix"],
        params,
        _target(data.get("target"), data["fix"]),
        safety if isinstance(safety, str) else None,
    )


def _target(data: Any, fix: str) -> Target | None:
    if data is None:
        return None
    if not isinstance(data, dict) or not isinstance(data.get("file"), str):
        raise PlanError(f"the target of {fix} names no file")
    line, ordinal, kind = data.get("line"), data.get("ordinal"), data.get("type")
    if not isinstance(line, int) or not (ordinal is None or isinstance(ordinal, int)):
        raise PlanError(f"the target of {fix} names no line")
    return Target(data["file"], line, kind if isinstance(kind, str) else None, ordinal)


def _list(data: Any) -> list[Any]:
    return data if isinstance(data, list) else []


def _is_pair(data: Any) -> bool:
    return isinstance(data, list) and len(data) == 2


def _texts(data: Any) -> dict[str, str]:
    if not isinstance(data, dict):
        return {}
    return {key: text for key, text in data.items() if isinstance(text, str)}
