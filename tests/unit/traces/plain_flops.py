"""FLOPs of a window in the plainest way: Python's json, and a loop over operators and launches."""

import gzip
import json
import re
from bisect import bisect_left
from math import prod


def plain_flops(path):
    """Of convolutions and products that launched a kernel within the steps, each counted once."""
    raw = path.read_bytes()
    data = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    events = [e for e in data["traceEvents"] if e.get("ph") == "X"]
    steps = [e for e in events if re.match("ProfilerStep", e["name"]) and "device" not in e["args"]]
    start, end = min(e["ts"] for e in steps), max(e["ts"] + e["dur"] for e in steps)
    kernels = [e for e in events if str(e.get("cat")).lower() == "kernel"]
    inside = [e for e in kernels if e["ts"] < end and e["ts"] + e["dur"] > start]
    ran = {e["args"]["correlation"] for e in inside}
    calls = [e for e in events if str(e.get("cat")).lower() in ("runtime", "cuda_runtime")]
    launches = sorted((e["tid"], e["ts"]) for e in calls if e["args"].get("correlation") in ran)
    given = {}
    for e in events:
        if e["name"] == "aten::cudnn_convolution_backward":
            image, gradient, weight, *_ = sizes(e)
            given.setdefault((image, weight), set()).add(gradient)
    total, ended = 0, {}
    for e in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
        shapes = sizes(e)
        flops = 0
        if e["name"] == "aten::cudnn_convolution_backward":
            flops = 4 * prod(shapes[1]) * prod(shapes[2][1:])
        elif e["name"] == "aten::convolution" and len(given.get(tuple(shapes[:2]), ())) == 1:
            flops = 2 * prod(next(iter(given[tuple(shapes[:2])]))) * prod(shapes[1][1:])
        elif e["name"] in ("aten::mm", "aten::addmm"):
            left, right = shapes[-2:] if e["name"] == "aten::mm" else shapes[1:3]
            flops = 2 * prod(left) * right[1]
        if not flops or ended.get(e["tid"], 0) > e["ts"]:
            continue
        ended[e["tid"]] = e["ts"] + e["dur"]
        total += flops * _launched(launches, e["tid"], e["ts"], e["ts"] + e["dur"])
    return total


def sizes(event):
    given = event.get("args", {})
    return [tuple(one) for one in given.get("Input Dims", given.get("Input dims", []))]


def _launched(launches, thread, start, end):
    place = bisect_left(launches, (thread, start))
    return place < len(launches) and launches[place][0] == thread and launches[place][1] < end
