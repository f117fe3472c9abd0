"""The ranks side by side: a map of their phases, and their mean steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trainprof.profiler.model.diagnosis import Diagnosis, RankSummary
from trainprof.profiler.model.phases import PHASES
from trainprof.reports import numbers
from trainprof.reports.html import blocks
from trainprof.reports.html.blocks import Block
from trainprof.reports.phases import MIN_SHARE, phase_label

MOST_RANKS = 64
"""Rows of the map; of more ranks the slowest and the fastest are shown, where steps were timed."""


def ranks_section(diagnosis: Diagnosis) -> Block:
    """The ranks of a training; nothing where there is but one."""
    found = list(_blocks(diagnosis)) if len(diagnosis.ranks) > 1 else []
    return blocks.section("ranks", "Ranks", found)


def _blocks(diagnosis: Diagnosis) -> Iterator[Block]:
    ranks = diagnosis.ranks
    timed = [one for one in ranks if one.mean_s is not None]
    slowest_first = sorted(timed, key=lambda one: -(one.mean_s or 0.0))
    shown: Sequence[RankSummary] = ranks
    caption = "Mean step of each rank, and the share of its phases; the darker, the more"
    if len(ranks) > MOST_RANKS:
        half = MOST_RANKS // 2
        if len(timed) > MOST_RANKS:
            shown = [*slowest_first[:half], *slowest_first[-half:]]
            chosen = f"The {half} slowest and the {half} fastest"
        else:
            shown, chosen = ranks[:MOST_RANKS], f"The first {MOST_RANKS}"
        caption = f"{chosen} of {numbers.count(len(ranks))} ranks; the darker, the more"
    phases = [
        phase for phase in PHASES
        if any(one.phases_share.get(phase, 0.0) >= MIN_SHARE for one in ranks)
    ]  # fmt: skip
    longest_s = max((one.mean_s or 0.0 for one in timed), default=0.0)
    headings = ("rank", "steps", "mean step", *map(phase_label, phases))
    rows = [_cells(one, phases, longest_s) for one in shown]
    yield blocks.table(caption, headings, rows, " " + "#" * (len(headings) - 1))


def _cells(rank: RankSummary, phases: Sequence[str], longest_s: float) -> list[blocks.Cell]:
    mean: blocks.Cell = numbers.seconds(rank.mean_s)
    if rank.mean_s is not None and longest_s > 0:
        mean = {"text": numbers.seconds(rank.mean_s), "shade": rank.mean_s / longest_s}
    shares: list[blocks.Cell] = []
    for phase in phases:
        share = rank.phases_share.get(phase)
        shares.append("" if share is None else {"text": numbers.share(share), "shade": share})
    return [f"rank {rank.rank}", numbers.count(rank.steps), mean, *shares]
