"""The changes of a training whose gain a trace can tell beforehand; rules name them."""

from __future__ import annotations

CHANGES = {
    "no-data-wait": "no wait for batches",
    "pinned-copies": "pinned memory, copies beside the work",
    "tensor-cores": "matrices in tensor-core precision",
    "fewer-launches": "CUDA graphs or a compiled model",
    "overlapped-communication": "communication beside the work",
    "bucketed-communication": "collectives in buckets, beside the work",
    "balanced-ranks": "ranks that arrive together",
    "larger-batch": "twice the batch, per sample",
    "fewer-synchronisations": "a host that never waits for the device",
}
"""Their names, and what a report calls them."""
