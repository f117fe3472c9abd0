"""What is known at the end of a run, as TensorBoard shows it: texts, the picture, trials."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.tuning import Pair, TuneResult
from trainprof.reports.markdown import MarkdownReport, escaped, finding_lines
from trainprof.reports.tensorboard.event_file import EventFile
from trainprof.reports.tensorboard.picture import phase_picture
from trainprof.reports.text import SHORT, printable
from trainprof.reports.trial_rows import trial_rows
from trainprof.reports.tune_sentences import PAIR_HEADINGS, pair_cells

ABOUT_CURVES = """
Each of the first 1,024 steps has a point. Of later ones a point is the mean of 2 steps, from step
2,048 on of 4, from 4,096 on of 8, and so on: 100,000 steps make 4,366 points, and no step is left
out. Resources are means over the same steps. TensorBoard itself draws 1,000 points of a curve,
chosen at random; `--samples_per_plugin scalars=0` draws all. A phase has a curve from the first
step on in which it took any time; what was not measured has none.
"""

_FENCED = re.compile(r"^  (`{3,})\w*$.*?^  \1$", re.DOTALL | re.MULTILINE)
_ESCAPED_OR_CODE = re.compile(r"\\([^\w\s]|_)|(`+).*?(?<!`)\2(?!`)", re.DOTALL)


def write_diagnosis(file: EventFile, diagnosis: Diagnosis) -> None:
    """The verdict, the findings, the picture of the step and its figures."""
    run, steps = diagnosis.run, diagnosis.steps
    step = max(steps.count - 1, 0)
    unix_s = (run.started_unix_s or 0.0) + (run.wall_s or 0.0)
    whole = MarkdownReport().render(replace(diagnosis, other_sessions=()))
    file.text("trainprof/diagnosis", step, unix_s, for_tensorboard(whole))
    file.text("trainprof/about these curves", step, unix_s, ABOUT_CURVES)
    for number, finding in enumerate(diagnosis.findings, start=1):
        name = f"findings/{number:02d} {printable(finding.rule, SHORT)}"
        text = "\n".join(finding_lines(number, finding, diagnosis))
        file.text(name, step, unix_s, for_tensorboard(text))
    picture = phase_picture(diagnosis)
    if picture is not None:
        file.image("trainprof/the mean step", step, unix_s, *picture)
    values = dict(_figures(diagnosis))
    if values:
        file.scalars(step, unix_s, values)
    for rank in diagnosis.ranks if len(diagnosis.ranks) > 1 else ():
        if rank.mean_s is not None:
            file.scalars(rank.rank, unix_s, {"ranks/step_seconds": rank.mean_s})


def write_trials(folder: Path, started_unix_s: float, tune: TuneResult) -> None:
    """One run of TensorBoard's for each row of the HParams page, and one for the pairs behind it.

    The HParams page would make columns of the last pair's values if they were in the same run.
    """
    for row in trial_rows(tune):
        place = row.name.replace("/", "-")
        file = EventFile(folder / "trials" / place, started_unix_s)
        file.parameters(f"{folder.name}/{row.name}", started_unix_s, row.parameters)
        if row.metrics:
            file.scalars(0, started_unix_s, row.metrics)
        file.close()
        if row.pairs:
            file = EventFile(folder / "pairs" / place, started_unix_s)
            _write_pairs(file, started_unix_s, row.pairs)
            file.close()


def _write_pairs(file: EventFile, unix_s: float, pairs: Sequence[Pair]) -> None:
    """A point of each pair, over its number; and all as a table, with why some do not count."""
    lines = [f"| pair | {' | '.join(PAIR_HEADINGS)} |", "|--:|---|--:|--:|--:|---|"]
    for number, pair in enumerate(pairs, 1):
        named = {
            f"tune_pair/ratio{'' if pair.left_out is None else '_left_out'}": pair.ratio,
            "tune_pair/old_step_seconds": pair.old_step_s,
            "tune_pair/new_step_seconds": pair.new_step_s,
        }
        values = {name: value for name, value in named.items() if value is not None}
        if values:
            file.scalars(number, unix_s, values)
        lines.append(f"| {number} | {' | '.join(map(escaped, pair_cells(pair)))} |")
    file.text("tune_pair/all", len(pairs), unix_s, for_tensorboard("\n".join(lines)))


def for_tensorboard(markdown: str) -> str:
    """The same text for TensorBoard's Markdown, which knows fewer escapes and no <details>."""

    def changed(found: re.Match[str]) -> str:
        return found[0] if found[1] is None else f"&#{ord(found[1])};"

    plain = re.sub(r"^<details><summary>(.*)</summary>$", r"\1", markdown, flags=re.MULTILINE)
    plain = re.sub(r"^</details>$", "", plain, flags=re.MULTILINE)
    plain = re.sub(r"(?m)^((?!- |$).*)\n(?=- )", r"\1\n\n", plain)  # a list needs a blank line
    plain = _FENCED.sub(lambda found: re.sub(r"(?m)^  ", "", found[0]), plain)
    return _ESCAPED_OR_CODE.sub(changed, plain)


def _figures(diagnosis: Diagnosis) -> Iterator[tuple[str, float]]:
    """Of the mean steady step, as in diagnosis.json."""
    steps = diagnosis.steps
    named = {
        "summary/step_seconds": steps.mean_s,
        "summary/step_seconds_low": steps.mean_s_low,
        "summary/step_seconds_high": steps.mean_s_high,
        "summary/samples_per_s": steps.samples_per_s,
    }
    yield from ((name, value) for name, value in named.items() if value is not None)
    for phase, time in steps.phases.items():
        if time.share > 0:
            yield f"summary/phase_share/{printable(phase, SHORT)}", time.share
