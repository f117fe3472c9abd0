"""Writes memory snapshots as torch does: a caching allocator that never reuses an address twice.

The format is that of torch/cuda/memory.py (`_snapshot`) and torch/csrc/cuda/memory_snapshot.cpp.
"""

from __future__ import annotations

import pickle

FORWARD = ("/home/me/model.py", 39, "forward")
MODULE = ("/venv/lib/python3.12/site-packages/torch/nn/modules/module.py", 1790, "_call_impl")
OPTIMIZER = ("/venv/lib/python3.12/site-packages/torch/optim/adamw.py", 130, "step")
SCRIPT = ("/home/me/train.py", 17, "<module>")
ENGINE = ("??", 0, "torch::autograd::Engine::thread_main(std::shared_ptr<ReadyQueue>)")
MOVES = ("/venv/lib/python3.12/site-packages/torch/nn/modules/module.py", 1340, "_apply")
EMPTIES = ("/venv/lib/python3.12/site-packages/torch/cuda/memory.py", 218, "empty_cache")


class SnapshotBuilder:
    """Blocks that live in one segment each; times in us."""

    def __init__(self, device=0, expandable=False):
        self.device = device
        self.entries = []
        self.marks = []
        self.segments = {}
        self.blocks = {}
        self.settings = {"PYTORCH_CUDA_ALLOC_CONF": "", "expandable_segments": expandable}
        self._next = 1 << 40
        self._time = 1_700_000_000_000_000
        self._stacks = {}

    def stack(self, *frames):
        """One list for the same frames, as torch makes it."""
        if frames not in self._stacks:
            self._stacks[frames] = [
                {"filename": file, "line": line, "name": name} for file, line, name in frames
            ]
        return self._stacks[frames]

    def _entry(self, action, size, frames, **where):
        self._time += 10
        self.entries.append(
            {
                "action": action,
                **where,
                "size": size,
                "stream": 0,
                "time_us": self._time,
                "frames": self.stack(*frames),
            }
        )

    def segment(self, size, frames=()):
        """Memory from the device; gives its address."""
        address, self._next = self._next, self._next + size
        self.segments[address] = size
        self.blocks[address] = (size, size, "inactive", [])
        self._entry("segment_alloc", size, frames, addr=address)
        return address

    def give_back(self, address, frames=()):
        del self.blocks[address]
        self._entry("segment_free", self.segments.pop(address), frames, addr=address)
        return self

    def alloc(self, size, *frames, address=None, recorded=True):
        """Takes a free segment of the size or more, else a new one; gives its address."""
        if address is None:
            free = [one for one, (room, _, state, _) in self.blocks.items()
                    if state == "inactive" and room >= size]  # fmt: skip
            address = free[0] if free else self.segment(size, frames)
        frames_of = self.stack(*frames)
        self.blocks[address] = (self.segments[address], size, "active_allocated", frames_of)
        if recorded:
            self._entry("alloc", size, frames, addr=address)
        return address

    def free(self, address):
        room, size, _, _ = self.blocks[address]
        self.blocks[address] = (room, room, "inactive", [])
        self._entry("free_requested", size, (), addr=address)
        self._entry("free_completed", size, (), addr=address)
        return self

    def out_of_memory(self, size, free):
        self._entry("oom", size, (SCRIPT,), device_free=free)
        return self

    def optimizer_step(self):
        """Marks the end of one."""
        mark = {"name": "Optimizer.step#AdamW.step", "device": self.device}
        self.marks += [
            {**mark, "stage": "START", "time_us": self._time},
            {**mark, "stage": "END", "time_us": self._time + 5},
        ]
        self._time += 10
        return self

    def snapshot(self):
        """The dictionary."""
        segments = []
        for address, total in self.segments.items():
            room, size, state, frames = self.blocks[address]
            used = room if state != "inactive" else 0
            block = {"address": address, "size": room, "requested_size": size, "state": state}
            segments.append(
                {
                    "device": self.device,
                    "address": address,
                    "total_size": total,
                    "allocated_size": used,
                    "active_size": used,
                    "requested_size": size if used else 0,
                    "stream": 0,
                    "segment_type": "large",
                    "segment_pool_id": (0, 0),
                    "is_expandable": self.settings["expandable_segments"],
                    "frames": [],
                    "blocks": [{**block, "frames": frames}],
                }
            )
        traces = [[] for _ in range(self.device)] + [self.entries]
        return {
            "segments": segments,
            "device_traces": traces,
            "allocator_settings": self.settings,
            "external_annotations": self.marks,
        }

    def write(self, path, protocol=4):
        """Writes the file, and gives its path."""
        path.write_bytes(pickle.dumps(self.snapshot(), protocol))
        return path
