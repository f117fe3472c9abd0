"""Launches in the plainest way: Python's json, and a loop over every pair."""

import gzip
import json
from decimal import Decimal

from plain_timeline import DEVICE, clipped, total, union

CALLS = ("cuda_runtime", "cuda_driver", "hip_runtime", "runtime")


def events_of(path):
    """Category in lower case, name, start and end in ns, and arguments of what lasts, by start."""
    raw = path.read_bytes()
    text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    data = json.loads(text, parse_float=Decimal)
    events = data if isinstance(data, list) else data["traceEvents"]
    found = [
        (str(e.get("cat")).lower(), e["name"], round(e["ts"] * 1000),
         round((e["ts"] + e["dur"]) * 1000), {**e.get("args", {}), "tid": (e["pid"], e["tid"])})
        for e in events if e.get("ph") == "X"
    ]  # fmt: skip
    return sorted(found, key=lambda e: (e[2], -e[3]))


def plain_launches(path, device, start, end):
    """Delays, queue lengths, empty, idle and queued time of a device in a window, and late gaps."""
    events = events_of(path)
    calls = {}
    for kind, _, begin, stop, args in events:
        if kind in CALLS and args.get("correlation", -1) != -1:
            calls.setdefault(args["correlation"], (begin, stop))
    own = [e for e in events if e[0] in DEVICE and e[4].get("device", -1) == device]
    ids = [e[4].get("correlation", -1) for e in own]
    pairs = [(calls.get(one), e[2], e[3], one) for one, e in zip(ids, own, strict=True)]
    pairs = [(*call, *rest) for call, *rest in pairs if call and call[0] <= rest[1]]
    inside = [p for p in pairs if start <= p[2] < end]
    at = sorted({(p[0], p[4]) for p in inside})  # calls of two threads may begin and end at once
    lengths = [max(sum(p[0] < t for p in pairs) - sum(p[3] <= t for p in pairs), 0) for t, _ in at]
    busy = union(clipped([e[2:4] for e in own], start, end))
    edges = [start, *(x for one in busy for x in one), end]
    gaps = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
    queued = union(clipped([(min(p[1], p[2]), p[3]) for p in pairs], start, end))
    idle_queued = sum(total(clipped(queued, *gap)) for gap in gaps)
    late = sum(next((min(p[1], p[2]) > a for p in pairs if p[2] == b), False) for a, b in gaps)
    return {
        "delays": sorted(p[2] - p[0] for p in inside),
        "lengths": sorted(lengths),
        "empty": end - start - total(queued),
        "idle_queued": idle_queued,
        "idle": sum(b - a for a, b in gaps),
        "late": late,
    }
