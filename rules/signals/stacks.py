"""Sampled stacks: in which function of the user's own a phase of the step is spent."""

from __future__ import annotations

import re

from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.signals import Signal
from trainprof.rules.phase_stacks import HotSpot, PhaseStacks, gather, hot_spot
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

UNNAMED = ("loss", "h2d", "sync", "comm_exposed", "gc", "compile")
"""Phases that frames do not tell from the loop's own code; `residual` speaks for it only while it
is the larger part of all of them together."""

TOKENIZERS = re.compile(
    r"[/\\](?:tokenizers|sentencepiece|tiktoken|youtokentome|blingfire)[/\\]"
    r"|[/\\]tokenization_\w+\.py$"
)
"""Files of tokenizer libraries, and of the tokenizers in transformers."""

DESCRIPTIONS = (
    Description("stacks.sampled_s", "s", "Seconds of the training thread that were sampled."),
    Description(
        "stacks.residual_token_share",
        "share",
        "Part of the loop's own code that is spent in a tokenizer library.",
    ),
    *(
        description
        for phase in PHASES
        for description in (
            Description(
                f"stacks.{phase}_where",
                "place",
                f"Function of the user's in which most of phase {phase} is spent.",
            ),
            Description(
                f"stacks.{phase}_where_share", "share", f"Part of phase {phase} spent in it."
            ),
            Description(
                f"stacks.{phase}_call",
                "text",
                f"Library function that it calls for most of that, in phase {phase}.",
            ),
        )
    ),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals stacks.*."""
    sheet = Sheet(DESCRIPTIONS)
    if not training.run.stacks.windows:
        return sheet.finish("no stacks were sampled")
    phases = gather(training)
    own_ns = sum(phase.total_ns for name, phase in phases.items() if name != "workers")
    sheet.put("stacks.sampled_s", own_ns / 1e9)
    spots = {name: spot for name, phase in phases.items() if (spot := hot_spot(phase)) is not None}
    if spots.get("workers") is not None:
        spots["data_wait"] = spots["workers"]
    if not _speaks_for_residual(training):
        spots.pop("residual", None)
    for phase in PHASES:
        if phase in spots:
            _put(sheet, phase, spots[phase])
    if "residual" in spots:
        tokenizing = _tokenizing_ns(phases["residual"]) / phases["residual"].total_ns
        sheet.put("stacks.residual_token_share", tokenizing, samples=spots["residual"].looks)
    return sheet.finish("too few samples in this phase, or none in the user's own functions")


def _tokenizing_ns(phase: PhaseStacks) -> int:
    return sum(
        time_ns
        for stack, time_ns in phase.times_ns.items()
        if any(TOKENIZERS.search(frame.file) for frame in stack[phase.depths[stack] :])
    )


def _put(sheet: Sheet, phase: str, spot: HotSpot) -> None:
    of = "the workers' stacks during the wait" if spot.of_workers else "the training thread's stack"
    method = f"{of}, {spot.looks} looks"
    sheet.put(f"stacks.{phase}_where", spot.where, method=method, samples=spot.looks)
    sheet.put(f"stacks.{phase}_where_share", spot.share, method=method, samples=spot.looks)
    if spot.call is not None:
        sheet.put(f"stacks.{phase}_call", spot.call, method=method, samples=spot.looks)
    else:
        sheet.miss(f"stacks.{phase}_call", "no library holds most of it")


def _speaks_for_residual(training: Training) -> bool:
    if not training.has_window:
        return False
    shares = training.phase_shares
    others = sum(shares[phase].mean for phase in UNNAMED if phase in shares)
    return shares["residual"].mean > others
