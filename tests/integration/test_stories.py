"""The sample runs through the installed command: the right diagnosis, and no false alarm."""

import ast
import difflib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

STORIES = Path(__file__).resolve().parents[2] / "sample_runs"
CATALOGUE = Path(__file__).resolve().parents[2] / "rules" / "catalogue"
FIELDS = {
    "title",
    "verdict",
    "expected_rule",
    "acceptable_rules",
    "where",
    "fix",
    "why",
    "planted_share",
    "min_ratio",
}


@dataclass(frozen=True)
class Story:
    """One folder of sample_runs."""

    folder: Path

    @property
    def case(self):
        return json.loads((self.folder / "case.json").read_text())

    @property
    def has_bottleneck(self):
        return self.case["verdict"] == "bottleneck"


ALL_STORIES = [Story(path.parent) for path in sorted(STORIES.glob("*/case.json"))]
SLOW = (
    "double_precision",
    "garbage_collection",
    "growing_loss",
    "many_small_tensors",
    "save_every_step",
    "short_epochs",
)
"""Another story, or a test of its own, has the same rule; `pytest -m slow` runs these."""


def _stories(wanted):
    """As parameters."""
    return [
        pytest.param(
            story, id=story.folder.name, marks=[pytest.mark.slow] * (story.folder.name in SLOW)
        )
        for story in wanted
    ]


def name_of(story):
    return story.folder.name


def findings_at_warn(diagnosis):
    return [finding for finding in diagnosis["findings"] if finding["severity"] != "info"]


@pytest.fixture(
    scope="module", params=_stories(story for story in ALL_STORIES if story.has_bottleneck)
)
def diagnosed(request, profile):
    """A story with a bottleneck, and what trainprof says of its train.py."""
    story = request.param
    profiled = profile([sys.executable, "-W", "ignore", story.folder / "train.py"])
    assert profiled.status == 0, profiled.stderr
    return story, profiled


def test_verdict_is_a_bottleneck(diagnosed):
    _, profiled = diagnosed
    assert profiled.diagnosis["verdict"] == "bottleneck"


def test_first_finding_is_the_planted_cause(diagnosed):
    story, profiled = diagnosed
    # That the machine is busy may be said beside, and before, what the script does wrong.
    rules = [
        finding["rule"]
        for finding in profiled.diagnosis["findings"]
        if not (finding["rule"] == "loop-contention" and finding["severity"] == "info")
    ]
    assert rules[0] == story.case["expected_rule"], rules


def test_nothing_else_is_blamed(diagnosed):
    story, profiled = diagnosed
    case = story.case
    blamed = {finding["rule"] for finding in findings_at_warn(profiled.diagnosis)}
    assert blamed <= {case["expected_rule"], *case["acceptable_rules"]}


def test_finding_names_the_line(diagnosed):
    story, profiled = diagnosed
    case = story.case
    (finding,) = (
        one for one in profiled.diagnosis["findings"] if one["rule"] == case["expected_rule"]
    )
    where = finding["where"]
    assert Path(where["file"]).samefile(story.folder / "train.py")
    line = (story.folder / "train.py").read_text().splitlines()[where["line"] - 1]
    assert case["where"] in line


def test_finding_is_complete(diagnosed):
    story, profiled = diagnosed
    (finding,) = (
        one for one in profiled.diagnosis["findings"] if one["rule"] == story.case["expected_rule"]
    )
    assert finding["evidence"]
    assert finding["fixes"]
    assert finding["summary"].endswith(".")
    gain = finding["gain"]
    if gain is not None:
        assert 1 <= gain["low"] <= gain["high"]


def test_report_shows_the_line_and_the_fix(diagnosed):
    story, profiled = diagnosed
    assert story.case["expected_rule"] in profiled.stderr
    assert "train.py:" in profiled.stderr


@pytest.mark.parametrize("story", _stories(ALL_STORIES))
def test_healthy_script_is_left_alone(story, profile):
    script = story.folder / ("fixed.py" if story.has_bottleneck else "train.py")
    profiled = profile([sys.executable, "-W", "ignore", script])
    assert profiled.status == 0, profiled.stderr
    alarms = [(one["rule"], one["summary"]) for one in findings_at_warn(profiled.diagnosis)]
    if alarms and any(one["rule"] == "loop-contention" for one in profiled.diagnosis["findings"]):
        pytest.skip(f"other programs had the CPU, and the report says so beside {alarms[0][0]}")
    assert alarms == []
    assert profiled.diagnosis["verdict"] == "healthy", profiled.diagnosis["headline"]


@pytest.mark.parametrize("story", ALL_STORIES, ids=name_of)
class TestCaseFiles:
    """What case.json promises is in the folder."""

    def test_fields(self, story):
        case = story.case
        assert set(case) >= FIELDS
        assert case["verdict"] in ("bottleneck", "healthy")
        assert (story.folder / "fixed.py").exists() == story.has_bottleneck

    def test_expected_rule_is_in_the_catalogue(self, story):
        for rule in filter(None, [story.case["expected_rule"], *story.case["acceptable_rules"]]):
            family, _, slug = rule.partition("-")
            assert (CATALOGUE / family / f"{slug.replace('-', '_')}.py").exists()

    def test_measured_cost_is_a_cost(self, story):
        case = story.case
        if story.has_bottleneck:
            assert case["min_ratio"] <= case["measured"]["ratio"]
            assert case["planted_share"] == pytest.approx(
                1 - 1 / case["measured"]["ratio"], abs=0.01
            )

    def test_scripts_are_plausible(self, story):
        for script in story.folder.glob("*.py"):
            tree = ast.parse(script.read_text())
            functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
            assert ast.get_docstring(tree)
            assert "main" in functions
            assert "trainprof" not in script.read_text()

    def test_twins_differ_by_one_thing(self, story):
        if not story.has_bottleneck:
            pytest.skip("a healthy story has no twin")
        bad, good = (
            (story.folder / name).read_text().splitlines() for name in ("train.py", "fixed.py")
        )
        blocks = [
            block
            for block in difflib.SequenceMatcher(None, bad, good, autojunk=False).get_opcodes()
            if block[0] != "equal"
        ]
        changed = sum(max(last - first, end - start) for _, first, last, start, end in blocks)
        assert 1 <= len(blocks) <= 4
        assert changed <= 8
