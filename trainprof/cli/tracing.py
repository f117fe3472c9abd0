"""Asks a running training for a trace, and waits until every rank has answered."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainprof.errors import TrainprofError
from trainprof.profiler.store.layout import PROCESSES_FOLDER, TRACES_FOLDER
from trainprof.profiler.store.lines import Problems
from trainprof.profiler.store.reader import read_run_info
from trainprof.profiler.store.status import read_status
from trainprof.profiler.store.trace_files import (
    ANSWER,
    order_numbers,
    order_path,
    read_object,
    request_path,
)
from trainprof.profiler.store.traces import pack

POLL_S = 0.2
PATIENCE_S = 60.0
"""Without a step of the training (or five of its steps, where these take longer) nothing is waited
for any more."""
PATIENCE_STEPS = 5.0
OTHER_RANKS_S = 15.0
"""From the first rank's trace to the others'; a rank that has died never answers."""


@dataclass(slots=True)
class Taken:
    """What came of a request: where the traces lie, and why a rank has none."""

    paths: list[Path] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def take_trace(folder: Path, steps: int) -> Taken:
    """Leaves a request in a run folder and waits for what becomes of it.

    Args:
        folder: Of a run that goes on.
        steps: How many whole steps.

    Raises:
        TrainprofError: there will be no trace, and why.
    """
    _check_running(folder)
    known = max(order_numbers(str(folder)), default=0)
    _check_free(folder, known)
    request = Path(request_path(str(folder)))
    try:
        with request.open("x", encoding="utf-8") as file:
            file.write(f'{{"steps": {steps}}}\n')
    except FileExistsError:
        raise TrainprofError(
            f"another request waits in {folder}; wait for its trace, or delete {request.name}."
        ) from None
    except OSError as error:
        raise TrainprofError(
            f"no request can be left in {folder} ({error.strerror}); ask as a user who may write "
            "there."
        ) from None
    try:
        return _Wait(folder, request, known).until_answered()
    finally:
        with contextlib.suppress(OSError):
            request.unlink()


def _check_running(folder: Path) -> None:
    info = read_run_info(folder, Problems())
    status = read_status(info, folder) if info is not None else "incomplete"
    if status != "running":
        raise TrainprofError(
            f"the run {folder} is over ({status}); only of a training that runs a trace can be "
            "taken. `trainprof run --trace 120-122` takes one of these steps."
        )


def _check_free(folder: Path, number: int) -> None:
    if not number:
        return  # of steps that were told at the start, which may be far off
    for answer in _answers(folder, number).values():
        if answer.get("state") == "armed":
            raise TrainprofError(
                f"a trace of {answer.get('steps')} steps from step {answer.get('first')} is under "
                "way; ask again when it is over."
            )


def _answers(folder: Path, number: int) -> dict[str, dict[str, Any]]:
    """What each process says of an order."""
    try:
        names = os.listdir(folder / TRACES_FOLDER)
    except OSError:
        return {}
    found = {}
    for name in names:
        matched = ANSWER.fullmatch(name)
        if matched is not None and int(matched["number"]) == number:
            answer = read_object(str(folder / TRACES_FOLDER / name))
            if answer is not None:
                found[matched["process"]] = answer
    return found


class _Wait:
    def __init__(self, folder: Path, request: Path, known: int) -> None:
        self._folder = folder
        self._request = request
        self._number = known + 1
        self._progress: tuple[int, float] = (-1, time.monotonic())

    def until_answered(self) -> Taken:
        """All ranks' answers.

        Raises:
            TrainprofError: the run ended, or nothing moves.
        """
        first_s: float | None = None
        while True:
            order = read_object(order_path(str(self._folder), self._number))
            answers = _answers(self._folder, self._number)
            over = [one for one in answers.values() if one.get("state") != "armed"]
            now_s = time.monotonic()
            first_s = first_s or (now_s if over else None)
            ranks = order.get("ranks", 1) if order is not None else 1
            waited = first_s is not None and now_s - first_s > OTHER_RANKS_S
            if over and (len(over) >= ranks or waited):
                return self._taken(over, ranks)
            self._check_going_on(order)
            time.sleep(POLL_S)

    def _taken(self, answers: list[dict[str, Any]], ranks: int) -> Taken:
        taken = Taken()
        for one in sorted(answers, key=lambda one: one.get("rank") or 0):
            if one.get("state") == "written":
                taken.paths.append(pack(self._folder / TRACES_FOLDER / str(one.get("file"))))
            else:
                who = f"of rank {one['rank']} " if one.get("rank") is not None else ""
                taken.reasons.append(f"no trace {who}was taken: {one.get('reason')}")
        if len(answers) < ranks:
            taken.reasons.append(f"{ranks - len(answers)} of {ranks} ranks have not answered")
        if not taken.paths:
            raise TrainprofError(f"{'; '.join(dict.fromkeys(taken.reasons))}.")
        return taken

    def _check_going_on(self, order: dict[str, Any] | None) -> None:
        info = read_run_info(self._folder, Problems())
        if info is None or read_status(info, self._folder) != "running":
            if any(one.get("state") != "armed" for one in self._now().values()):
                return  # answered at its very end
            raise TrainprofError("the run ended before a trace was whole; start the next sooner.")
        written = self._written()
        if written != self._progress[0]:
            self._progress = (written, time.monotonic())
        step_s = order.get("step_s", 0.0) if order is not None else 0.0
        patience_s = max(PATIENCE_S, PATIENCE_STEPS * step_s)
        if time.monotonic() - self._progress[1] > patience_s:
            raise TrainprofError(
                f"no step of the training has ended for {patience_s:.0f} s, so nothing can be "
                "traced; look whether it is stuck, or has not begun."
            )

    def _now(self) -> dict[str, dict[str, Any]]:
        return _answers(self._folder, self._number)

    def _written(self) -> int:
        """Bytes of steps that were recorded so far."""
        steps = (self._folder / PROCESSES_FOLDER).glob("*/steps.jsonl")
        return sum(path.stat().st_size for path in steps)
