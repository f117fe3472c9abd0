"""What `collectives` finds, in the plainest way: loops over dictionaries."""

import gzip
import json
import math
import re

from plain_timeline import DEVICE, clipped, total, union

WIDTH = {
    "float": 4,
    "long int": 8,
    "int": 4,
    "double": 8,
    "c10::half": 2,
    "c10::bfloat16": 2,
    "half": 2,
    "bfloat16": 2,
}
TALKS = re.compile("nccl|rccl|all_?reduce", re.IGNORECASE)


def plain_collectives(path, device, window):
    """Count, sizes, rows and ns of what lies in a window (ns) on one device."""
    raw = path.read_bytes()
    events = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)["traceEvents"]
    lasting = [e for e in events if e.get("ph") == "X"]
    span = {id(e): (round(e["ts"] * 1000), round((e["ts"] + e["dur"]) * 1000)) for e in lasting}
    kernels = [e for e in lasting if e["cat"].lower() == "kernel" and e["args"]["device"] == device]
    kernels = [e for e in kernels if span[id(e)][0] < window[1] and span[id(e)][1] > window[0]]
    talks = [e for e in kernels if TALKS.search(e["name"])]
    talks.sort(key=lambda e: (span[id(e)][0], -span[id(e)][1]))
    work = [span[id(e)] for e in kernels if not TALKS.search(e["name"])]
    own = clipped([span[id(e)] for e in talks], *window)
    on_device = [e for e in lasting if e["cat"].lower() in DEVICE]
    busy = [span[id(e)] for e in on_device if e["args"]["device"] == device]
    idle, rows, reached = 0, [], None
    for one in talks:
        start, end = span[id(one)]
        if reached is not None and sum(reached <= a < start for a, _ in work) <= 2:
            rows.append((start, end))
            gap = clipped([(reached, start)], *window)
            idle += total(gap) - total([c for g in gap for c in clipped(union(busy), *g)])
        reached = end if reached is None else max(reached, end)
    exposed = total(own + work) - total(work)
    in_rows = total(clipped(rows, *window))
    hidden_rows = total(
        [c for r in union(clipped(rows, *window)) for c in clipped(union(work), *r)]
    )
    return {
        "count": len(talks),
        "sizes": [size_of(e, lasting) for e in talks],
        "rows": len(rows),
        "idle": idle,
        "exposed": exposed,
        "hidden": total(own) - exposed,
        "exposed_in_rows": in_rows - hidden_rows,
    }


def size_of(kernel, events):
    """Bytes that the host says before it launches a kernel; -1 where it does not."""
    wanted = kernel["args"].get("correlation")
    for call in events:
        if "runtime" in call["cat"].lower() and call["args"].get("correlation") == wanted:
            for one in events:
                same = (one["pid"], one["tid"]) == (call["pid"], call["tid"])
                inside = one["ts"] <= call["ts"] <= one["ts"] + one["dur"]
                if not (same and inside):
                    continue
                said = one.get("args", {})
                if one["name"] == "record_param_comms" and "In msg nelems" in said:
                    return said["In msg nelems"] * WIDTH[said["dtype"].lower()]
                if one["name"].startswith("nccl:") and said.get("Input Dims"):
                    dims, kinds = said["Input Dims"], said["Input type"]
                    return sum(
                        math.prod(d) * WIDTH[k.lower()] for d, k in zip(dims, kinds, strict=True)
                    )
    return -1
