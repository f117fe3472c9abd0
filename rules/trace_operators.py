"""The operators of a trace that take most, as the diagnosis holds them."""

from __future__ import annotations

from trainprof.profiler.model.diagnosis import OperatorDevice, OperatorTime, OperatorTimes, OwnTime
from trainprof.profiler.traces.operator_times import OperatorSum, operator_sums
from trainprof.rules.trace_signals.traced import Traced

MOST_OPERATORS = 30
"""By their time on the device, and as many by their time on the host."""
MOST_CHARACTERS = 200
"""Of the sizes of inputs; an operator over lists of tensors has thousands."""


def operator_times(one: Traced, device: str | None) -> OperatorTimes | None:
    """The table; None where the trace holds no operator in its window.

    Args:
        one: The trace.
        device: What the busiest device is called; None where there is none.
    """
    found = operator_sums(one.trace, one.timeline, one.launched)
    if found is None:
        return None
    window = one.timeline.window
    whole_ns = max(window.length_ns, 1)
    told = None
    if device is not None and found.unlinked_ns is not None:
        told = OperatorDevice(device, found.unlinked_ns / 1e9)
    return OperatorTimes(
        window=window.text,
        window_s=window.length_ns / 1e9,
        device=told,
        names=len(found.sums),
        rows=tuple(_row(each, whole_ns) for each in _longest(found.sums)),
    )


def _longest(sums: list[OperatorSum]) -> list[OperatorSum]:
    """Those that take most of the device or of the host, by their time on the device."""
    by_host = sorted(sums, key=lambda each: (-each.host_ns, each.name))
    by_device = sorted(by_host, key=lambda each: -(each.device_ns or 0))
    chosen = {each.name for each in by_host[:MOST_OPERATORS]}
    chosen |= {each.name for each in by_device[:MOST_OPERATORS] if each.device_ns}
    return [each for each in by_device if each.name in chosen]


def _row(each: OperatorSum, whole_ns: int) -> OperatorTime:
    return OperatorTime(
        name=each.name,
        calls=each.calls,
        host=_own(each.host_ns, whole_ns),
        device=None if each.device_ns is None else _own(each.device_ns, whole_ns),
        shapes=_cut(each.shapes),
        shape_kinds=each.kinds,
    )


def _own(time_ns: int, whole_ns: int) -> OwnTime:
    return OwnTime(time_ns / 1e9, time_ns / whole_ns)


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[: MOST_CHARACTERS - 1]}…"
