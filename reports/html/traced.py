"""What only a trace tells: devices, kernels, the critical path, and what changes would do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trainprof.profiler.model.diagnosis import Diagnosis, OperatorTime, OperatorTimes
from trainprof.reports import numbers, trace_sentences
from trainprof.reports.html import blocks
from trainprof.reports.html.blocks import Block
from trainprof.reports.text import SHORT, printable

KERNEL_HEADINGS = ("kernels", "share", "count", "precision", "tensor cores", "mostly")
OPERATOR_HEADINGS = (
    "operator",
    "calls",
    "device time",
    "device share",
    "host time",
    "host share",
    "mostly on inputs of",
)
Timed = tuple[str, float, float]


def devices_section(diagnosis: Diagnosis) -> Block:
    """What each device did, and the thread that trains."""
    return blocks.section("devices", "What the devices did", _devices(diagnosis))


def _devices(diagnosis: Diagnosis) -> Iterator[Block]:
    for device in diagnosis.devices:
        heading = trace_sentences.device_heading(device)
        yield _time_table(heading, "the device", trace_sentences.device_lines(device))
    thread = diagnosis.training_thread
    if thread is not None:
        heading = trace_sentences.thread_heading(thread)
        yield _time_table(heading, "the thread", trace_sentences.thread_lines(thread))


def kernels_section(diagnosis: Diagnosis) -> Block:
    """The kernels of the busiest device by family."""
    shown = [one for one in diagnosis.kernels if one.share >= trace_sentences.LEAST_KERNEL_SHARE]
    lines = trace_sentences.kernel_lines(shown)
    rows = [
        (
            printable(name, SHORT),
            blocks.measured(numbers.share(share), share, shade=share),
            blocks.measured(numbers.count(count), count),
            printable(precision, SHORT),
            blocks.measured(cores, one.tensor_cores),
            printable(example, 2 * SHORT),
        )
        for (name, share, count, precision, cores, example), one in zip(lines, shown, strict=True)
    ]
    heading = trace_sentences.KERNELS_HEADING
    table = blocks.table(heading, KERNEL_HEADINGS, rows, " ## # ", sortable=True)
    return blocks.section("kernels", "Kernels", [table] if rows else [])


def operators_section(diagnosis: Diagnosis) -> Block:
    """The operators that take most, each by itself."""
    found = diagnosis.operators
    return blocks.section("operators", "Operators", [] if found is None else _operators(found))


def _operators(found: OperatorTimes) -> Iterator[Block]:
    device = found.device
    measured_of = "the host" if device is None else f"device {printable(device.name, SHORT)}"
    yield blocks.text(
        "What each took by itself: on the host without the operators inside it, of all threads; "
        "on the device the work that it launched and none of these did. Shares are of "
        f"{printable(found.window, SHORT)}, {numbers.seconds(found.window_s)}, and may add up to "
        "more than all of it.",
        "note",
    )
    absent = 0 if any(row.shapes is not None for row in found.rows) else 1
    headings = [one for one in OPERATOR_HEADINGS if device is not None or "device" not in one]
    yield blocks.table(
        _which_operators(len(found.rows), found.names, f"time on {measured_of}"),
        headings[: len(headings) - absent],
        [_operator_cells(row)[: len(headings) - absent] for row in found.rows],
        " ### " if device is None else " ##### ",
        sortable=True,
    )
    if device is not None and device.unlinked_s:
        time = numbers.seconds(device.unlinked_s)
        yield blocks.text(f"{time} of the device's work was launched by no operator.", "note")


def _which_operators(shown: int, names: int, time: str) -> str:
    if shown < names:
        return f"{shown} of {numbers.count(names)} operators, those that take most, by their {time}"
    return f"All {shown} operators, by their {time}" if shown > 1 else f"The only operator: {time}"


def _operator_cells(row: OperatorTime) -> list[blocks.Cell]:
    own = [row.host] if row.device is None else [row.device, row.host]
    times = [
        cell
        for one in own
        for cell in (
            blocks.measured(numbers.seconds(one.s), one.s),
            blocks.measured(numbers.share(one.share), one.share, shade=one.share),
        )
    ]
    others = f" and {row.shape_kinds - 1} more" if row.shape_kinds > 1 else ""
    shapes = "" if row.shapes is None else f"{printable(row.shapes, 2 * SHORT)}{others}"
    return [
        printable(row.name, SHORT),
        blocks.measured(numbers.count(row.calls), row.calls),
        *times,
        shapes,
    ]


def path_section(diagnosis: Diagnosis) -> Block:
    """What decides how long a step takes, and what changes of it would gain."""
    title = "Critical path, and what changes would do"
    return blocks.section("path", title, _path(diagnosis))


def _path(diagnosis: Diagnosis) -> Iterator[Block]:
    path = diagnosis.critical_path
    if path is not None:
        heading = trace_sentences.path_heading(path)
        yield _time_table(heading, "on the path", trace_sentences.path_lines(path))
    if diagnosis.what_if:
        rows = [trace_sentences.change_cells(change) for change in diagnosis.what_if]
        yield blocks.table(
            "What changes would do, by a replay of what waits for what",
            trace_sentences.CHANGE_HEADINGS,
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
