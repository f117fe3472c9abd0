"""What the dashboard asks of the rest of the house; the command line gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainprof.profiler.model.diagnosis import Diagnosis, Finding


@dataclass(frozen=True, slots=True)
class Services:
    """Each may block: the dashboard calls all but `fix_command` away from its screen.

    Attributes:
        diagnose: The diagnosis of the run as far as it got; None where there is none yet.
        recorded: The one that the run folder holds; None where there is none. That is only read.
        trace: Asks for a trace of the next steps; says what became of it.
        stacks: The Python stacks of a process now, one line a frame; or why there are none.
        page: The page of a rule, in Markdown.
        interrupt: Sends the script what Ctrl-C in its terminal would; None where it is not ours.
        fix_command: What to type for the fix of a finding; None where no fix can be applied.
    """

    diagnose: Callable[[], Diagnosis | None]
    recorded: Callable[[], Diagnosis | None]
    trace: Callable[[], str]
    stacks: Callable[[int], str]
    page: Callable[[str], str]
    fix_command: Callable[[Finding], str | None]
    interrupt: Callable[[], None] | None = None
