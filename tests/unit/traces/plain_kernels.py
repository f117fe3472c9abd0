"""Kernels by what they compute in the plainest way: Python's json, words in names, unions."""

import gzip
import json
import re
from decimal import Decimal

from plain_timeline import clipped, total

WORDS = {
    "communication": ("nccl", "rccl"),
    "convolution": ("conv", "wgrad", "dgrad", "winograd", "scudnn", "cask", "fft", "flip_filter",
                    "im2col", "igemm_"),
    "matrix product": ("gemm", "gemv", "cijk", "cublas", "splitk", "cutlass", "dot_kernel"),
}  # fmt: skip
FULL = ("float", "sgemm", "scudnn", "_SB_")


def plain_kernels(path):
    """Shares of the busiest device's busy time in the window, by family, and of fp32 matrices."""
    raw = path.read_bytes()
    data = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw, parse_float=Decimal)
    events = data if isinstance(data, list) else data["traceEvents"]
    lasting = [
        (e["name"], str(e.get("cat")).lower(), e["args"].get("device") if "args" in e else None,
         round(e["ts"] * 1000), round((e["ts"] + e["dur"]) * 1000))
        for e in events if e.get("ph") == "X"
    ]  # fmt: skip
    steps = [x for x in lasting if re.match("ProfilerStep", x[0]) and not x[1].startswith("gpu")]
    inner = steps or [x for x in lasting if x[1] not in ("trace", "none", "gpu_user_annotation")]
    start, end = min(x[3] for x in inner), max(x[4] for x in inner)
    work = [x for x in lasting if x[1] == "kernel" or "memcpy" in x[1] or "memset" in x[1]]
    busy = {d: total(clipped([x[3:] for x in work if x[2] == d], start, end))
            for d in {x[2] for x in work}}  # fmt: skip
    device = max(busy, key=busy.get)
    kernels = [x for x in work if x[1] == "kernel" and x[2] == device]
    of_family = {family: [] for family in WORDS}
    full = []
    for name, _, _, *span in kernels:
        small = name.lower()
        for family, words in WORDS.items():
            if any(word in small for word in words):
                if not re.search(
                    "embedding|nchwto|nhwcto|flash|transpose|bn_|direct_copy|index|fbgemm", small
                ):
                    of_family[family].append(span)
                    full += (
                        [span]
                        if any(one in name for one in FULL) and family != "communication"
                        else []
                    )
                break
    shares = {family: total(clipped(spans, start, end)) / busy[device]
              for family, spans in of_family.items()}  # fmt: skip
    return shares, total(clipped(full, start, end)) / busy[device]
