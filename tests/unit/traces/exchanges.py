"""Collectives that a thread launches: built into a trace, and read from its file by loops."""

import json

from plain_timeline import clipped, total

KERNELS = {
    "all_reduce": "ncclDevKernel_AllReduce",
    "all_gather": "ncclDevKernel_AllGather",
    "reduce_scatter": "ncclDevKernel_ReduceScatter",
    "broadcast": "ncclDevKernel_Broadcast",
}
RANKS = 4
WORLD = {"distributedInfo": {"rank": 0, "world_size": RANKS}}
TRAINS, BACKWARD = 100, 200
"""Threads: of the training, and of autograd."""


def exchange(builder, number, kind, at, begins, length, elements, thread):
    """A collective of floats: what the host says of it, its launch, its kernel."""
    said = {"Collective name": kind, "In msg nelems": elements, "dtype": "Float"}
    builder.operator("record_param_comms", at, 2, thread=thread, **said, **{"Group size": RANKS})
    builder.call("cudaLaunchKernelExC", at + 1, 1, correlation=number, thread=thread)
    builder.kernel(KERNELS[kind], begins, length, stream=9, correlation=number)


class PlainExchanges:
    """A trace's events, its collectives as (kernel, launch, span in ns), spans of other kernels."""

    def __init__(self, path):
        self.events = json.loads(path.read_text())["traceEvents"]
        self.sent, self.work = [], []
        calls = {e["args"]["correlation"]: e for e in self.events if e["cat"] == "cuda_runtime"}
        for kernel in (e for e in self.events if e["cat"] == "kernel"):
            span = (kernel["ts"] * 1000, (kernel["ts"] + kernel["dur"]) * 1000)
            if "nccl" in kernel["name"]:
                self.sent.append((kernel, calls[kernel["args"]["correlation"]], span))
            else:
                self.work.append(span)

    def around(self, call):
        """Events of the thread in which a launch lies."""
        return [
            e
            for e in self.events
            if e["tid"] == call["tid"] and e["ts"] <= call["ts"] < e["ts"] + e["dur"]
        ]

    def size(self, call):
        """Bytes that the host says of what it launches."""
        (said,) = [e["args"] for e in self.around(call) if e["name"] == "record_param_comms"]
        return said["In msg nelems"] * 4

    def uncovered_ns(self, spans, window):
        """For how long of the window some spans last and nothing is computed."""
        inside, work = clipped(spans, *window), clipped(self.work, *window)
        return total(inside + work) - total(work)
