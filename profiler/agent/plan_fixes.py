"""Applies the fixes of a plan inside the training process, and reads back what is in force.

A plan names fixes: those that ship beside this agent, and those of other packages that trainprof
itself has found installed. What fails disables that fix, is told, and lets the script run on
unchanged.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from ..model.plan import Application, Plan, PlanError, plan_from_json
from ..model.records import Fact
from . import guard, third_party
from .location import caller_instruction
from .patching import Patches

FORCE = "--force-plan applies it all the same"
MODULES = f"{__name__.partition('.')[0]}.rules.fixes"


class PlanFixes:
    """The fixes that this process was asked to apply.

    Args:
        torch: The user's torch.
        path: The plan's file; nothing is done without one.
    """

    def __init__(self, torch: Any, path: str | None) -> None:
        self._torch = torch
        self._path = path
        self._fixes: list[tuple[Application, Any, str | None]] = []
        self._remark: str | None = None
        self._at_end: list[Callable[[], None]] = []
        self._handles: list[Any] = []
        self._told: dict[int, Any] = {}

    def install(self, patches: Patches) -> None:
        """Patches what the plan asks for; before the hooks, which then see its effect."""
        if self._path is None:
            return
        try:
            with open(self._path, encoding="utf-8") as file:
                plan = plan_from_json(file.read())
        except (OSError, PlanError) as error:
            guard.report("plan", error)
            return
        stale = [*plan.stale, *self._other_torch(plan)]
        self._remark = " and ".join(stale) or None
        for application in plan.applications:
            if self._remark is None or plan.is_forced or _is_safe(application):
                self._install_one(application, patches)
            else:
                self._fixes.append((application, None, f"{self._remark}; {FORCE}"))
        for fix, reason in plan.refused:
            self._fixes.append((Application(fix), None, reason))

    def _other_torch(self, plan: Plan) -> list[str]:
        version = str(self._torch.__version__)
        if plan.torch is None or plan.torch == version:
            return []
        return [f"it was proven with torch {plan.torch}, and this is {version}"]

    def _install_one(self, application: Application, patches: Patches) -> None:
        process_type = import_module(f"{MODULES}.fix").Process
        failed: list[str] = []

        def apply() -> Any:
            fix = _named(application.fix)(application.params, application.target)
            fix.install(
                process_type(
                    torch=self._torch,
                    patches=patches,
                    caller=caller_instruction,
                    at_start=self._at_start,
                    before_update=self._before_update,
                    after_update=self._after_update,
                    at_end=self._at_end.append,
                )
            )
            return fix

        fix = guard.attempt(f"fix {application.fix}", apply)
        if fix is None:
            failed.append(_why_it_failed(application.fix))
        self._fixes.append((application, fix, failed[0] if failed else None))

    def _at_start(self, action: Callable[[], None]) -> None:
        register = sys.modules["torch.optim.optimizer"].register_optimizer_step_pre_hook

        waiting = [action]

        def once(*_: Any) -> None:
            if waiting:  # torch goes through its hooks just now: this one may not remove itself
                guard.attempt("plan", waiting.pop())

        self._handles.append(register(once))

    def _before_update(self, action: Callable[[Any], None]) -> None:
        register = sys.modules["torch.optim.optimizer"].register_optimizer_step_pre_hook

        def before(optimizer: Any, *_: Any) -> None:
            guard.attempt("plan", action, optimizer)

        self._handles.append(register(before))

    def _after_update(self, action: Callable[[], None]) -> None:
        register = sys.modules["torch.optim.optimizer"].register_optimizer_step_post_hook

        def after(*_: Any) -> None:
            guard.attempt("plan", action)

        self._handles.append(register(after))

    def facts(self) -> list[Fact]:
        """What has changed since the last call: for each fix, whether it is in force."""
        facts = []
        for number, (application, fix, failed) in enumerate(self._fixes):
            data = self._read(application, fix, failed)
            if data != self._told.get(number):
                self._told[number] = data
                facts.append(Fact("fix", f"f{number}", time.perf_counter_ns(), data))
        return facts

    def _read(self, application: Application, fix: Any, failed: str | None) -> dict[str, Any]:
        data: dict[str, Any] = {"fix": application.fix, "params": dict(application.params)}
        if fix is None:
            return {**data, "active": False, "seen": {}, "reason": failed}
        state = guard.attempt(f"fix {application.fix}", fix.read_back)
        if state is None:
            return {**data, "active": None, "seen": {}, "reason": "it could not be read back"}
        data |= {"active": state.active, "seen": state.seen, "reason": state.reason}
        return {**data, "remark": self._remark} if self._remark else data

    def end(self) -> None:
        """What fixes have to finish before the process may go."""
        for action in self._at_end:
            guard.attempt("plan", action)

    def uninstall(self) -> None:
        """Removes the hooks; the patches are undone by whoever owns them."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def after_fork(self) -> None:
        """The child tells of its own."""
        self._told = {}


def _is_safe(application: Application) -> bool:
    """Whether it changes nothing but the time; what cannot be found out is not."""
    if application.safety is not None:
        return application.safety == "safe"
    kind = guard.attempt(f"fix {application.fix}", _named, application.fix)
    return kind is not None and kind.safety == "safe"


def _named(fix: str) -> Any:
    """The class of a fix of ours, else of another package.

    Raises:
        ValueError: there is none of that name.
    """
    module = fix.replace("-", "_")
    folder = os.path.dirname(import_module(MODULES).__file__ or "")
    if not module.isidentifier() or not os.path.exists(os.path.join(folder, f"{module}.py")):
        return third_party.load(fix, third_party.handed_over())
    members = vars(import_module(f"{MODULES}.{module}")).values()
    for member in members:
        if isinstance(member, type) and getattr(member, "id", None) == fix:
            return member
    return third_party.load(fix, third_party.handed_over())


def _why_it_failed(fix: str) -> str:
    for collector, _, error in guard.failures:
        if collector == f"fix {fix}":
            return error
    return "it could not be applied"
