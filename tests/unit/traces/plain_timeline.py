"""The same numbers in the plainest way: Python's json and loops over intervals."""

import gzip
import json
import re
from decimal import Decimal

DEVICE = ("kernel", "gpu_memcpy", "memcpy", "gpu_memset", "memset")


def union(pairs):
    merged = []
    for start, end in sorted(pairs):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        elif end > start:
            merged.append([start, end])
    return merged


def total(pairs):
    return sum(end - start for start, end in union(pairs))


def clipped(pairs, start, end):
    return [(max(a, start), min(b, end)) for a, b in pairs if min(b, end) > max(a, start)]


def plain_timeline(path):
    """Lengths in ns of the window, and by device of busy, communication and exposed time."""
    raw = path.read_bytes()
    text = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    data = json.loads(text, parse_float=Decimal)
    events = data if isinstance(data, list) else data["traceEvents"]
    lasting = [(e, round(e["ts"] * 1000), round((e["ts"] + e["dur"]) * 1000)) for e in events
               if e.get("ph") == "X"]  # fmt: skip
    kind = {id(e): str(e.get("cat")).lower() for e, _, _ in lasting}
    host = [x for x in lasting if kind[id(x[0])] not in (*DEVICE, "gpu_user_annotation")]
    steps = [x for x in host if re.match(r"ProfilerStep", x[0]["name"])]
    inner = steps or [x for x in lasting if kind[id(x[0])] not in ("trace", "none")]
    start, end = min(x[1] for x in inner), max(x[2] for x in inner)
    waits = [x[1:] for x in host if "DataLoader" in x[0]["name"]]
    found = {"window": end - start, "data_wait": total(clipped(waits, start, end)), "devices": {}}
    work = [x for x in lasting if kind[id(x[0])] in DEVICE]
    for device in {e["args"].get("device", -1) for e, _, _ in work}:
        own = [x for x in work if x[0]["args"].get("device", -1) == device]
        kernels = [x for x in own if kind[id(x[0])] == "kernel"]
        talks = re.compile("nccl|rccl|all_?reduce", re.IGNORECASE)
        comm = clipped([x[1:] for x in kernels if talks.search(x[0]["name"])], start, end)
        rest = clipped([x[1:] for x in kernels if not talks.search(x[0]["name"])], start, end)
        busy = total(clipped([x[1:] for x in own], start, end))
        exposed = total([*comm, *rest]) - total(rest)
        found["devices"][device] = (busy, total(rest), total(comm), exposed)
    return found
