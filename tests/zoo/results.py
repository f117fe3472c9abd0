"""Recording and verdict of each script, side by side: what the table is made of."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.cases import Case, Script
from zoo.judge import FaultVerdict, HealthyVerdict, judge_fault, judge_healthy
from zoo.recording import diagnosis_of, recorded


@dataclass(frozen=True)
class Result:
    """One script that was run.

    Attributes:
        fault, healthy: The verdict, one of the two; both None if the script itself failed.
        step_s: Mean wall time of a steady step.
        planted_share: Share of the step that the plant costs, as the script or case.json says.
        other_cores: Mean number of cores that other programs used meanwhile.
    """

    script: Script
    fault: FaultVerdict | None
    healthy: HealthyVerdict | None
    step_s: float | None
    planted_share: float | None
    other_cores: float
    error: str = ""

    @property
    def case(self) -> Case:
        return self.script.case


def result_of(script: Script) -> Result | None:
    """What is known of a script; None if it has not been run."""
    facts = recorded(script)
    if facts is None:
        return None
    others, planted = facts["other_cores"], facts["planted_share"]
    if facts["status"] != 0:
        return Result(script, None, None, None, planted, others, facts["error"])
    diagnosis = diagnosis_of(script)
    is_fault = script.role == "fault"
    return Result(
        script,
        judge_fault(script.case, diagnosis, others) if is_fault else None,
        None if is_fault else judge_healthy(diagnosis, others),
        diagnosis["steps"]["mean_s"],
        planted,
        others,
    )
