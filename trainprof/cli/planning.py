"""The plan of a run: from `--plan FILE` and `--fix ID[:k=v,…]`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainprof.cli.plan_sources import changes_since
from trainprof.errors import UsageError
from trainprof.profiler.model.plan import (
    Application,
    Plan,
    PlanError,
    Target,
    plan_from_json,
    plan_to_json,
)
from trainprof.rules.fixes.registry import fix_named

ENVIRONMENT = frozenset(
    (
        "CUDA_LAUNCH_BLOCKING",
        "OMP_NUM_THREADS",
        "PYTHONMALLOC",
        "PYTORCH_CUDA_ALLOC_CONF",
        "TOKENIZERS_PARALLELISM",
    )
)
"""Variables that a fix may set; none of them can make a process load or run anything."""


def environment_of(plan: Path | None) -> dict[str, str | None]:
    """What a plan's fixes want in the environment of the command; None removes a variable.

    Names and values come from the fixes, never from the plan's text.

    Raises:
        UsageError: a fix asks for another variable, or one of its parameters is wrong.
    """
    wanted: dict[str, str | None] = {}
    for one in read_plan(plan).applications if plan is not None else ():
        try:
            wanted |= fix_named(one.fix)(one.params, one.target).environment()
        except ValueError as error:
            raise UsageError(f"{error}.") from None
    other = sorted(wanted.keys() - ENVIRONMENT)
    if other:
        raise UsageError(f"a fix may not set {other[0]}; it can be set before `trainprof run`.")
    return wanted


def write_plan(
    path: Path | None, fixes: tuple[str, ...], folder: Path, *, force: bool = False
) -> Path:
    """Writes `plan.json` into the run folder.

    Of a plan that is stale only what is safe is taken over, unless it is forced. What `--fix` names
    is taken as it is.

    Raises:
        UsageError: the plan cannot be read, or a fix or one of its parameters does not exist.
    """
    plan = Plan(()) if path is None else read_plan(path)
    for one in plan.applications:
        _check(one)
    plan = _as_of_today(plan, force)
    named = asked_for(fixes)
    copy = folder / "plan.json"
    plan = replace(plan, applications=(*plan.applications, *named))
    copy.write_text(plan_to_json(plan), encoding="utf-8")
    return copy


def _as_of_today(plan: Plan, force: bool) -> Plan:
    """The plan without what may not be applied any more."""
    stale = tuple(changes_since(plan))
    plan = replace(plan, stale=stale, is_forced=force, refused=())
    if not stale or force:
        return plan
    safe = [one for one in plan.applications if _safety(one) == "safe"]
    reason = f"{' and '.join(stale)}; --force-plan applies it all the same"
    refused = tuple((one.fix, reason) for one in plan.applications if one not in safe)
    return replace(plan, applications=tuple(safe), refused=refused)


def _safety(one: Application) -> str:
    return one.safety or fix_named(one.fix).safety


def asked_for(fixes: tuple[str, ...]) -> tuple[Application, ...]:
    """What `--fix` names.

    Raises:
        UsageError: a fix or one of its parameters does not exist.
    """
    wanted = tuple(application(text) for text in fixes)
    for one in wanted:
        _check(one)
    return wanted


def read_plan(path: Path) -> Plan:
    """The plan of a file.

    Raises:
        UsageError: there is no such file, or it is no plan.
    """
    try:
        return plan_from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise UsageError(f"the plan {path} cannot be read ({reason}).") from None
    except PlanError as error:
        raise UsageError(f"{path} is no plan: {error}; `trainprof tune` writes one.") from None


def application(text: str) -> Application:
    """`loader-workers:num_workers=2,at=train.py:61` as an application.

    Raises:
        UsageError: a parameter is not `name=value`, or `at` names no line.
    """
    fix, _, rest = text.partition(":")
    params: dict[str, Any] = {}
    target = None
    for part in filter(None, rest.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"--fix {text}: {part} is not of the form name=value.")
        if name == "at":
            target = _line(text, value)
        else:
            params[name] = _value(value)
    return Application(fix, params, target)


def _line(text: str, value: str) -> Target:
    file, _, place = value.rpartition(":")
    line, hash_sign, number = place.partition("#")
    if not file or not line.isdigit() or (hash_sign and not number.isdigit()):
        raise UsageError(f"--fix {text}: at={value} is not of the form file:line or file:line#0.")
    return Target(str(Path(file).resolve()), int(line), ordinal=int(number) if number else None)


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "yes": True, "no": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check(one: Application) -> None:
    kind = fix_named(one.fix)
    try:
        kind(one.params, one.target).environment()
    except ValueError as error:
        raise UsageError(f"{error}.") from None
