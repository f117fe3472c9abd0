"""Each fix stands in the page of tunes, and says how the source would read, or what to write."""

from pathlib import Path

import pytest

from trainprof.rules.fixes.fix import Fix
from trainprof.rules.fixes.registry import all_fixes

PAGE = Path(__file__).parents[2] / "docs" / "tuning.md"
OURS = [kind for kind in all_fixes().values() if kind.__module__.startswith("trainprof.")]


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.id)
def test_a_fix_stands_in_its_table(kind):
    assert f"\n| `{kind.id}` | " in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.id)
def test_a_fix_says_what_to_write(kind):
    assert kind.edit is not Fix.edit or kind.by_hand


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.id)
def test_a_fix_has_a_page_of_its_own_words(kind):
    assert kind.title
    assert len((kind.__doc__ or "").split()) > 10
