"""Near copies by the libraries of the extra `near-duplicates`, from sketches as they arrive."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.probe import near_copies
from trainprof.profiler.probe.near_copies import compare_sketches


@pytest.fixture
def compare(tmp_path):
    """Compares sketches; each has a code of its own unless it brings one."""

    def run(sketches, tail=""):
        path = tmp_path / "sketches"
        lines = [json.dumps({"code": str(n), **one}) for n, one in enumerate(sketches)]
        path.write_text("\n".join(lines) + "\n" + tail)
        return compare_sketches(path)

    return run


def texts(count, words=60):
    chooser = random.Random(5)
    return [{"runs": [chooser.getrandbits(32) for _ in range(words)]} for _ in range(count)]


def pictures(count):
    chooser = random.Random(5)
    return [{"grey": [chooser.randrange(256) for _ in range(81)]} for _ in range(count)]


def test_texts_that_differ_in_a_few_words_are_alike(compare):
    pytest.importorskip("rensa")
    rows = texts(60)
    rows += [{"runs": [*rows[n]["runs"][:-2], 1, 2]} for n in range(6)]
    rows += [{"runs": [*rows[n]["runs"][:30], *range(n * 100, n * 100 + 30)]} for n in range(6)]
    found = compare(rows)
    assert found["near"] == "text"
    assert (found["near_items"], found["near_contents"]) == (72, 72)
    assert (found["near_pairs"], found["near_groups"]) == (6, 66)


def test_images_that_are_a_little_brighter_are_alike(compare):
    pytest.importorskip("dhash")
    rows = pictures(60)
    rows += [{"grey": [min(value + 3, 255) for value in rows[n]["grey"]]} for n in range(5)]
    found = compare(rows)
    assert found["near"] == "image"
    assert (found["near_pairs"], found["near_groups"]) == (5, 60)


def test_flat_images_of_other_greys_are_not_alike(compare):
    """Their difference hashes are equal: nothing but zeros."""
    pytest.importorskip("dhash")
    rows = [{"grey": [255] + [n * 4] * 80} for n in range(60)]
    assert compare(rows)["near_pairs"] < 60


def test_equal_items_are_no_near_copies(compare):
    pytest.importorskip("rensa")
    rows = texts(50)
    found = compare([*rows, {**rows[0], "code": "0"}])
    assert (found["near_items"], found["near_contents"], found["near_pairs"]) == (51, 50, 0)


def test_too_few_and_none_say_nothing(compare, tmp_path):
    assert compare(texts(49)) == {}
    assert compare_sketches(tmp_path / "absent") == {}


def test_a_torn_last_line_is_left_out(compare):
    pytest.importorskip("rensa")
    assert compare(texts(55), tail='{"code": "x", "ru')["near_items"] == 55


def test_a_library_that_is_not_there_is_named(compare, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(near_copies, "import_module", absent)
    reason = compare(texts(60))["near_reason"]
    assert "rensa, which is not installed" in reason
    assert "trainprof[near-duplicates]" in reason


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20))
def test_groups_are_what_pairs_join(pairs):
    groups = [{place} for place in range(10)]
    for one, other in pairs:
        joined = [group for group in groups if one in group or other in group]
        groups = [group for group in groups if group not in joined] + [set().union(*joined)]
    assert near_copies._groups(10, pairs) == len(groups)
