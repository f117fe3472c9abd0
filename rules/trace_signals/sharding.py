"""What a trace tells of parameters that FSDP shards and gathers."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.collectives import collectives
from trainprof.profiler.traces.sharding import names_sharding, sharding
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS = (
    Description("sharding.gathers", "count", "All-gathers of FSDP in the window."),
    Description("sharding.gathers_per_reduction", "ratio", "The same by its reduce-scatters."),
    Description("sharding.again_share", "share", "Of them, those for the backward."),
    Description(
        "sharding.exposed_share",
        "share",
        "Part of the window in which they run and nothing is computed.",
    ),
    Description("sharding.bytes_per_step", "bytes", "What they give a step, on each rank."),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals of one trace."""
    sheet = Sheet(DESCRIPTIONS)
    if not names_sharding(traced.trace):
        return sheet.finish("the trace does not name FSDP")
    timeline = traced.timeline
    found = collectives(traced.trace, timeline)
    if found.on_host:
        return sheet.finish("no device tells what hides the collectives")
    shards = sharding(traced.trace, timeline, found)
    if shards is None:
        return sheet.finish("no all-gather is known to be launched by FSDP")
    window = timeline.window
    sheet.put("sharding.gathers", shards.gathers)
    ratio = shards.gathers / shards.reductions if shards.reductions else None
    none = "FSDP reduces no gradients in the window"
    sheet.put("sharding.gathers_per_reduction", ratio, reason=none)
    sheet.put("sharding.again_share", shards.again / shards.gathers)
    exposed = shards.exposed_ns / max(window.length_ns, 1)
    sheet.put("sharding.exposed_share", exposed, method=window.text)
    if shards.gathered_bytes is None:
        why = "neither shapes nor sizes of what they send were recorded (record_shapes=True does)"
        sheet.miss("sharding.bytes_per_step", why)
    else:
        each = shards.gathered_bytes / window.steps if window.steps else None
        sheet.put("sharding.bytes_per_step", each, reason="the trace marks no steps")
    return sheet.finish("it could not be read")
