"""When a look at the data set is worth the seconds it takes after the training."""

import json

import pytest

from trainprof.profiler.probe.worth import TAIL_BYTES, why_not

HEADER = {"format": 1, "base_ns": 0, "columns": ["index", "start", "wall", "data_wait"]}


@pytest.fixture
def run(tmp_path):
    """A run folder with the steps (wall, data wait) and facts given."""

    def make(steps, facts=(), torn=""):
        process = tmp_path / "procs" / "host-1-1"
        process.mkdir(parents=True)
        rows = [[i, i * 100, wall, wait] for i, (wall, wait) in enumerate(steps)]
        lines = [json.dumps(line, separators=(",", ":")) for line in [HEADER, *rows]]
        (process / "steps.jsonl").write_text("\n".join(lines) + "\n" + torn)
        text = "".join(json.dumps(fact, separators=(",", ":")) + "\n" for fact in facts)
        (process / "facts.jsonl").write_text(text + torn)
        return tmp_path

    return make


def batch(dtype, shape):
    return {"kind": "batch", "key": "l0", "data": {"tensors": [{"dtype": dtype, "shape": shape}]}}


def test_a_training_that_hardly_waits_is_left_alone(run):
    folder = run([(1000, 20)] * 50, [batch("float32", [8, 4]), batch("int64", [8])])
    assert "hardly waits" in why_not(folder, 10.0)


def test_a_training_that_waits_is_looked_at(run):
    assert why_not(run([(1000, 60)] * 50), 10.0) is None


def test_rows_of_integers_may_be_padded(run):
    assert why_not(run([(1000, 0)] * 50, [batch("int64", [8, 64])]), 10.0) is None


def test_padding_that_a_mask_has_told_needs_no_look(run):
    padding = {"kind": "padding", "key": "l0", "data": {"padding_by_mask": True}}
    assert why_not(run([(1000, 0)] * 50, [batch("int64", [8, 64]), padding]), 10.0) is not None


def test_after_a_minute_a_few_seconds_do_not_matter(run):
    assert why_not(run([(1000, 0)] * 50), 61.0) is None


def test_only_the_last_steps_count(run):
    many = TAIL_BYTES // 12
    folder = run([(1000, 900)] * many + [(1000, 0)] * many)
    assert why_not(folder, 10.0) is not None


@pytest.mark.parametrize("torn", ["[3,", '{"kind":"batch","da', "\0\0"])
def test_torn_lines_are_passed_over(run, torn):
    assert why_not(run([(1000, 20)] * 5, torn=torn), 10.0) is not None


def test_a_run_without_steps_has_nothing_to_look_at(tmp_path):
    assert why_not(tmp_path, 10.0) is not None
