"""What the thread that trains does in the window of a trace; on the CPU it is the device."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.training_thread import ACTIVITIES
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

SHARE = {one: f"training_thread.{one.replace(' ', '_')}_share" for one in ACTIVITIES}
"""Signal of each activity."""
_TEXTS = {
    "data wait": "It waited for a batch.",
    "optimizer": "It was in the optimizer's step.",
    "zero grad": "It cleared gradients.",
    "backward": "It, or a thread of autograd's, ran the backward.",
    "synchronisation": "It waited for a device.",
    "allocator": "It had a device's memory allocated or freed.",
    "operators": "It was in any other operator, or in a call that launches.",
    "collective wait": "It did nothing of its own, and a collective of the host was under way.",
    "work of other threads": "It did nothing of its own, and another thread ran operators.",
    "other work": "It was between all of these: in Python, or asleep.",
}
DESCRIPTIONS = (
    Description("training_thread.on_cpu", "bool", "The machine has no other device."),
    *(Description(SHARE[one], "share", _TEXTS[one]) for one in ACTIVITIES),
    Description("training_thread.operators_per_step", "count", "Operators that it called itself."),
    Description("training_thread.operator_median_s", "s", "Median length of such an operator."),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals of the thread."""
    sheet = Sheet(DESCRIPTIONS)
    thread, window = traced.thread, traced.timeline.window
    sheet.put("training_thread.on_cpu", traced.on_cpu)
    if thread is None:
        return sheet.finish("the trace holds no work of the host")
    for activity, name in SHARE.items():
        sheet.put(name, thread.share(activity), method=window.text)
    if window.steps:
        sheet.put("training_thread.operators_per_step", thread.operators / window.steps)
    if thread.operator_median_ns is not None:
        sheet.put("training_thread.operator_median_s", thread.operator_median_ns / 1e9)
    return sheet.finish("the trace marks no steps")
