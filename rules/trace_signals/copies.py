"""Copies of the busiest device: rates of the device's side, and waits of the host's."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.copies import FROM_DEVICE, SMALL_BYTES, TO_DEVICE, Copies, copies
from trainprof.profiler.traces.timeline import Window
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DIRECTIONS = {"h2d": (TO_DEVICE, "to the device"), "d2h": (FROM_DEVICE, "from the device")}


def _described(way: str, words: str) -> tuple[Description, ...]:
    return (
        Description(f"copies.{way}_count", "count", f"Copies {words}."),
        Description(f"copies.{way}_bytes", "bytes", "Their bytes."),
        Description(f"copies.{way}_small", "count", "Of them, those of less than 64 KiB."),
        Description(
            f"copies.{way}_pageable_share",
            "share",
            "Part of those that say so whose memory the system may move.",
        ),
        Description(
            f"copies.{way}_bytes_per_s", "bytes/s", "Their rate on the device: calls also wait."
        ),
        Description(
            f"copies.{way}_pinned_bytes_per_s",
            "bytes/s",
            "What the link carried: copies of 1 MiB or more, page-locked memory, calls known.",
        ),
        Description(
            f"copies.{way}_exposed_share", "share", "The device copied so, and ran no kernel."
        ),
        Description(
            f"copies.{way}_wait_share", "share", "The host waited in their calls, beyond the copy."
        ),
        Description(f"copies.{way}_longest_wait_s", "s", "Longest such wait."),
        Description(f"copies.{way}_longest_wait_bytes", "bytes", "What that call copied."),
    )


DESCRIPTIONS = (
    *(one for way, (_, words) in DIRECTIONS.items() for one in _described(way, words)),
    Description(
        "copies.h2d_behind_share",
        "share",
        "The device was idle because the host had been blocked by copies to it.",
    ),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """Signals copies.*."""
    sheet = Sheet(DESCRIPTIONS)
    timeline, waits = traced.timeline, traced.synchronisations
    if not timeline.devices:
        return sheet.finish("the trace holds no work of a device")
    window, device = timeline.window, timeline.devices[0].device
    for way, (direction, _) in DIRECTIONS.items():
        found = copies(traced.trace, traced.launched, device, window, direction)
        _direction(sheet, way, found, window)
    if waits is not None:
        behind_ns = int(waits.behind_ns[waits.copies_to_device].sum())
        share = behind_ns / max(window.length_ns, 1)
        sheet.put("copies.h2d_behind_share", share, method=window.text)
    return sheet.finish("there are no such copies, or the trace does not say it of them")


def _direction(sheet: Sheet, way: str, found: Copies, window: Window) -> None:
    whole_ns = max(window.length_ns, 1)
    sheet.put(f"copies.{way}_count", len(found))
    sheet.put(f"copies.{way}_exposed_share", found.exposed_ns / whole_ns, method=window.text)
    if found.bytes is not None:
        sheet.put(f"copies.{way}_bytes", found.bytes)
        small = (found.size >= 0) & (found.size < SMALL_BYTES)
        sheet.put(f"copies.{way}_small", int(small.sum()))
        sheet.put(f"copies.{way}_bytes_per_s", found.bytes_per_s)
        sheet.put(
            f"copies.{way}_pinned_bytes_per_s",
            found.link_bytes_per_s,
            samples=int(found.of_the_link.sum()),
            reason="of no copy of 1 MiB or more are page-locked memory and the call known",
        )
    if found.says_memory.any():
        pageable = float(found.pageable[found.says_memory].mean())
        sheet.put(f"copies.{way}_pageable_share", pageable)
    if found.matched.any():
        longest = int(found.waited_ns.argmax())
        waited_ns = int(found.waited_ns.sum())
        sheet.put(f"copies.{way}_wait_share", waited_ns / whole_ns, method=window.text)
        sheet.put(f"copies.{way}_longest_wait_s", int(found.waited_ns[longest]) / 1e9)
        if found.size[longest] >= 0:
            sheet.put(f"copies.{way}_longest_wait_bytes", int(found.size[longest]))
