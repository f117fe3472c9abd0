"""Trace files in all their forms: what can be read is read, the rest is a sentence."""

from __future__ import annotations

import gzip
import json
import random
import re
from pathlib import Path

import pytest
from trace_builder import TraceBuilder

from trainprof.profiler.traces import reading, text_parts
from trainprof.profiler.traces.events import Kind
from trainprof.profiler.traces.reading import TraceError, read_trace
from trainprof.profiler.traces.timeline import timeline

REAL = Path(__file__).parents[4] / "shared" / "traces"
FAULTS = (b"null", b"NaN", b"1e999", b'"x"', b"[[[[", b"}}", b"\xff", b"9" * 30, b'{"a":[{},{}]}')


def small():
    builder = TraceBuilder().step(1, 100, 50)
    for number in range(40):
        builder.kernel(f"kernel{number % 3}", 100 + number, 1, correlation=number)
        builder.call("cudaLaunchKernel", 99 + number, 1, correlation=number)
    return builder


def contents(trace):
    """All that lasts, readable."""
    events = trace.events
    return [
        (
            Kind(events.kind[place]).name,
            trace.names[events.name[place]],
            int(events.start_ns[place]),
            int(events.end_ns[place]),
            int(events.correlation[place]),
        )
        for place in range(len(events))
    ]


FORMS = [{}, {"indent": 2}, {"as_list": True}, {"as_list": True, "indent": 1}, {"packed": True}]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("part", [64, 1000, 1 << 24])
def test_every_form_holds_the_same(tmp_path, monkeypatch, form, part):
    """Also where a part ends in the middle of anything."""
    expected = contents(read_trace(small().write(tmp_path / "plain.json")))
    monkeypatch.setattr(text_parts, "PART_BYTES", part)
    trace = read_trace(small().write(tmp_path / "trace.json", **form))
    assert contents(trace) == expected
    assert len(expected) == 81
    assert (trace.skipped, trace.torn) == (0, False)


def test_what_stands_around_the_events_is_read(tmp_path):
    path = tmp_path / "trace.json"
    text = small().text(deviceProperties=[{"id": 0, "name": "V100"}])
    path.write_text(f'{text[:-1]}, "traceName": "a", "list": [{{"b": [1]}}, {{"c": 2}}]}}')
    header = read_trace(path).header
    assert header["deviceProperties"] == [{"id": 0, "name": "V100"}]
    assert (header["traceName"], header["list"]) == ("a", [{"b": [1]}, {"c": 2}])


def test_what_follows_the_events_is_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(text_parts, "PART_BYTES", 1000)
    event = {"ph": "X", "cat": "kernel", "name": "k", "ts": 1, "dur": 5, "args": {"device": 0}}
    frames = {str(number): {"name": f"f{number}"} for number in range(300)}
    devices = [{"id": 0, "name": "V100"}]
    whole = {"traceEvents": [event] * 30, "stackFrames": frames, "deviceProperties": devices}
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(whole))
    trace = read_trace(path)
    assert (len(trace.events), trace.header.get("deviceProperties")) == (30, devices)


def test_times_are_kept_to_the_nanosecond(tmp_path):
    builder = TraceBuilder().kernel("a", 1_600_000_000_000_001, 3).kernel("b", 7_912_345.678, 0.321)
    builder.kernel("c", 77_123, 1)
    trace = read_trace(builder.write(tmp_path / "trace.json"))
    assert [(start, end - start) for _, _, start, end, _ in contents(trace)] == [
        (77_123_000, 1_000),
        (7_912_345_678, 321),
        (1_600_000_000_000_001_000, 3_000),
    ]
    text = builder.text().replace("77123", "1712167914123456.789")
    (tmp_path / "trace.json").write_text(text)
    starts = [start for _, _, start, _, _ in contents(read_trace(tmp_path / "trace.json"))]
    assert starts == [7_912_345_678, 1_600_000_000_000_001_000, 1_712_167_914_123_456_789]


@pytest.mark.parametrize("time", ['"sNaN"', '"NaN"', '"Infinity"', "1e999999"])
def test_a_time_that_is_no_number_is_none(tmp_path, time):
    path = tmp_path / "trace.json"
    event = '{"ph":"X","cat":"kernel","name":"k","ts":%s,"dur":5}'
    path.write_text(f"[{event % '1700000000000000.123'},{event % time}]")
    assert read_trace(path).events.start_ns.tolist() == [0, 1_700_000_000_000_000_123]


def test_numbers_in_quotes_and_older_names(tmp_path):
    event = {"ph": "X", "cat": "Kernel", "name": "k", "pid": "0", "tid": "stream 7"}
    event |= {"ts": "12", "dur": 3, "args": {"stream": "7", "device": "0", "correlation": "5"}}
    path = tmp_path / "trace.json"
    path.write_text(json.dumps([event]))
    trace = read_trace(path)
    assert contents(trace) == [("KERNEL", "k", 12_000, 15_000, 5)]
    assert (trace.events.stream[0], trace.events.device[0]) == (7, 0)
    assert trace.lanes == [("0", "stream 7")]


def test_an_argument_of_another_type_is_left_out_alone(tmp_path):
    builder = small()
    builder.events[5]["args"] = {"correlation": ["?"], "device": 0, "stream": None}
    builder.events[7]["dur"] = {"no": "number"}
    builder.events[9] = 17
    trace = read_trace(builder.write(tmp_path / "trace.json"))
    assert (len(trace.events), trace.skipped) == (80, 1)


def test_what_the_allocator_did_is_kept(tmp_path):
    builder = small()
    said = {"Bytes": -512, "Total Allocated": 1024, "Total Reserved": 2048, "Device Id": 0}
    event = {"ph": "i", "name": "[memory]", "pid": 1, "tid": 1, "ts": 12.5}
    said["Addr"] = 2**47
    builder.events += [{**event, "args": said}, {**event, "args": {"Bytes": 64, "Device Id": -1}}]
    trace = read_trace(builder.write(tmp_path / "trace.json"))
    lane = trace.lanes.index(("1", "1"))
    first, second = [12_500, -512, 1024, 2048, 0, 2**47, lane], [12_500, 64, -1, -1, -1, -1, lane]
    assert trace.memory.tolist() == [first, second]


def test_begins_and_ends_are_put_together(tmp_path):
    both = [{"ph": "B", "cat": "cpu_op", "name": "outer", "pid": 1, "tid": 1, "ts": 10}]
    both += [{"ph": "B", "cat": "cpu_op", "name": "inner", "pid": 1, "tid": 1, "ts": 12}]
    both += [{"ph": "E", "pid": 1, "tid": 1, "ts": 14}, {"ph": "E", "pid": 1, "tid": 1, "ts": 20}]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(both))
    assert contents(read_trace(path)) == [
        ("OPERATOR", "outer", 10_000, 20_000, -1),
        ("OPERATOR", "inner", 12_000, 14_000, -1),
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_a_torn_file_gives_what_it_holds(tmp_path, packed):
    whole = small().text(indent=1).encode()
    path = tmp_path / "trace.json"
    path.write_bytes(gzip.compress(whole)[:-40] if packed else whole[: len(whole) // 2])
    trace = read_trace(path)
    assert trace.torn
    assert 30 < len(trace.events) < 81


def test_a_broken_event_is_counted_and_the_rest_read(tmp_path):
    text = small().text()
    path = tmp_path / "trace.json"
    path.write_text(text.replace('"name": "kernel1"', '"name": "ker"nel1"', 1))
    trace = read_trace(path)
    assert (len(trace.events), trace.skipped, trace.torn) == (80, 1, False)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "it holds no list of events"),
        (b"hello", "it holds no list of events"),
        (b"[]", "it holds no events that last"),
        (b'{"traceEvents": []}', "it holds no events that last"),
        (gzip.compress(b" " * 3_000_000), "hold no event"),
        (b'{"traceEvents": [' + b" " * 3_000_000, "hold no event"),
    ],
)
def test_what_is_no_trace_is_told(tmp_path, monkeypatch, content, sentence):
    monkeypatch.setattr(text_parts, "PART_BYTES", 1 << 16)
    monkeypatch.setattr(reading, "MOST_PENDING", 1 << 20)
    path = tmp_path / "trace.json"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=sentence):
        read_trace(path)


@pytest.mark.parametrize(
    "frames", [["f" * 1_300_000], [{"name": "f" * 100}] * 11_000], ids=["one long", "many"]
)
def test_much_text_beside_the_events_is_told(tmp_path, monkeypatch, frames):
    """The events were read, so it is not said that there are none."""
    monkeypatch.setattr(text_parts, "PART_BYTES", 1 << 16)
    monkeypatch.setattr(reading, "MOST_PENDING", 1 << 20)
    path = tmp_path / "trace.json"
    path.write_text(f'{small().text()[:-1]}, "stackFrames": {json.dumps(frames)}}}')
    with pytest.raises(TraceError, match="more than 1 MiB of it stand beside its list of events"):
        read_trace(path)


def test_no_file_and_too_many_events_are_told(tmp_path, monkeypatch):
    with pytest.raises(TraceError, match="No such file"):
        read_trace(tmp_path / "none.json")
    monkeypatch.setattr(reading, "MOST_EVENTS", 50)
    monkeypatch.setattr(text_parts, "PART_BYTES", 1 << 12)
    with pytest.raises(TraceError, match="more than 50 events; record fewer steps"):
        read_trace(small().write(tmp_path / "trace.json"))


def mutated(text, random_of):
    """The text with something wrong in it."""
    text = bytearray(text)
    place = random_of.randrange(len(text))
    how = random_of.randrange(5)
    if how == 0:
        for _ in range(10):
            text[random_of.randrange(len(text))] = random_of.randrange(256)
    elif how == 1:
        del text[place:]
    elif how == 2:
        del text[place : place + random_of.randrange(1, 2000)]
    elif how == 3:
        text[place:place] = random_of.choice(FAULTS)
    else:
        numbers = list(re.finditer(rb": -?[\d.]+", text))
        for one in reversed(random_of.sample(numbers, min(20, len(numbers)))):
            text[one.start() + 2 : one.end()] = random_of.choice(FAULTS)
    return bytes(text)


def test_broken_files_give_a_trace_or_a_sentence(tmp_path):
    """The small ones of the real traces too, where they are."""
    texts = [small().text(indent=2).encode(), small().text(as_list=True).encode()]
    files = [one for one in sorted(REAL.glob("*/*.gz")) if one.stat().st_size < 16_000]
    texts += [gzip.decompress(one.read_bytes()) for one in files]
    random_of, path = random.Random(4), tmp_path / "trace.json"
    read = 0
    for _ in range(400):
        content = mutated(random_of.choice(texts), random_of)
        path.write_bytes(gzip.compress(content) if random_of.random() < 0.2 else content)
        try:
            trace = read_trace(path)
        except TraceError:
            continue
        timeline(trace)
        read += 1
    assert read > 200
