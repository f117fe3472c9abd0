"""What stands around the traces of a run: requests, answers, packed files."""

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.store.trace_files import (
    MOST_STEPS,
    answer_path,
    order_numbers,
    order_path,
    read_object,
    requested_steps,
    step_range,
    trace_path,
    write_object,
)
from trainprof.profiler.store.traces import pack_traces, read_traces


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("120", (120, 1)),
        ("0", (0, 1)),
        ("120-124", (120, 5)),
        ("124-120", None),
        ("1-21", None),
        ("-3", None),
        ("auto", None),
        ("1.5", None),
    ],
)
def test_steps_of_the_command_line(text, found):
    assert step_range(text) == found


@given(st.text())
def test_any_request_is_a_number_of_steps_or_none(text):
    steps = requested_steps(text)
    assert steps is None or 1 <= steps <= MOST_STEPS


@pytest.mark.parametrize(("text", "steps"), [("", 3), (" \n", 3), ("5", 5), ('{"steps": 7}', 7)])
def test_what_a_request_may_say(text, steps):
    assert requested_steps(text) == steps


def test_traces_are_packed_and_found_with_their_steps(tmp_path):
    run = str(tmp_path)
    path = trace_path(run, "host-1-2", 120)
    write_object(answer_path(run, "host-1-2", 1), answer("written", file=path.rpartition("/")[2]))
    with open(path, "w") as file:
        file.write('{"traceEvents": []}')
    for _ in range(2):  # whoever comes first packs it
        pack_traces(tmp_path)
        (record,) = read_traces(tmp_path)
        assert (record.process, record.first, record.steps) == ("host-1-2", 120, 3)
        assert gzip.decompress(Path(record.path).read_bytes()) == b'{"traceEvents": []}'
    assert not (tmp_path / "traces" / "host-1-2-step-120.pt.trace.json").exists()


def test_a_trace_that_cannot_be_packed_stays(tmp_path, monkeypatch):
    path = trace_path(str(tmp_path), "host-1-2", 4)
    write_object(path, {})

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gzip, "open", full)
    pack_traces(tmp_path)
    (record,) = read_traces(tmp_path)
    assert record.path == path


def test_answers_without_a_trace_give_their_reason(tmp_path):
    run = str(tmp_path)
    write_object(answer_path(run, "host-1-2", 1), answer("refused", reason="no"))
    write_object(answer_path(run, "host-1-3", 1), answer("armed"))
    refused, armed = read_traces(tmp_path)
    assert (refused.path, refused.reason) == (None, "no")
    assert (armed.path, armed.reason) == (None, None)


@given(st.binary())
def test_damaged_answers_are_passed_over(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("run")
    (folder / "traces").mkdir()
    (folder / "traces" / "host-1-2-window-1.json").write_bytes(data)
    read_traces(folder)


def test_orders_are_counted(tmp_path):
    assert order_numbers(str(tmp_path)) == []
    for number in (2, 10, 1):
        write_object(order_path(str(tmp_path), number), {"first": number})
    write_object(answer_path(str(tmp_path), "host-1-2", 99), answer("armed"))
    assert order_numbers(str(tmp_path)) == [1, 2, 10]
    assert read_object(order_path(str(tmp_path), 10)) == {"format": 1, "first": 10}


def answer(state, **more):
    return json.loads(json.dumps({"state": state, "first": 120, "steps": 3, **more}))
