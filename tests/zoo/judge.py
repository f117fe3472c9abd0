"""Whether a diagnosis is right: what `diagnose --format json` printed in, a verdict out.

Nothing here runs anything. Findings count in the order of the report. loop-contention speaks of the
machine, not of the script: while other programs did use the CPU, which the runner measures for
itself, it counts neither for nor against; otherwise it counts like any finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.cases import Case

CONTENTION = "loop-contention"
LEAST_OTHER_CORES = 0.25
"""Mean number of cores that other programs used; from there, contention is a fact."""


@dataclass(frozen=True)
class FaultVerdict:
    """What became of a script with a plant.

    Attributes:
        said: Every rule of the report in its order, the excused one left out.
        rank: Place of the first finding that names the (larger) plant; None if none does.
        second_rank: The same for the second plant of a compound case.
        unplanted_ahead: Rules before that place that name no plant.
        blamed: Findings at warn and above; `blamed_rightly` those of them that name a plant.
        alarms: The others.
        where: Whether the finding points to the line with the plant; None where it is not told.
        next_named: Whether the first finding says what comes next; None where it is not told.
    """

    said: tuple[str, ...]
    rank: int | None
    second_rank: int | None
    unplanted_ahead: tuple[str, ...]
    blamed: int
    blamed_rightly: int
    alarms: tuple[str, ...]
    where: bool | None
    next_named: bool | None
    rule: str | None = None
    severity: str | None = None
    predicted_share: float | None = None

    def found_within(self, places: int) -> bool:
        """Whether the plant is among the first so many findings, and nothing unplanted first.

        With `places` = 2 one unplanted rule ahead is allowed: that is what recall@2 asks.
        """
        return self.rank is not None and self.rank <= places

    @property
    def found_first(self) -> bool:
        """Recall@1: a case counts as missed when an unplanted rule outranks the plant."""
        return self.found_within(1)


@dataclass(frozen=True)
class HealthyVerdict:
    """What became of a script without a plant; `alarms` are its findings at warn and above."""

    alarms: tuple[str, ...]
    notes: tuple[str, ...]
    verdict: str


def judge_fault(case: Case, diagnosis: dict[str, Any], other_cores: float) -> FaultVerdict:
    """Judges the diagnosis of a script with one or two plants.

    Args:
        case: What was planted.
        diagnosis: What `trainprof diagnose --format json` printed.
        other_cores: Mean number of cores that programs outside of the training used.
    """
    findings = _findings(diagnosis, other_cores, case.plants)
    wanted = {case.plants[0], *case.acceptable}
    right = wanted | set(case.plants)
    blamed = [finding for finding in findings if finding["severity"] != "info"]
    place = _first_place(findings, wanted)
    found = None if place is None else findings[place]
    ahead = findings if place is None else findings[:place]
    return FaultVerdict(
        said=tuple(finding["rule"] for finding in findings),
        rank=None if place is None else place + 1,
        second_rank=_second_rank(findings, case),
        unplanted_ahead=tuple(f["rule"] for f in ahead if f["rule"] not in right),
        blamed=len(blamed),
        blamed_rightly=sum(finding["rule"] in right for finding in blamed),
        alarms=tuple(f["rule"] for f in blamed if f["rule"] not in right),
        where=None if found is None else _points_at(found, case.wheres[0], case.folder),
        next_named=_names_next(findings, case),
        rule=None if found is None else found["rule"],
        severity=None if found is None else found["severity"],
        predicted_share=None if found is None else found["share"],
    )


def judge_healthy(diagnosis: dict[str, Any], other_cores: float) -> HealthyVerdict:
    """Judges the diagnosis of a twin or of another script without a plant."""
    findings = _findings(diagnosis, other_cores, ())
    return HealthyVerdict(
        alarms=tuple(f["rule"] for f in findings if f["severity"] != "info"),
        notes=tuple(f["rule"] for f in findings if f["severity"] == "info"),
        verdict=diagnosis["verdict"],
    )


def _findings(
    diagnosis: dict[str, Any], other_cores: float, plants: tuple[str, ...]
) -> list[dict[str, Any]]:
    """All findings of all trainings of the command, without the excused one."""
    excused = other_cores >= LEAST_OTHER_CORES and CONTENTION not in plants
    findings = [f for f in diagnosis["findings"] if not (excused and f["rule"] == CONTENTION)]
    for other in diagnosis.get("other_sessions", ()):
        findings += _findings(other, other_cores, plants)
    return findings


def _first_place(findings: list[dict[str, Any]], rules: set[str]) -> int | None:
    places = (place for place, finding in enumerate(findings) if finding["rule"] in rules)
    return next(places, None)


def _second_rank(findings: list[dict[str, Any]], case: Case) -> int | None:
    if len(case.plants) < 2:
        return None
    place = _first_place(findings, {case.plants[1]})
    return None if place is None else place + 1


def _points_at(finding: dict[str, Any], text: str | None, folder: Path) -> bool | None:
    """Whether the line of the finding, in a file of the case, holds the text."""
    if text is None:
        return None
    where = finding["where"]
    if where is None:
        return False
    path = Path(where["file"])
    if path.name not in {source.name for source in folder.glob("*.py")}:
        return False
    lines = (folder / path.name).read_text(encoding="utf-8").splitlines()
    return 1 <= where["line"] <= len(lines) and text in lines[where["line"] - 1]


def _names_next(findings: list[dict[str, Any]], case: Case) -> bool | None:
    if case.next_bottleneck is None or not findings:
        return None
    return case.next_bottleneck in (findings[0]["next_bottleneck"] or "")
