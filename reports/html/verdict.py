"""The first screen: what is wrong, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import Diagnosis, Finding
from trainprof.reports import numbers, sentences
from trainprof.reports.html import blocks
from trainprof.reports.html.blocks import Block
from trainprof.reports.source import place
from trainprof.reports.text import printable


def verdict_section(diagnosis: Diagnosis) -> Block:
    """The verdict, the few numbers behind it, and the first thing to do."""
    return blocks.section("verdict", "Verdict", _blocks(diagnosis))


def _blocks(diagnosis: Diagnosis) -> Iterator[Block]:
    yield {
        "kind": "verdict",
        "verdict": diagnosis.verdict,
        "word": sentences.verdict_word(diagnosis),
        "headline": sentences.headline(diagnosis),
    }
    caution = sentences.caution(diagnosis)
    if caution:
        yield blocks.text(caution, "caution")
    if diagnosis.findings:
        yield from _first_thing(diagnosis.findings[0])
    yield blocks.facts(_figures(diagnosis), "cards")
    yield blocks.facts(sentences.run_lines(diagnosis))
    remarks = sentences.remarks(diagnosis)
    if remarks:
        yield blocks.listing(remarks)


def _first_thing(finding: Finding) -> Iterator[Block]:
    rows = []
    if finding.fixes:
        rows.append(("Do this first", printable(finding.fixes[0].text)))
        where = finding.fixes[0].where or finding.where
    else:
        where = finding.where
    if where is not None:
        rows.append(("Where", place(where)))
    rows.append(("Predicted gain", sentences.gain_line(finding)))
    yield blocks.facts(rows, "first")


def _figures(diagnosis: Diagnosis) -> Iterator[tuple[str, str]]:
    steps = diagnosis.steps
    if steps.mean_s is not None:
        mean = numbers.seconds(steps.mean_s)
        if steps.mean_s_low is not None and steps.mean_s_high is not None:
            low, high = numbers.seconds(steps.mean_s_low), numbers.seconds(steps.mean_s_high)
            mean += f"\n90 % interval {low} to {high}"
        yield "Mean step", mean
    elif "steps.mean_s" in diagnosis.missing:
        yield "Mean step", f"not measured\n{printable(diagnosis.missing['steps.mean_s'])}"
    if steps.samples_per_s is not None:
        yield "Throughput", f"{numbers.significant(steps.samples_per_s)} samples/s"
    steady = "" if diagnosis.source == "trace" else f"\n{numbers.count(steps.steady)} steady"
    yield "Steps", f"{numbers.count(steps.count)}{steady}"
    if diagnosis.run.wall_s is not None:
        yield (
            "Whole trace" if diagnosis.source == "trace" else "Whole run",
            numbers.seconds(diagnosis.run.wall_s),
        )
    yield "Findings", numbers.count(len(diagnosis.findings))
