"""How often a rule's predictions were right: what tunes have measured, kept in the user's state.

One JSON file, written by `tune` and read at every diagnosis. Nothing in it says what was trained.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec

from trainprof.profiler.model.diagnosis import Finding, PastPredictions
from trainprof.profiler.store.whole_file import replace_file

CALIBRATION_FORMAT = 1
MOST_CASES = 1_000
"""The latest are kept."""
LEAST_CASES = 5
LEAST_RIGHT = 0.5
"""A rule that has been right less often, in at least so many cases, only hints from then on. An
interval is meant to hold four cases in five."""


@dataclass(frozen=True, slots=True)
class Case:
    """One prediction and what came of it.

    Attributes:
        rule, fix: Whose prediction, for what. machine: Class of the machine.
        low, high: Predicted ratio of old to new time.
        measured, measured_low, measured_high: What the pairs gave, with its 95 % interval.
        tune: Tells tunes apart; one that went on replaces what it had said before.
    """

    rule: str
    fix: str
    machine: str
    low: float
    high: float
    measured: float
    measured_low: float
    measured_high: float
    tune: str
    unix_s: float

    @property
    def right(self) -> bool:
        """Whether the two intervals meet: what was measured does not contradict the prediction."""
        return self.low <= self.measured_high and self.measured_low <= self.high


@dataclass(frozen=True, slots=True)
class Calibration:
    """All cases; `problem` is a sentence where the file cannot be used."""

    cases: tuple[Case, ...] = ()
    problem: str | None = None

    def past(self, rule: str, machine: str) -> PastPredictions | None:
        """How often the rule was right on machines of this class; None without a case."""
        cases = [case for case in self.cases if (case.rule, case.machine) == (rule, machine)]
        if not cases:
            return None
        return PastPredictions(sum(case.right for case in cases), len(cases))


NO_CALIBRATION = Calibration()


def calibration_path(environment: Mapping[str, str] = os.environ) -> Path:
    """The file, whether it exists or not."""
    state = environment.get("XDG_STATE_HOME") or ""
    base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return base / "trainprof" / "calibration.json"


def read_calibration(path: Path) -> Calibration:
    """What the file says; a file that is absent is none, one that cannot be read is a problem."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return NO_CALIBRATION
    except OSError as error:
        return Calibration(problem=f"{path} cannot be read ({error.strerror}); it is ignored")
    except ValueError:
        data = None
    if not isinstance(data, dict) or data.get("format") != CALIBRATION_FORMAT:
        return Calibration(problem=f"{path} is no calibration of this version; it is ignored")
    try:
        return Calibration(msgspec.convert(data.get("cases"), tuple[Case, ...]))
    except msgspec.ValidationError:
        return Calibration(problem=f"{path} is damaged; it is ignored")


def add_cases(path: Path, cases: Sequence[Case]) -> None:
    """Adds to the file, which is replaced as a whole; a damaged one is begun anew.

    Raises:
        OSError: it cannot be written.
    """
    if not cases:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path.with_suffix(".lock")):
        new = [(case.tune, case.rule, case.fix) for case in cases]
        known = read_calibration(path).cases
        kept = [case for case in known if (case.tune, case.rule, case.fix) not in new]
        every = [asdict(case) for case in [*kept, *cases][-MOST_CASES:]]
        data = json.dumps({"format": CALIBRATION_FORMAT, "cases": every}, indent=1)
        replace_file(str(path), data.encode() + b"\n")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """While no other tune writes."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def with_past(
    findings: Sequence[Finding], calibration: Calibration, machine: str
) -> tuple[Finding, ...]:
    """The findings with how often their rules were right; those that mostly were not only hint."""
    known = [_with_past(one, calibration.past(one.rule, machine)) for one in findings]
    return tuple(sorted(known, key=lambda finding: finding.severity == "info"))  # notes come last


def _with_past(finding: Finding, past: PastPredictions | None) -> Finding:
    if past is None or finding.gain is None:
        return finding
    wrong = past.cases >= LEAST_CASES and past.right < LEAST_RIGHT * past.cases
    return replace(finding, past=past, severity="info" if wrong else finding.severity)
