"""The operators of one step, as a window of torch's profiler saw them; shares are parts of it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.short_operators import SHORT_NS, SHORT_PAUSE_NS
from trainprof.rules.attention_pattern import find_attention
from trainprof.rules.fusable_chains import find_chains
from trainprof.rules.operator_table import (
    BACKWARD,
    BEFORE_UPDATE,
    BETWEEN,
    FORWARD,
    Call,
    OperatorTable,
    read_table,
    shapes_repeat,
    why_absent,
)
from trainprof.rules.repetition import (
    Repetition,
    find_repetitions,
    forward_segments,
    goes_over_the_same,
    touched,
)
from trainprof.rules.signals.operator_descriptions import DESCRIPTIONS
from trainprof.rules.signals.sheet import Sheet
from trainprof.rules.signals.training import Training

WIDE = 512
"""Least size of a product's last dimensions for 16-bit matrix units to pay."""

_PRODUCTS = ("linear", "matmul", "mm", "addmm", "bmm", "baddbmm", "einsum", "conv1d", "conv2d")


def measure(training: Training) -> dict[str, Signal]:
    """Signals operators.*."""
    sheet = Sheet(DESCRIPTIONS)
    table = read_table(training.trainer)
    if table is None:
        return sheet.finish(why_absent(training.trainer))
    method = "one step under torch's profiler"
    sheet.put("operators.window_s", table.wall_ns / 1e9, method=method, samples=table.windows)
    sheet.put("operators.count", len(table.calls), method=method)
    forward = [call.wall_ns for call in table.in_zone(FORWARD)]
    median_s = statistics.median(forward) / 1e9 if forward else None
    sheet.put("operators.median_s", median_s, reason="no operator of a forward was seen")
    _attention(table, sheet)
    _gaps(table, sheet)
    _loops(table, sheet)
    _parameter_loops(table, sheet)
    _one_hot(table, sheet)
    _rearranged(table, sheet)
    _embedding(table, sheet)
    _products(table, sheet)
    _chains(table, sheet)
    repeat = shapes_repeat(training.trainer)
    sheet.put("operators.shapes_repeat", repeat, reason="a single step was watched")
    return sheet.finish("there is no such pattern in the step")


def _attention(table: OperatorTable, sheet: Sheet) -> None:
    found = list(find_attention(table.in_zone(FORWARD)))
    share = table.share(call for one in found for call in one.calls)
    sheet.put("operators.attention_share", share)
    sheet.put("operators.attention_count", len(found))
    if found:
        sheet.put("operators.attention_length", max(one.length for one in found))
        sheet.put("operators.attention_masked", any(one.masked for one in found))
        place = table.place(("softmax", "_softmax"))
        sheet.put("operators.attention_where", place, reason="the calling lines were not seen")


def _gaps(table: OperatorTable, sheet: Sheet) -> None:
    gaps = [
        after.start_ns - before.end_ns
        for before, after in pairwise(table.calls)
        if before.zone == after.zone and before.zone in (FORWARD, BACKWARD)
    ]
    short = sum(gap for gap in gaps if 0 < gap <= SHORT_PAUSE_NS)
    sheet.put("operators.gap_share", min(short / table.wall_ns, 1.0))
    small = sum(
        self_ns
        for zone, _, count, self_ns in table.kernels
        if zone in (FORWARD, BACKWARD) and self_ns < SHORT_NS * count
    )
    sheet.put("operators.short_share", min((short + small) / table.wall_ns, 1.0))


def _loops(table: OperatorTable, sheet: Sheet) -> None:
    """Loops over time, samples or indices in the forward."""
    found = [
        loop
        for segment in forward_segments(table)
        for loop in find_repetitions(segment, lambda call: (call.name, call.shapes))
        if goes_over_the_same(loop, table)
    ]
    total_ns = sum(loop.total_ns for loop in found)
    sheet.put("operators.loop_share", min(total_ns / table.wall_ns, 1.0))
    if found:
        dearest = max(found, key=lambda loop: loop.total_ns)
        sheet.put("operators.loop_turns", dearest.turns)
        sheet.put("operators.loop_body", dearest.period)
        median_ns = statistics.median(call.wall_ns for call in dearest.calls)
        sheet.put("operators.loop_median_s", median_ns / 1e9)
        place = _busiest_line(table, dearest)
        sheet.put("operators.loop_where", place, reason="the calling lines were not seen")


def _busiest_line(
    table: OperatorTable, loop: Repetition, *, direct: bool = False
) -> Location | None:
    """The line that calls the functions of a loop most often, at least once a turn."""
    names = {call.name for call in loop.calls}
    lines = [
        line
        for line in table.lines
        if line.calls >= loop.turns and line.function in names and (line.direct or not direct)
    ]
    return max(lines, key=lambda line: (line.direct, line.calls)).place if lines else None


def _parameter_loops(table: OperatorTable, sheet: Sheet) -> None:
    """Averages of weights, clipping and norms, written as loops in the user's own lines."""
    known = table.parameters | table.gradients
    loops: list[Repetition] = []
    for zone in (BEFORE_UPDATE, BETWEEN):
        found = find_repetitions(table.in_zone(zone), lambda call: call.name)
        loops += [
            loop
            for loop in found
            if touched(loop, known) >= loop.turns / 2 and _busiest_line(table, loop, direct=True)
        ]
    share = min(sum(loop.total_ns for loop in loops) / table.wall_ns, 1.0)
    sheet.put("operators.parameter_loop_share", share)
    if loops:
        dearest = max(loops, key=lambda loop: loop.total_ns)
        names = {call.name for loop in loops for call in loop.calls}
        sheet.put("operators.parameter_loop_tensors", dearest.turns)
        sheet.put("operators.parameter_loop_item", "item" in names)
        sheet.put("operators.parameter_loop_where", _busiest_line(table, dearest, direct=True))


def _one_hot(table: OperatorTable, sheet: Sheet) -> None:
    """One-hot vectors, and the first product with vectors of that length that follows."""
    calls = table.in_zone(FORWARD, BETWEEN)
    spent: list[Call] = []
    classes = 0
    for place, call in enumerate(calls):
        if call.name != "one_hot":
            continue
        for later in range(place + 1, min(place + 8, len(calls))):
            product = calls[later]
            if product.name in _PRODUCTS and product.shapes and product.zone == FORWARD:
                spent += calls[place : later + 1]
                classes = max(classes, product.shapes[0][-1])
                break
    sheet.put("operators.onehot_share", table.share(spent))
    if spent:
        sheet.put("operators.onehot_classes", classes)
        place_seen = table.place(("one_hot",))
        sheet.put("operators.onehot_where", place_seen, reason="the calling lines were not seen")


def _rearranged(table: OperatorTable, sheet: Sheet) -> None:
    total_ns = sum(call.rearranged_ns for call in table.calls)
    sheet.put("operators.rearranged_share", min(total_ns / table.wall_ns, 1.0))
    names = _dearest_names(table.in_zone(FORWARD, BETWEEN))
    if names:
        sheet.put("operators.rearranged_in", ", ".join(names[:3]))
        place = table.place(names, direct=True) or table.place(names)
        sheet.put("operators.rearranged_where", place, reason="the calling lines were not seen")


def _dearest_names(calls: Iterable[Call]) -> list[str]:
    """Names of operators by the time of the copies in them, the dearest first."""
    spent: dict[str, int] = {}
    for call in calls:
        if call.rearranged_ns:
            spent[call.name] = spent.get(call.name, 0) + call.rearranged_ns
    return sorted(spent, key=lambda name: -spent[name])


def _embedding(table: OperatorTable, sheet: Sheet) -> None:
    """The largest embedding table, where its gradient is dense."""
    tables = [
        call
        for call in table.in_zone(FORWARD)
        if call.name in ("embedding", "embedding_bag") and len(call.shapes) >= 2
    ]
    dense = any(name == "embedding_dense_backward" for _, name, _, _ in table.kernels)
    if not tables or not dense:
        return
    largest = max(tables, key=lambda call: call.shapes[0][0] * call.shapes[0][-1])
    rows, width = largest.shapes[0][0], largest.shapes[0][-1]
    same = [call for call in tables if call.storages[0] == largest.storages[0]]
    indices = sum(_elements(call.shapes[1]) for call in same)
    sheet.put("operators.embedding_rows", rows)
    sheet.put("operators.embedding_touched_share", min(indices / rows, 1.0))
    sheet.put("operators.embedding_bytes", rows * width * 4)
    share = min(sum(call.backward_ns for call in same) / table.wall_ns, 1.0)
    sheet.put("operators.embedding_backward_share", share)
    place = table.place(("embedding", "embedding_bag"))
    sheet.put("operators.embedding_where", place, reason="the calling lines were not seen")


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _products(table: OperatorTable, sheet: Sheet) -> None:
    wide = [
        call
        for call in table.in_zone(FORWARD)
        if call.name in _PRODUCTS and set(call.dtypes[:2]) == {"float32"} and _is_wide(call)
    ]
    sheet.put("operators.product_share", table.share(wide))


def _chains(table: OperatorTable, sheet: Sheet) -> None:
    chains = list(find_chains(table.calls))
    total_ns = sum(chain.total_ns for chain in chains)
    # On a busy machine operators take longer than the step did without waiting for a CPU.
    step_ns = max(table.wall_ns, sum(call.wall_ns for call in table.calls))
    sheet.put("operators.chain_share", min(total_ns / step_ns, 1.0))
    if total_ns:
        weighted = sum(len(chain.calls) * chain.total_ns for chain in chains)
        sheet.put("operators.chain_length", weighted / total_ns, method="weighted by their time")
        spent: Counter[str] = Counter()
        for chain in chains:
            for call in chain.calls:
                spent[call.name] += call.total_ns
        names = [name for name, _ in spent.most_common()]
        place = table.place(names, direct=True) or table.place(names)
        sheet.put("operators.chain_where", place, reason="the calling lines were not seen")


def _is_wide(call: Call) -> bool:
    """Whether the second operand, the weights, is wide in both directions."""
    if len(call.shapes) < 2:
        return False
    shape = call.shapes[1]
    across = _elements(shape[1:]) if call.name.startswith("conv") else shape[-1]
    rows = shape[0] if call.name.startswith("conv") or len(shape) < 2 else shape[-2]
    return min(rows, across) >= WIDE
