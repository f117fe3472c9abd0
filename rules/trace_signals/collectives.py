"""What a trace tells of communication between ranks: kinds, sizes, speed, and what hides it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.buckets import gradient_buckets
from trainprof.profiler.traces.collectives import (
    Collectives,
    collectives,
    micro_batches,
    world_size,
)
from trainprof.profiler.traces.events import MISSING
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

LEAST_SIZED = 2**20
"""Bytes of a collective from which its time tells of the link; small ones are bound by latency."""

UNSIZED = "neither shapes nor sizes of what they send were recorded (record_shapes=True does)"
NO_BUCKETS = (
    "the trace names no all-reduce that the backward of DistributedDataParallel launched before "
    "the step of an optimizer, or other layers all-reduce there as well"
)
SHARED = (
    Description("distributed.world_size", "count", "Ranks that train together."),
    Description("distributed.synced_share", "share", "Forwards after which gradients are sent."),
    Description("step.micro_batches", "count", "Forwards of DDP an update."),
    Description("step.comm_exposed_share", "share", "Communication that nothing hides."),
    Description("distributed.bucket_count", "count", "Buckets in which DDP averages gradients."),
    Description("distributed.gradient_bytes", "bytes", "Gradients that it averages."),
    Description("distributed.transfer_share", "share", "In a trace: buckets that nothing hides."),
)
"""Under the names that they have in a run."""
DESCRIPTIONS = (
    Description("collectives.count", "count", "Collectives in the window, of the busiest device."),
    Description("collectives.per_step", "count", "The same a step."),
    Description("collectives.kinds", "mapping", "How many of each kind."),
    Description("collectives.main_kind", "text", "The kind that takes most of their time."),
    Description("collectives.median_s", "s", "Median length of one, waiting for others included."),
    Description("collectives.median_bytes", "bytes", "Median size, counted as nccl-tests does."),
    Description("collectives.bytes_per_step", "bytes", "Sent a step, where all tell their size."),
    Description(
        "collectives.sizes", "mapping", "How many are at least so large, and half of that."
    ),
    Description("collectives.overlap_share", "share", "Part of their time in which it computed."),
    Description(
        "collectives.waited_share", "share", "Part of the window waited in them for other ranks."
    ),
    Description(
        "collectives.transfer_share",
        "share",
        "Exposed communication without waiting for others, as a part of the window.",
    ),
    Description(
        "collectives.bus_bytes_per_s",
        "bytes/s",
        "Bus bandwidth, as nccl-tests has it, of those of 1 MiB or more.",
    ),
    Description(
        "collectives.algorithm_bytes_per_s",
        "bytes/s",
        "Algorithm bandwidth of the same ones: their size by their time.",
    ),
    Description("collectives.ranks", "count", "Ranks in the largest group."),
    Description(
        "collectives.in_rows_per_step",
        "count",
        "Those that follow another with next to nothing computed in between, a step.",
    ),
    Description(
        "collectives.in_rows_share",
        "share",
        "Part of the window in which such ones are exposed, or the device waits for them.",
    ),
    Description(
        "collectives.idle_share", "share", "Of it, the part in which the device waits for them."
    ),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals of one trace's collectives; of several ranks those of the one that is shown."""
    sheet = Sheet((*DESCRIPTIONS, *SHARED))
    _micro_batches(sheet, traced)
    together = traced.together
    found = collectives(
        traced.trace, traced.timeline, None if together is None else together.exchange_ns
    )
    if not len(found):
        return sheet.finish("the trace holds no collectives")
    window = traced.timeline.window
    steps = max(window.steps, 1)
    _counts(sheet, found, window.steps)
    _sizes(sheet, found, window.steps)
    if found.on_host:
        return sheet.finish("the collectives are gloo's or MPI's: no device tells what hides them")
    whole_ns = max(window.length_ns, 1)
    sheet.put("collectives.overlap_share", found.overlap_share, method=window.text)
    idle_ns = int(found.idle_ns.sum())
    sheet.put("collectives.in_rows_per_step", int(found.follows.sum()) / steps)
    sheet.put("collectives.idle_share", idle_ns / whole_ns, method=window.text)
    sheet.put("collectives.in_rows_share", (idle_ns + found.exposed_in_rows_ns) / whole_ns)
    waited = _waited_ns(traced)
    why = "one trace does not tell what a collective waits for; give those of all ranks"
    if waited is not None:
        sheet.put("collectives.waited_share", waited / whole_ns, method=window.text)
        transfer = max(found.exposed_ns - waited, 0)
        sheet.put("collectives.transfer_share", transfer / whole_ns, method=window.text)
    _buckets(sheet, traced, found, waited or 0)
    return sheet.finish(why)


def _buckets(sheet: Sheet, traced: Traced, found: Collectives, waited_ns: int) -> None:
    """Gradients under DDP; what other ranks were waited for is no transfer."""
    window = traced.timeline.window
    buckets = gradient_buckets(traced.trace, traced.timeline, found)
    if buckets is None:
        for name in ("bucket_count", "gradient_bytes", "transfer_share"):
            sheet.miss(f"distributed.{name}", NO_BUCKETS)
        return
    sheet.put("distributed.bucket_count", buckets.count, samples=buckets.backwards)
    sheet.put("distributed.gradient_bytes", buckets.gradient_bytes, reason=UNSIZED)
    transfer = max(buckets.exposed_ns - waited_ns, 0) / max(window.length_ns, 1)
    sheet.put("distributed.transfer_share", transfer, method=window.text)


def _counts(sheet: Sheet, found: Collectives, steps: int) -> None:
    kinds = found.by_kind
    sheet.put("collectives.count", len(found))
    sheet.put(
        "collectives.per_step",
        len(found) / steps if steps else None,
        reason="the trace marks no steps",
    )
    sheet.put("collectives.kinds", {kind: one.count for kind, one in kinds.items()})
    sheet.put("collectives.main_kind", max(kinds, key=lambda kind: kinds[kind].time_ns))
    lengths = found.events.end_ns - found.events.start_ns
    sheet.put("collectives.median_s", float(np.median(lengths)) / 1e9)
    ranks = int(found.ranks.max())
    sheet.put("collectives.ranks", ranks if ranks > 0 else None, reason="the trace names no group")


def _sizes(sheet: Sheet, found: Collectives, steps: int) -> None:
    sized = found.size[found.size != MISSING]
    why = UNSIZED
    sheet.put("collectives.median_bytes", float(np.median(sized)) if len(sized) else None,
              reason=why)  # fmt: skip
    all_told = len(sized) == len(found) and steps > 0
    each = float(sized.sum(dtype=float)) / steps if all_told else None
    reason = why if steps else "the trace marks no steps"
    sheet.put("collectives.bytes_per_step", each, reason=reason)
    powers = Counter(1 << max(int(one).bit_length() - 1, 0) for one in sized.tolist())
    sizes = {str(size): count for size, count in sorted(powers.items())}
    sheet.put("collectives.sizes", sizes or None, reason=why)
    speed = found.bus_bytes_per_s(LEAST_SIZED)
    none = "none of them is known to send 1 MiB or more" if len(sized) else why
    sheet.put("collectives.bus_bytes_per_s", speed, reason=none)
    plainly = found.algorithm_bytes_per_s(LEAST_SIZED)
    sheet.put("collectives.algorithm_bytes_per_s", plainly, reason=none)


def _micro_batches(sheet: Sheet, traced: Traced) -> None:
    """What the names of forwards, updates and collectives on the host tell of accumulation."""
    timeline = traced.timeline
    world = world_size(traced.trace)
    sheet.put("distributed.world_size", world, reason="the trace names no process group")
    found = micro_batches(traced.trace, timeline)
    if found is None:
        return
    sheet.put("step.micro_batches", found.forwards / found.updates)
    sheet.put("distributed.synced_share", found.synced / found.forwards)
    if timeline.devices:
        whole_ns = max(timeline.window.length_ns, 1)
        sheet.put("step.comm_exposed_share", timeline.devices[0].exposed_ns / whole_ns)


def _waited_ns(traced: Traced) -> int | None:
    """What the rank that is shown waited for others."""
    together = traced.together
    said = traced.trace.header.get("distributedInfo")
    rank = said.get("rank") if isinstance(said, dict) else None
    if together is None or rank not in together.ranks:
        return None
    return int(together.waited_ns[together.ranks.index(rank)].sum())
