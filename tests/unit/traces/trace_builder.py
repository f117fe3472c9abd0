"""Writes small Kineto traces, in every form in which profilers have written them."""

from __future__ import annotations

import gzip
import json


class TraceBuilder:
    """Events in the order in which they are added; times in microseconds."""

    def __init__(self, capitals=False):
        self.events = []
        self._capitals = capitals  # as in 2021: "Kernel", "Memcpy", "Operator", "Runtime"

    def _add(self, category, name, start, length, thread, **arguments):
        old = {"gpu_memcpy": "Memcpy", "gpu_memset": "Memset", "cuda_runtime": "Runtime"}
        old |= {"cpu_op": "Operator", "kernel": "Kernel", "user_annotation": "Operator"}
        self.events.append(
            {
                "ph": "X",
                "cat": old.get(category, category) if self._capitals else category,
                "name": name,
                "pid": arguments.pop("pid", 100),
                "tid": thread,
                "ts": start,
                "dur": length,
                "args": arguments,
            }
        )
        return self

    def step(self, number, start, length):
        return self._add("user_annotation", f"ProfilerStep#{number}", start, length, 100)

    def operator(self, name, start, length, thread=100, **arguments):
        return self._add("cpu_op", name, start, length, thread, **arguments)

    def frame(self, name, start, length, thread=100):
        return self._add("python_function", name, start, length, thread)

    def call(self, name, start, length, correlation=-1, thread=100):
        return self._add("cuda_runtime", name, start, length, thread, correlation=correlation)

    def wait(self, start, length, loader="_SingleProcessDataLoaderIter"):
        name = f"enumerate(DataLoader)#{loader}.__next__"
        return self._add("user_annotation", name, start, length, 100)

    def kernel(self, name, start, length, stream=7, device=0, correlation=-1):
        where = {"pid": device, "device": device, "stream": stream, "correlation": correlation}
        return self._add("kernel", name, start, length, stream, **where)

    def copy(self, start, length, size=1024, stream=7, device=0, correlation=-1):
        where = {"pid": device, "device": device, "stream": stream, "correlation": correlation}
        name = "Memcpy HtoD (Pageable -> Device)"
        return self._add("gpu_memcpy", name, start, length, stream, bytes=size, **where)

    def text(self, indent=None, as_list=False, **header):
        """The file's text."""
        if as_list:
            return json.dumps(self.events, indent=indent)
        return json.dumps({"schemaVersion": 1, **header, "traceEvents": self.events}, indent=indent)

    def write(self, path, packed=False, **how):
        """Writes the file, and gives its path."""
        text = self.text(**how).encode()
        path.write_bytes(gzip.compress(text) if packed else text)
        return path
