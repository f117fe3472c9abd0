"""What is in the zoo: case folders, and the scripts that are run for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
ZOO = REPOSITORY / "tests" / "zoo"
GROUPS = {
    "stories": REPOSITORY / "sample_runs",
    "cases": ZOO / "cases",
    "blind": ZOO / "blind",
    "compound": ZOO / "compound",
    "severity": ZOO / "severity",
    "healthy": ZOO / "healthy",
}
"""Folders of case folders. A new case needs no line anywhere else."""


@dataclass(frozen=True)
class Case:
    """One case folder, as its case.json describes it.

    Attributes:
        plants: Rules to expect, the one with the larger share first; none in a healthy case.
        wheres: Beside each plant, text of the source line that its finding must point to.
        acceptable: Rules that name the same cause rightly in other words.
        planted_share: Share of the step that the plant costs, unless the script says it itself.
        next_bottleneck: Text to find in what the first finding says of the time after its fix.
        levels: Percentages of the step for `train.py --share N`, a run each.
        launcher: Arguments of Python before the script, e.g. `-m torch.distributed.run`.
        quiet_only: True where a busy neighbour would turn the fault into a virtue.
    """

    group: str
    folder: Path
    title: str
    plants: tuple[str, ...]
    wheres: tuple[str | None, ...]
    acceptable: frozenset[str] = frozenset()
    planted_share: float | None = None
    next_bottleneck: str | None = None
    levels: tuple[int, ...] = ()
    launcher: tuple[str, ...] = ()
    quiet_only: bool = False

    @property
    def name(self) -> str:
        """Group and folder, e.g. `cases/token_lists`."""
        return f"{self.group}/{self.folder.name}"

    @property
    def is_judged(self) -> bool:
        """Whether the catalogue has a rule for it; a blind case may be ahead of its rule."""
        return not self.plants or any(map(has_rule, (self.plants[0], *self.acceptable)))

    @property
    def is_busy(self) -> bool:
        """Whether it runs beside a busy neighbour: a third of the cases, the same ones always."""
        if self.quiet_only or self.levels:
            return False
        return int(hashlib.sha256(self.name.encode()).hexdigest(), 16) % 3 == 0

    @property
    def scripts(self) -> tuple[Script, ...]:
        """What is run for it."""
        if self.levels:
            return tuple(
                Script(self, "fault", "train.py", ("--share", str(level)), level)
                for level in self.levels
            )
        if not self.plants:
            return (Script(self, "healthy", "train.py"),)
        fault = Script(self, "fault", "train.py")
        if not (self.folder / "fixed.py").exists():
            return (fault,)
        return (fault, Script(self, "twin", "fixed.py"))


@dataclass(frozen=True)
class Script:
    """One script of a case, with its arguments. `role` is fault, twin or healthy."""

    case: Case
    role: str
    file: str
    arguments: tuple[str, ...] = ()
    level: int | None = None

    @property
    def path(self) -> Path:
        return self.case.folder / self.file

    @property
    def name(self) -> str:
        """Case and file, e.g. `cases/token_lists/train.py --share 25`."""
        return " ".join([f"{self.case.name}/{self.file}", *self.arguments])


def has_rule(rule: str) -> bool:
    """Whether the catalogue holds it."""
    family, _, slug = rule.partition("-")
    return (REPOSITORY / "rules" / "catalogue" / family / f"{slug.replace('-', '_')}.py").exists()


def read_case(group: str, folder: Path) -> Case:
    """Reads case.json; its form is that of sample_runs, with a few optional fields more."""
    text = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    first = text["expected_rule"]
    return Case(
        group=group,
        folder=folder,
        title=text["title"],
        plants=(first, *text.get("also_expected", ())) if first else (),
        wheres=(text.get("where"), *text.get("also_where", ())) if first else (),
        acceptable=frozenset(text.get("acceptable_rules") or ()),
        planted_share=text.get("planted_share"),
        next_bottleneck=text.get("next_bottleneck"),
        levels=tuple(text.get("levels", ())),
        launcher=tuple(text.get("launcher", ())),
        quiet_only=text.get("quiet_only", False),
    )


def all_cases() -> Iterator[Case]:
    """Every case of every group, by name."""
    for group, folder in GROUPS.items():
        for path in sorted(folder.glob("*/case.json")):
            yield read_case(group, path.parent)


def in_running_order(cases: list[Case]) -> list[Case]:
    """Mixed, and the same each time: a run that is cut short has seen some of everything."""
    return sorted(cases, key=lambda case: hashlib.sha256(f"order {case.name}".encode()).digest())
