"""The case folders, and a small part of the zoo through the installed command.

`make zoo` runs all of it; CI runs what is named here.
"""

import ast
import difflib
import hashlib
import json

import pytest

from zoo import recording
from zoo.cases import GROUPS, all_cases, has_rule
from zoo.judge import LEAST_OTHER_CORES
from zoo.results import result_of

CASES = list(all_cases())
IN_CI = (
    "compound/log_and_checkpoints",
    "healthy/memory_warms_up",
)
"""Short ones; the stories in tests/integration are cases with one cause and their twins."""


TAUGHT = ("how_to", "worn_bearing")
"""Sample runs that pages of the documentation are about; `refresh_outputs.py` runs these."""


def name_of(case):
    return case.name


def test_every_folder_is_a_case():
    folders = {
        path
        for group in GROUPS.values()
        if group.exists()
        for path in group.iterdir()
        if path.is_dir() and path.name != "__pycache__"
    }
    taught = {path for path in folders if path.name in TAUGHT}
    assert folders - taught == {case.folder for case in CASES}


@pytest.mark.parametrize("case", [one for one in CASES if one.group != "blind"], ids=name_of)
class TestCaseFolders:
    """What case.json promises is in the folder. The blind cases stay as they were written."""

    def test_rules_exist(self, case):
        for rule in (*case.plants, *case.acceptable):
            assert has_rule(rule)

    def test_fields_fit_the_verdict(self, case):
        verdict = json.loads((case.folder / "case.json").read_text())["verdict"]
        assert verdict in ("bottleneck", "healthy")  # healthy with a plant: it costs a note only
        assert case.plants or verdict == "healthy"
        assert len(case.wheres) == len(case.plants)

    def test_there_is_a_twin_where_one_cause_is_planted(self, case):
        has_one_plant = len(case.plants) == 1 and not case.levels
        assert (case.folder / "fixed.py").exists() == has_one_plant

    def test_scripts_are_plausible(self, case):
        for script in case.scripts:
            assert ast.parse(script.path.read_text()).body
            assert "trainprof" not in script.path.read_text()

    def test_the_line_is_in_the_script(self, case):
        for text in filter(None, case.wheres):
            assert any(text in source.read_text() for source in case.folder.glob("*.py"))

    def test_twins_differ_by_one_thing(self, case):
        if not (case.folder / "fixed.py").exists():
            pytest.skip("there is no twin")
        bad, good = (
            [
                line
                for line in (case.folder / name).read_text().splitlines()
                if not line.startswith(("import ", "from "))  # they follow from the change
            ]
            for name in ("train.py", "fixed.py")
        )
        matcher = difflib.SequenceMatcher(None, bad, good, autojunk=False)
        blocks = [block for block in matcher.get_opcodes() if block[0] != "equal"]
        changed = sum(max(last - first, end - start) for _, first, last, start, end in blocks)
        assert 1 <= len(blocks) <= 6
        assert changed <= 30


def test_blind_cases_are_as_they_were_written():
    folder = GROUPS["blind"]
    if not folder.exists():
        pytest.skip("this checkout has none")
    noted = dict(reversed(line.split()) for line in (folder / "HASHES").read_text().splitlines())
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*/*.py")
    }
    assert found == noted


@pytest.fixture(scope="module", params=[case for case in CASES if case.name in IN_CI], ids=name_of)
def results(request, tmp_path_factory):
    """Runs a case as `make zoo` does, in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording, "RECORDINGS", tmp_path_factory.mktemp("zoo"))
        for script in request.param.scripts:
            recording.record(script)
        yield [result_of(script) for script in request.param.scripts]


def test_the_plant_is_found_and_nothing_else_is_blamed(results):
    for result in results:
        assert not result.error
        alarms = (result.fault or result.healthy).alarms
        if alarms and result.other_cores >= LEAST_OTHER_CORES and not result.case.is_busy:
            pytest.skip(f"other programs used {result.other_cores} cores beside {alarms}")
        assert alarms == ()
        assert result.fault is None or result.fault.found_first, result.fault
