"""The lines about a tune: which trial runs, what was tried, what waits. No textual in here."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.text import Text

from trainprof.profiler.model.tune_progress import Attempt, TuneRun
from trainprof.profiler.model.tuning import Pair
from trainprof.profiler.store.trials import script
from trainprof.profiler.store.tune_progress import TuneProgress
from trainprof.reports import numbers
from trainprof.reports.dashboard.board import Board
from trainprof.reports.sentences import noise_line
from trainprof.reports.source import short_path
from trainprof.reports.text import SENTENCE, SHORT, printable
from trainprof.reports.tune_sentences import headline, interval, searched_line, settings, times

_WORDS = {
    "keep": "kept",
    "reject": "no gain",
    "inconclusive": "not shown",
    "failed": "failed",
    "refused": "not in force",
}
_STYLES = {"kept": "bold green", "under way": "bold"}
_COLUMN = 13


def tuned_script(board: Board) -> str:
    """Whose tune it is, by the name of the script: the run of a trial is called "run"."""
    begun = board.tune.begun if board.tune is not None else None
    command = begun.command if begun is not None else board.info.argv if board.info else ()
    name = Path(script(command)[-1]).name if command else ""
    return f"tune of {printable(name, 40)}" if name else "tune"


def standing(tune: TuneProgress, unix_s: float) -> str:
    """How a tune stands, the time that it took, and what is left of its budget."""
    begun = tune.begun
    if tune.status == "unknown":
        return "a tune without a result"
    if begun is None:
        took = f" after {numbers.seconds(round(tune.result.seconds))}" if tune.result else ""
        return f"{_ending(tune.status)}{took}"
    if tune.status == "running":
        spent_s = max(unix_s - begun.started_unix_s, 0.0)
        left_s = max(begun.budget_s - spent_s, 0.0)
        left = f"{numbers.seconds(float(round(left_s)))} left" if left_s else "no time left"
        return f"running for {numbers.seconds(float(round(spent_s)))}, {left}"
    until_s = tune.last_unix_s or begun.started_unix_s
    took_s = tune.result.seconds if tune.result else until_s - begun.started_unix_s
    return f"{_ending(tune.status)} after {numbers.seconds(float(round(max(took_s, 0.0))))}"


def _ending(status: str) -> str:
    return {"budget": "no time for more"}.get(status, printable(status, SHORT))


def trial_line(board: Board) -> Text:
    """What runs now, or what became of the tune, in one line."""
    tune = board.tune
    assert tune is not None
    if tune.result is not None:
        return Text(printable(headline(tune.result), SENTENCE))
    if tune.status == "failed":
        return Text(printable(tune.reason, SENTENCE))
    if tune.over:
        return Text(_without_result(tune))
    if tune.run is None:
        return Text("The tune prepares its first run.")
    text = Text.assemble(("Now: ", "bold"), run_words(tune, tune.run))
    steps = max((rank.steps for rank in board.training()), default=0)
    if steps:
        most = "at most " if tune.run.purpose in ("baseline", "kept") else ""
        text.append(f" · step {numbers.count(steps)} of {most}{numbers.count(tune.run.steps)}")
    return text


def _without_result(tune: TuneProgress) -> str:
    if tune.status == "dry run":
        return "A dry run: this is what would be tried."
    if tune.status == "killed" and tune.attempts:
        folder = shlex.quote(short_path(str(tune.folder)))
        return f"It was killed; `trainprof tune --resume --out {folder}` goes on with it."
    return "It ended without a result."


def run_words(tune: TuneProgress, run: TuneRun) -> str:
    """What a run is for."""
    if run.purpose == "baseline":
        return "the unchanged script, to see where its time goes"
    if run.purpose == "kept":
        return "the script with what is kept, to see where its time goes now"
    if run.purpose == "noise":
        return f"equal runs, pair {run.pair} of {run.pairs_at_most}"
    if run.purpose == "seed":
        which = f"{run.pair} of at most {run.pairs_at_most}"
        return f"the unchanged script with another seed, for the loss check, {which}"
    attempt = next((one for one in tune.attempts if one.number == run.number), None)
    name = _name(attempt) if attempt is not None else "a fix"
    arm = "with it" if run.changed else "without it"
    if run.purpose == "setting":
        setting = f" ({printable(settings(run.params), SHORT)})" if run.params else ""
        return f"{name}{setting}, choosing its setting, {arm}"
    return f"{name}, pair {run.pair} of at most {run.pairs_at_most}, {arm}"


def trial_lines(tune: TuneProgress, width: int) -> list[Text]:
    """What was tried, is tried and waits, each with what was measured of it."""
    lines = []
    said = printable(headline(tune.result) if tune.result is not None else tune.reason)
    if len(said) > width:  # the line above is cut
        lines += _entry("result", said, width)
    current = tune.run.number if tune.run is not None and not tune.over else None
    for attempt in sorted(tune.attempts, key=lambda one: one.number != current):
        word = _WORDS.get(attempt.verdict or "", attempt.verdict or "")
        if attempt.verdict is None:
            word = _without_verdict(tune, attempt, attempt.number == current)
        text = f"{_name(attempt)} · {_measured(attempt)}"
        lines += _entry(printable(word, SHORT), text, width)
        for detail in _details(attempt):
            lines += _entry("", detail, width)
    for one in tune.refused:
        lines += _entry("not tried", f"{printable(one.fix, SHORT)}: {printable(one.reason)}", width)
    told = noise_line(tune.aa)
    if told is not None:
        lines += _entry("noise", told, width)
    if not lines:
        lines = [Text(_nothing(tune))]
    return lines


def _nothing(tune: TuneProgress) -> str:
    if tune.begun is None and not tune.over:
        return "This tune is of a version that writes nothing of its trials before the end."
    if tune.over:
        return "Nothing was tried."
    return "What to try is known once the unchanged script is diagnosed."


def _without_verdict(tune: TuneProgress, attempt: Attempt, is_current: bool) -> str:
    if tune.status == "dry run":
        return "to try"
    if tune.over:
        return "unfinished" if attempt.pairs else "not reached"
    return "under way" if is_current or attempt.pairs else "queued"


def _name(attempt: Attempt) -> str:
    return " + ".join(printable(one, SHORT) for one in attempt.fixes)


def _measured(attempt: Attempt) -> str:
    if attempt.speedup is None:
        if attempt.verdict is None and attempt.predicted is not None:
            return f"predicted {numbers.ratio(*attempt.predicted)} faster"
        return "no pair yet" if attempt.verdict is None else "no pair was measured"
    pairs = f"{attempt.pairs} {'pair' if attempt.pairs == 1 else 'pairs'}"
    if attempt.ci is None:
        return f"{times(attempt.speedup)}, {pairs}"
    return f"{times(attempt.speedup)} {interval(attempt.ci)}, {pairs}"


def _details(attempt: Attempt) -> Iterator[str]:
    params = settings(attempt.params)
    if params:
        yield printable(params)
    if attempt.searched:
        yield printable(searched_line(attempt.searched))
    if len(attempt.measured) > 1:
        yield pairs_line(attempt.measured)
    if attempt.reason:
        yield printable(attempt.reason)
    check = attempt.loss_check
    if check is not None and check.get("text") and str(check["text"]) not in attempt.reason:
        yield f"losses: {printable(str(check['text']))}"


def pairs_line(measured: Sequence[Pair]) -> str:
    """The ratio of each pair, in order, also of those that do not count."""
    ratios = []
    for one in measured:
        told = "failed" if one.ratio is None else f"{one.ratio:.2f}"
        ratios.append(told if one.ratio is None or one.left_out is None else f"{told} (left out)")
    return f"pairs: {', '.join(ratios)}"


def _entry(word: str, text: str, width: int) -> list[Text]:
    """A word, and beside it a text of as many lines as it takes."""
    parts = textwrap.wrap(text, max(width - _COLUMN, 20)) or [""]
    first = Text.assemble((f"{word:<{_COLUMN}}", _STYLES.get(word, "")), parts[0])
    return [first, *(Text(" " * _COLUMN + part) for part in parts[1:])]
