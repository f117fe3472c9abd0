"""Reads a Chrome trace as strictly as can be: what a viewer would have to guess is an error."""

import gzip
import json
from collections import defaultdict
from decimal import Decimal


def never(text):
    raise AssertionError(f"{text} is no number of JSON")


def plain_picture(path):
    """Rows by process and name: (name, start, end) in ns, each within one before it or after it."""
    raw = path.read_bytes()
    text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    found = json.loads(text.decode(), parse_float=Decimal, parse_constant=never)
    processes, threads = {}, {}
    rows, counters = defaultdict(list), defaultdict(list)
    for event in found["traceEvents"]:
        place = event["pid"], event.get("tid")
        if event["ph"] == "M":
            if event["name"] == "process_name":
                processes[event["pid"]] = event["args"]["name"]
            elif event["name"] == "thread_name":
                threads[place] = event["args"]["name"]
        elif event["ph"] == "X":
            start = round(event["ts"] * 1000)
            rows[place].append((event["name"], start, start + round(event["dur"] * 1000)))
        elif event["ph"] == "C":
            assert isinstance(event["args"]["value"], int | Decimal)
            counters[processes[event["pid"]], event["name"]].append(event["ts"])
    named = {}
    for place, row in rows.items():
        key = processes.get(place[0], place[0]), threads.get(place, place[1])
        assert key not in named, f"two rows are called {key}"
        named[key] = row
    for times in counters.values():
        assert times == sorted(times)
    return named, counters, found


def nested(row):
    """Asserts that slices come in order, and that none ends after one in which it begins."""
    ends, before = [], None
    for name, start, end in row:
        assert end >= start, name
        assert before is None or start >= before, name
        while ends and ends[-1] <= start:
            ends.pop()
        assert not ends or end <= ends[-1], name
        ends.append(end)
        before = start
