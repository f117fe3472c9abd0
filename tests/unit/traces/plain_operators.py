"""Operators in the plainest way: Python's json, and for each the last one begun that still runs."""

import gzip
import json
import re
from decimal import Decimal

from plain_timeline import DEVICE, clipped, total


def plain_operators(path):
    """By name: calls, own ns on the host and on the busiest device; and ns of no operator."""
    raw = path.read_bytes()
    text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    data = json.loads(text, parse_float=Decimal)
    events = [e for e in (data if isinstance(data, list) else data["traceEvents"])
              if e.get("ph") == "X"]  # fmt: skip
    spans = [(round(e["ts"] * 1000), round((e["ts"] + e["dur"]) * 1000)) for e in events]
    kinds = [str(e.get("cat")).lower() for e in events]
    steps = [span for span, event, kind in zip(spans, events, kinds, strict=True)
             if re.match("ProfilerStep", event["name"]) and not kind.startswith("gpu")]  # fmt: skip
    lasting = [
        span for span, kind in zip(spans, kinds, strict=True) if kind not in ("trace", "none")
    ]
    first = min(start for start, _ in steps or lasting)
    last = max(end for _, end in steps or lasting)
    calls = sorted(((start, -end, place) for place, (start, end) in enumerate(spans)
                    if kinds[place] in ("cpu_op", "operator")))  # fmt: skip
    threads = {}
    for start, end, place in calls:
        threads.setdefault((events[place]["pid"], events[place]["tid"]), []).append(
            (start, -end, place)
        )

    def inside(thread, moment, before=None):
        for start, end, place in reversed(threads.get(thread, [])[:before]):
            if start <= moment < end:
                return place
        return None

    own = {place: sum(b - a for a, b in clipped([spans[place]], first, last))
           for _, _, place in calls}  # fmt: skip
    for thread, found in threads.items():
        for number, (start, end, _) in enumerate(found):
            around = inside(thread, start, number)
            if around is not None:
                cut = clipped([(start, min(end, spans[around][1]))], first, last)
                own[around] -= sum(b - a for a, b in cut)

    launches, by_id = {}, {}
    for place, event in enumerate(events):
        given = event.get("args", {})
        if "runtime" in kinds[place] or "driver" in kinds[place]:
            launches.setdefault(given.get("correlation", -2), place)
        if kinds[place] in ("cpu_op", "operator") and "External id" in given:
            by_id.setdefault(given["External id"], place)
    work = [place for place, kind in enumerate(kinds) if kind in DEVICE]
    device_of = {place: events[place].get("args", {}).get("device") for place in work}
    busy = {device: total(clipped([spans[p] for p in work if device_of[p] == device], first, last))
            for device in sorted(set(device_of.values()))}  # fmt: skip
    device, unlinked, launched = max(busy, key=busy.get, default=None), 0, {}
    for place in work:
        cut = clipped([spans[place]], first, last)
        if not busy or device_of[place] != device or not cut:
            continue
        given = events[place].get("args", {})
        call = launches.get(given.get("correlation", -1), by_id.get(given.get("External id")))
        by = None
        if call is not None:
            by = inside((events[call]["pid"], events[call]["tid"]), spans[call][0])
        length = cut[0][1] - cut[0][0]
        if by is None:
            unlinked += length
        else:
            launched[by] = launched.get(by, 0) + length

    found = {}
    for start, end, place in ((*spans[place], place) for _, _, place in calls):
        if (start < last and end > first) or launched.get(place):
            name = events[place]["name"]
            count, host, on_device = found.get(name, (0, 0, 0))
            found[name] = (count + 1, host + own[place], on_device + launched.get(place, 0))
    return found, unlinked if busy else None
