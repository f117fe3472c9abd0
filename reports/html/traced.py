"""What only a trace tells: devices, kernels, the critical path, and what changes would do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.reports import numbers, sentences
from trainprof.reports.html import blocks
from trainprof.reports.html.blocks import Block
from trainprof.reports.text import SHORT, printable

KERNEL_HEADINGS = ("kernels", "share", "count", "precision", "tensor cores", "mostly")
Timed = tuple[str, float, float]


def devices_section(diagnosis: Diagnosis) -> Block:
    """What each device did, and the thread that trains."""
    return blocks.section("devices", "What the devices did", _devices(diagnosis))


def _devices(diagnosis: Diagnosis) -> Iterator[Block]:
    for device in diagnosis.devices:
        heading = sentences.device_heading(device)
        yield _time_table(heading, "the device", sentences.device_lines(device))
    thread = diagnosis.training_thread
    if thread is not None:
        heading = sentences.thread_heading(thread)
        yield _time_table(heading, "the thread", sentences.thread_lines(thread))


def kernels_section(diagnosis: Diagnosis) -> Block:
    """The kernels of the busiest device by family."""
    lines = sentences.kernel_lines(diagnosis.kernels)
    rows = [
        (
            printable(name, SHORT),
            numbers.share(share),
            numbers.count(count),
            printable(precision, SHORT),
            cores,
            printable(example, 2 * SHORT),
        )
        for name, share, count, precision, cores, example in lines
    ]
    found = (
        [blocks.table(sentences.KERNELS_HEADING, KERNEL_HEADINGS, rows, " ## # ")] if rows else []
    )
    return blocks.section("kernels", "Kernels", found)


def path_section(diagnosis: Diagnosis) -> Block:
    """What decides how long a step takes, and what changes of it would gain."""
    title = "Critical path, and what changes would do"
    return blocks.section("path", title, _path(diagnosis))


def _path(diagnosis: Diagnosis) -> Iterator[Block]:
    path = diagnosis.critical_path
    if path is not None:
        heading = sentences.path_heading(path)
        yield _time_table(heading, "on the path", sentences.path_lines(path))
    if diagnosis.what_if:
        rows = [sentences.change_cells(change) for change in diagnosis.what_if]
        yield blocks.table(
            "What changes would do, by a replay of what waits for what",
            sentences.CHANGE_HEADINGS,
            rows,
            " ## ",
        )


def _time_table(caption: str, what: str, lines: Iterable[Timed]) -> Block:
    rows = []
    for label, share, seconds in lines:
        idle = "idle: " if label.startswith(" ") else ""
        shaded: blocks.Cell = {"text": numbers.share(share), "shade": share}
        rows.append((f"{idle}{printable(label.strip(), SHORT)}", shaded, numbers.seconds(seconds)))
    return blocks.table(caption, (what, "share", "time"), rows, " ##")
