"""Who holds Python's interpreter lock: when that is worth asking, and what py-spy answers.

`py-spy record --gil` leaves out every thread that does not hold it, so a window says how often the
threads of a process held it, and the looks that found nobody are those that are missing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from trainprof.profiler.model.stacks import Frame, Holder, Stack, StackSample

LEAST_BUSY_SHARE = 0.10
"""Part of a process's sampled time in which a second thread of it was busy; below that there is
nothing to ask."""

_THREAD = re.compile(r"^thread \((0x[0-9a-fA-F]+|\d+)\)")
_FRAME = re.compile(r"(?:^|;)([^;]*?) \(([^;]+):(\d+)\)(?=;|$)")
_WAITS = (
    *("/threading.py", "/queue.py", "/selectors.py", "/socket.py", "/subprocess.py", "/ssl.py"),
    *("/connection.py", "/queues.py", "/popen_fork.py", "/tqdm/_monitor.py"),
)
"""Files in whose functions a thread waits."""
_OURS = "/trainprof/profiler/"


def is_started_thread(stack: Stack) -> bool:
    """Whether a stack is of a thread that Python's `threading` has started."""
    outermost = stack[0]
    return outermost.file.endswith("/threading.py") and outermost.function.endswith("_bootstrap")


def contended_process(samples: Iterable[StackSample]) -> int | None:
    """The process in which a thread beside the main one is busiest, None where none is busy."""
    main_ns: dict[int, int] = defaultdict(int)
    busy_ns: dict[int, int] = defaultdict(int)
    for sample in samples:
        if not sample.stack:
            continue
        if not is_started_thread(sample.stack):
            main_ns[sample.pid] += sample.duration_ns
        elif _is_busy(sample.stack):
            busy_ns[sample.pid] += sample.duration_ns
    shares = {pid: busy_ns[pid] / main_ns[pid] for pid in busy_ns if main_ns.get(pid)}
    pid = max(shares, key=lambda one: shares[one], default=None)
    return pid if pid is not None and shares[pid] >= LEAST_BUSY_SHARE else None


def _is_busy(stack: Stack) -> bool:
    if stack[-1].file.endswith(_WAITS):
        return False
    return not any(_OURS in frame.file for frame in stack)


def read_holders(text: str, pid: int) -> tuple[Holder, ...]:
    """What `py-spy record --gil --threads --format raw` wrote of a process.

    A line is `thread (id): name;function (file:line);... looks`; the main thread's id is that of
    the process. Lines of another form are left out.
    """
    holders = []
    for line in text.splitlines():
        stack, _, looks = line.rpartition(" ")
        thread = _THREAD.match(stack)
        frames = [
            Frame(name.strip(), file, int(number)) for name, file, number in _FRAME.findall(stack)
        ]
        if thread is None or not frames or not looks.isdecimal():
            continue
        is_main = int(thread.group(1), 0) == pid or not is_started_thread(tuple(frames))
        holders.append(Holder(is_main, tuple(frames), int(looks)))
    return tuple(holders)
