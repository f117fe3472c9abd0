"""Where the host waited for the busiest device, and what the device paid for it."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.events import MISSING, Flags, Trace
from trainprof.profiler.traces.frames import own_function
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.synchronisations import Synchronisations
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS = (
    Description("synchronisations.count", "count", "Waits of the host for a device."),
    Description("synchronisations.per_step", "count", "Of them a step."),
    Description(
        "synchronisations.wait_share", "share", "The host waited in them; no cost by itself."
    ),
    Description(
        "synchronisations.costly", "count", "Of those that copy nothing large to the device: after "
        "which the device was idle until the next launch, by which the host was late."
    ),
    Description("synchronisations.costly_per_step", "count", "Of them a step."),
    Description(
        "synchronisations.cost_share", "share", "The device was idle between them and the next "
        "launch, for no longer than the host had been blocked."
    ),
    Description(
        "synchronisations.behind_share", "share", "The same until the next wait: all launches for "
        "which the host would have been early enough."
    ),
    Description("synchronisations.operator", "text", "The operator, or call, of the dearest."),
    Description("synchronisations.operator_count", "count", "How often that one waited so."),
    Description("synchronisations.where", "place", "Python function in which it did."),
)  # fmt: skip


def measure(traced: Traced) -> dict[str, Signal]:
    """Signals synchronisations.*."""
    sheet = Sheet(DESCRIPTIONS)
    found, window = traced.synchronisations, traced.timeline.window
    if found is None:
        return sheet.finish("the trace does not say which call launched what on a device")
    whole_ns = max(window.length_ns, 1)
    read = ~found.copies_to_device
    costly = read & (found.cost_ns > 0)
    counts = {"count": len(found), "costly": int(costly.sum())}
    for name, count in counts.items():
        sheet.put(f"synchronisations.{name}", count)
    if window.steps:
        sheet.put("synchronisations.per_step", len(found) / window.steps)
        sheet.put("synchronisations.costly_per_step", counts["costly"] / window.steps)
    else:
        for name in ("per_step", "costly_per_step"):
            sheet.miss(f"synchronisations.{name}", "the trace marks no steps")
    waits = union(found.start_ns, found.end_ns).clipped(window.start_ns, window.end_ns)
    for name, length_ns in (
        ("wait_share", waits.total),
        ("cost_share", int(found.cost_ns[read].sum())),
        ("behind_share", int(found.behind_ns[read].sum())),
    ):
        sheet.put(f"synchronisations.{name}", length_ns / whole_ns, method=window.text)
    if costly.any():
        _dearest(sheet, traced.trace, found, costly)
    return sheet.finish("no wait cost anything, or no Python function is known around it")


def _dearest(sheet: Sheet, trace: Trace, found: Synchronisations, costly: Flags) -> None:
    """Names the operator and function after which the device was idle longest."""
    operator = np.where(found.operator != MISSING, found.operator, found.call)
    keys = np.stack([operator, found.function], axis=1)[costly]
    kinds, group = np.unique(keys, axis=0, return_inverse=True)
    total = np.bincount(group.ravel(), found.behind_ns[costly], len(kinds))
    dearest = int(total.argmax())
    name, function = kinds[dearest].tolist()
    sheet.put("synchronisations.operator", trace.names[name])
    sheet.put("synchronisations.operator_count", int((group.ravel() == dearest).sum()))
    frame = own_function(trace.names[function]) if function != MISSING else None
    if frame is not None:
        sheet.put("synchronisations.where", Location(*frame))
