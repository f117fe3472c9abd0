"""Python's interpreter lock: how often threads beside the training hold it, and what that costs."""

from __future__ import annotations

from collections import defaultdict

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.signals import Signal
from trainprof.profiler.model.stacks import Holder
from trainprof.rules.reading import COMPUTE_PHASES
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.steps import phase_states
from trainprof.rules.signals.training import Training
from trainprof.rules.stack_phases import is_trainprofs, is_users, short_name
from trainprof.rules.statistics.proportion import wilson

LEAST_LOOKS = 40
"""Of a window that asks for the lock: then a half is a half give or take an eighth."""

DESCRIPTIONS = (
    Description("lock.looks", "count", "Looks at who holds the interpreter lock."),
    Description(
        "lock.others_share",
        "share",
        "Part of them in which another thread of the training process held it.",
    ),
    Description("lock.main_share", "share", "Part in which the training thread held it."),
    Description("lock.where", "place", "Line of the user's that holds it most often elsewhere."),
    Description("lock.where_share", "share", "Part of the others' looks in that function."),
    Description(
        "lock.compute_blocked_share",
        "share",
        "Part of the step in which the training thread is blocked inside forward, loss, backward "
        "or optimizer.",
    ),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals lock.*."""
    sheet = Sheet(DESCRIPTIONS)
    if training.has_window:
        blocked = _blocked_share(training)
        sheet.put("lock.compute_blocked_share", blocked, reason="the scheduler's times are unknown")
    pid = training.trainer.info.pid
    windows = [window for window in training.run.stacks.lock_windows if window.pid == pid]
    looks = sum(window.looks for window in windows)
    if not looks:
        return sheet.finish("no second thread was busy, so nobody was asked for the lock")
    sheet.put("lock.looks", looks)
    if looks < LEAST_LOOKS:
        return sheet.finish("there were too few looks at the lock")
    if not _trains_in_main(training):
        return sheet.finish("the training does not run in the main thread")
    holders = [holder for window in windows for holder in window.holders]
    others = [
        holder
        for holder in holders
        if not holder.main and not any(is_trainprofs(frame) for frame in holder.stack)
    ]
    held = sum(holder.looks for holder in others)
    method = "py-spy --gil"
    sheet.put_interval("lock.others_share", wilson(held, looks), method=method, samples=looks)
    own = sum(holder.looks for holder in holders if holder.main)
    sheet.put("lock.main_share", own / looks, method=method, samples=looks)
    place = _place(others)
    if place is not None and held:
        sheet.put("lock.where", place[0])
        sheet.put("lock.where_share", place[1] / held)
    return sheet.finish("it is held in no function of the user's own")


def _blocked_share(training: Training) -> float | None:
    """Neither on a CPU nor waiting for one, in the phases that compute."""
    states = phase_states(training)
    shares = training.phase_shares
    known = [phase for phase in COMPUTE_PHASES if phase in states and phase in shares]
    if not known or any(states[phase][1] is None for phase in known):
        return None
    return sum(
        shares[phase].mean * max(1.0 - states[phase][0] - (states[phase][1] or 0.0), 0.0)
        for phase in known
    )


def _trains_in_main(training: Training) -> bool:
    """Whether the training thread's stacks begin with the program, not with a thread."""
    info = training.trainer.info
    stacks = [
        sample.stack
        for sample in training.run.stacks.samples
        if sample.pid == info.pid and sample.thread == info.thread and sample.stack
    ]
    return bool(stacks) and not any(
        stack[0].function.endswith("_bootstrap") and stack[0].file.endswith("/threading.py")
        for stack in stacks
    )


def _place(holders: list[Holder]) -> tuple[Location, int] | None:
    """The innermost function of the user's that is seen most often, at its most frequent line."""
    looks: dict[tuple[str, str], int] = defaultdict(int)
    lines: dict[tuple[str, str], dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for holder in holders:
        frame = next((one for one in reversed(holder.stack) if is_users(one)), None)
        if frame is not None:
            key = (frame.file, short_name(frame))
            looks[key] += holder.looks
            lines[key][frame.line] += holder.looks
    if not looks:
        return None
    key = max(looks, key=lambda one: looks[one])
    line = max(lines[key], key=lambda one: lines[key][one])
    return Location(key[0], line, key[1]), looks[key]
