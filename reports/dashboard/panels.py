"""The parts of the screen above its views, as lines of text from the board alone.

Colour repeats what a letter, a word or a bar already says, so that nothing is lost without it. No
textual in here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.text import Text

from trainprof.profiler.model.diagnosis import PhaseTime, StepSummary
from trainprof.reports import numbers
from trainprof.reports.dashboard.board import LIVE_S, Board
from trainprof.reports.dashboard.machine import Gauge
from trainprof.reports.dashboard.trials import standing, tuned_script
from trainprof.reports.live_diagnosis import FIRST_DIAGNOSIS_STEPS
from trainprof.reports.phases import FOLDED, PhaseRow, bar_cells, phase_rows
from trainprof.reports.sentences import verdict_parts, with_status
from trainprof.reports.terminal.sections import fill_style
from trainprof.reports.text import printable

_LEVELS = "▁▂▃▄▅▆▇█"
LABEL_WIDTH = 10
STALLED_S = 20.0
"""Without a step for so long, and ten of its steps, the training is said to stand still."""
_KEYS = {
    "t": "trace",
    "s": "stacks",
    "space": "freeze",
    "r": "rank",
    "tab": "view",
    "enter": "page",
    "c": "copy",
    "?": "help",
    "q": "quit",
}


def sparkline(values: Sequence[float | None], width: int, full: float | None = None) -> str:
    """The latest values as bars; a dot where there is none.

    Args:
        values: In the order of time.
        width: Columns. More values than that are joined by their mean, so that all are told.
        full: The value of a whole bar; None for the largest one.
    """
    shown = _joined(values, width)
    known = [value for value in shown if value is not None and math.isfinite(value)]
    top = full or max(known, default=0.0)
    return "".join("·" if one is None else _level(one, top) for one in shown)


def _level(value: float, top: float) -> str:
    if top <= 0:
        return _LEVELS[0]
    return _LEVELS[round(7 * max(0.0, min(1.0, value / top)))]


def _joined(values: Sequence[float | None], width: int) -> list[float | None]:
    if width <= 0:
        return []
    if len(values) <= width:
        return list(values)
    joined: list[float | None] = []
    for i in range(width):
        part = values[i * len(values) // width : max(1, (i + 1) * len(values) // width)]
        known = [value for value in part if value is not None]
        joined.append(sum(known) / len(known) if known else None)
    return joined


def title_line(board: Board, width: int, note: str = "") -> Text:
    """Which run, how it stands, which ranks are looked at."""
    info = board.info
    name = printable(info.name, 40) if info else "no run.json yet"
    parts = [name, _standing(board)]
    if board.tune is not None:
        parts = [tuned_script(board), standing(board.tune, board.unix_s)]
    training = board.training()
    if len(training) > 1:
        count = len(training)
        all_of = board.selected is None
        parts.append(f"all {count} ranks" if all_of else f"rank {board.selected} of {count}")
    if board.behind:
        parts.append("reading what was before …")
    if note:
        parts.append(note.upper())
    text = Text(" trainprof top · " + " · ".join(parts), style="bold reverse", end="")
    text.truncate(width, overflow="ellipsis", pad=True)
    return text


def _standing(board: Board) -> str:
    info = board.info
    now = numbers.seconds(float(round(board.now_s)))
    if board.status == "running":
        return f"running for {now}"
    if board.status == "crashed" and info:
        return f"crashed{with_status(info.exit_status)} after {now}"
    if board.status == "incomplete":
        return f"killed after {now}"
    return f"{board.status} after {now}"


def step_lines(board: Board, width: int) -> list[Text]:
    """Rate and step time now, steps so far; below it the history of the rate."""
    chosen = board.chosen()
    if not chosen:
        waits = "no step was recorded" if board.over else "no step yet: the training starts"
        return [labelled("steps", Text(waits)), Text("")]
    live = board.live(chosen)
    steps = max(rank.steps for rank in chosen)
    words = [f"{numbers.count(steps)} steps"]
    if not board.over:
        stall = _stall(board)
        words.insert(0, stall or f"{numbers.significant(live.rate)} steps/s")
        if live.step_s is not None:
            words.insert(1, f"{numbers.seconds(live.step_s)} a step now")
    summary = step_summary(board)
    if summary is not None and summary.mean_s is not None:
        steady = numbers.seconds(summary.mean_s)
        words.append(f"{'steady' if board.is_diagnosed else 'unchanged'} {steady}")
    rates = sparkline(board.rates(), width - LABEL_WIDTH)
    return [
        labelled("steps", Text(" · ".join(words))),
        labelled("steps/s", Text(rates, style="green")),
    ]


def step_summary(board: Board) -> StepSummary | None:
    """The diagnosed steps; None before there are any."""
    return board.diagnosis.steps if board.diagnosis is not None else None


def _stall(board: Board) -> str | None:
    chosen = board.chosen()
    silent_s = board.now_s - max(rank.last_s for rank in chosen)
    usual_s = max((rank.last_s - (rank.first_s or 0.0)) / max(1, rank.steps) for rank in chosen)
    if silent_s > max(STALLED_S, 10 * usual_s):
        return f"no step for {numbers.seconds(float(round(silent_s)))}"
    return None


def _loss(losses: list[float]) -> str:
    mean = sum(losses) / len(losses)
    return numbers.significant(mean) if math.isfinite(mean) else str(mean)


def loss_line(board: Board, width: int) -> Text:
    """The loss over the run, of the ranks that are looked at."""
    means = board.loss_means()
    known = [value for value in means if value is not None and math.isfinite(value)]
    losses = [rank.loss for rank in board.chosen() if rank.loss is not None]
    if not losses:
        return labelled("loss", Text("not seen"))
    low, high = min(known, default=0.0), max(known, default=0.0)
    shifted = [None if value is None else value - low for value in means]
    ends = f" · means {numbers.significant(low)} to {numbers.significant(high)}" if known else ""
    text = f" {_loss(losses)}{'' if board.over else ' now'}{ends}"
    bar = sparkline(shifted, width - LABEL_WIDTH - len(text))
    return labelled("loss", Text.assemble((bar, "magenta"), text))


def phase_lines(board: Board, width: int) -> list[Text]:
    """Two bars, of the last seconds and of the run so far, and a legend of the larger parts."""
    live = board.live(board.chosen())
    bar_width = width - LABEL_WIDTH
    rows_live = _rows(live.shares)
    lines = []
    if not board.over:
        bar = _bar(rows_live, bar_width) if rows_live else Text("no step ended")
        lines.append(labelled(f"last {LIVE_S} s", bar))
    rows = _rows(_diagnosed_shares(board))
    bar = _bar(rows, bar_width) if rows else Text(_not_diagnosed(board))
    lines.append(labelled("all steps" if board.is_diagnosed else "unchanged", bar))
    lines.append(labelled("", _legend(rows or rows_live, bar_width)))
    return lines


def _not_diagnosed(board: Board) -> str:
    if board.diagnosis is None:
        return "not diagnosed yet"
    return "too few steady steps"


def _rows(shares: Mapping[str, float]) -> list[PhaseRow]:
    phases = {name: PhaseTime(share, 0.0) for name, share in shares.items()}
    return phase_rows(StepSummary(0, 0, phases=phases))


def _diagnosed_shares(board: Board) -> Mapping[str, float]:
    """Of all ranks the diagnosed step; of one rank its own shares, from the same diagnosis."""
    diagnosis = board.diagnosis
    if diagnosis is None:
        return {}
    for rank in diagnosis.ranks:
        if rank.rank == board.selected and rank.phases_share:
            return rank.phases_share
    if board.selected is not None and len(board.training()) > 1:
        return {}
    return {name: time.share for name, time in diagnosis.steps.phases.items()}


def _bar(rows: list[PhaseRow], width: int) -> Text:
    text = Text()
    for row, cells in zip(rows, bar_cells(rows, width), strict=True):
        text.append(row.letter * cells, style=fill_style(row))
    return text


def _legend(rows: list[PhaseRow], width: int) -> Text:
    """The largest parts first, as many as there is room for."""
    text = Text()
    for row in sorted(rows, key=lambda one: -one.time.share):
        letter = "" if row.phase == FOLDED else f"{row.letter} "
        entry = f"{letter}{row.label} {numbers.share(row.time.share)}"
        if len(text) + len(entry) + 2 > width:
            break
        text.append(("  " if len(text) else "") + entry)
    return text


def data_line(board: Board, width: int) -> Text:
    """How much of the step the training waits for data, and how many batches are ready."""
    chosen = board.chosen()
    share = _data_wait_share(board)
    ready = [rank.ready for rank in chosen if rank.ready is not None]
    queue = f"queue {numbers.count(min(ready))} ready" if ready else "queue not measured"
    part = "not measured" if share is None else f"{numbers.share(share)} of the step"
    words = f" {part} · {queue}"
    return labelled("data wait", Text.assemble(_gauge(share, min(30, width // 3)), words))


def _data_wait_share(board: Board) -> float | None:
    """Now, or of the whole run once it is over; None where no loader was seen."""
    if not any(rank.waits for rank in board.chosen()):
        return None
    whole = _diagnosed_shares(board) if board.over and board.is_diagnosed else {}
    shares = whole or board.live(board.chosen()).shares
    return shares.get("data_wait", 0.0) if shares else None


def _gauge(share: float | None, width: int) -> Text:
    if share is None:
        return Text("[" + "?" * width + "]")
    cells = max(0, min(width, round(share * width)))
    return Text.assemble("[", ("#" * cells, "dark_orange3"), "." * (width - cells), "]")


def machine_lines(board: Board, width: int, most: int = 4) -> list[Text]:
    """Sparklines of the machine and its GPUs, two to a line where there is room."""
    order = board.machine.ordered()
    if board.selected is not None:
        order = [*_rank_gauges(board), *order]
    if not order:
        return [labelled("machine", Text("no sample yet"))]
    columns = 2 if width >= 70 else 1
    column = width // columns - (columns - 1)
    cells = [_gauge_cell(gauge, column) for gauge in order[: most * columns]]
    lines = []
    for begin in range(0, len(cells), columns):
        line = Text("  ").join(cells[begin : begin + columns])
        lines.append(line)
    left = len(order) - len(cells)
    if left > 0:
        lines[-1] = labelled("", Text(f"and {left + columns} more; a taller window shows them"))
    return lines


def _rank_gauges(board: Board) -> list[Gauge]:
    gauges = []
    for rank in board.chosen():
        gauge = board.machine.process_cpu.get(rank.info.pid)
        if gauge is not None:
            named = Gauge(f"rank {rank.rank}", "cores", gauge.value, None, gauge.history)
            gauges.append(named)
    return gauges


def _gauge_cell(gauge: Gauge, width: int) -> Text:
    value = numbers.quantity(gauge.value, gauge.unit)
    head = f"{gauge.label[:10]:<{LABEL_WIDTH}}{value:<13}"
    bar = sparkline(gauge.history.means(), width - len(head), gauge.full)
    cell = Text.assemble((head[:LABEL_WIDTH], "bold"), head[LABEL_WIDTH:], (bar, "cyan"))
    cell.pad_right(max(0, width - cell.cell_len))
    return cell


def rank_line(board: Board, width: int) -> Text | None:
    """How long the steps of each rank take now, beside each other; None for a single rank."""
    training = board.training()
    if len(training) < 2:
        return None
    steps_s = {rank.rank: board.live([rank]).step_s for rank in training}
    known = {rank: value for rank, value in steps_s.items() if value is not None}
    diagnosis = board.own_diagnosis
    if board.over and diagnosis is not None:
        known = {one.rank: one.mean_s for one in diagnosis.ranks if one.mean_s is not None}
    if not known:
        return labelled("ranks", Text("no step ended"))
    slowest = max(known, key=lambda rank: known[rank])
    words = f" slowest: {slowest}, {numbers.seconds(known[slowest])} a step"
    values = [known.get(rank.rank) for rank in training]
    bar = sparkline(values, width - LABEL_WIDTH - len(words))
    return labelled("ranks", Text.assemble((bar, "yellow"), words))


def verdict_line(board: Board) -> Text:
    """What the latest diagnosis says in one sentence."""
    if board.diagnosis is None and board.tune is not None and not board.tune.over:
        return Text("The tune diagnoses the unchanged script once that has run.")
    if board.diagnosis is None and board.over:
        return Text("The run is being diagnosed …" if board.ranks else "No diagnosis yet.")
    if board.diagnosis is None:
        steps = max((rank.steps for rank in board.ranks.values()), default=0)
        if steps < FIRST_DIAGNOSIS_STEPS:
            return Text(f"The first diagnosis comes after {FIRST_DIAGNOSIS_STEPS} steps.")
        return Text("The run is being diagnosed …")
    word, text = verdict_parts(board.diagnosis)
    return Text.assemble((word, "bold"), text)


def keys_line() -> Text:
    """The keys, and what each does in a word."""
    pairs = [Text.assemble((key, "bold"), " ", does) for key, does in _KEYS.items()]
    return Text(" ").join(pairs)


def labelled(label: str, text: Text) -> Text:
    """A line that begins with its label in bold."""
    return Text.assemble((f"{label:<{LABEL_WIDTH}}", "bold"), text)
