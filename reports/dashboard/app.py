"""The screen of `trainprof top`: widgets, keys, and what each message changes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize
from textual.timer import Timer
from textual.widgets import ContentSwitcher, Input, OptionList

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.store.tail import RunTail
from trainprof.profiler.store.tune_progress import TuneTail
from trainprof.reports.dashboard import panels, views
from trainprof.reports.dashboard.board import Board
from trainprof.reports.dashboard.messages import Answered, Diagnosed, Failed, Looked, Tuned
from trainprof.reports.dashboard.output import Output
from trainprof.reports.dashboard.output_pane import OutputPane
from trainprof.reports.dashboard.pages import FindingPage, HelpPage, TextPage
from trainprof.reports.dashboard.services import Services
from trainprof.reports.dashboard.trials import trial_line, trial_lines
from trainprof.reports.dashboard.watcher import Watcher
from trainprof.reports.dashboard.widgets import Findings, Lines

LEAST_COLUMNS, LEAST_ROWS = 60, 16
PAINT_EVERY_S = 0.3
"""At most so often, however many records come."""
VIEWS = ("findings", "stacks", "events", "output")
TRIALS = "trials"
"""The first of the views, where a tune is looked at."""


OF_THE_BOARD = ("trace", "stacks", "freeze", "rank", "view", "copy_fix", "help", "output", "search")
"""What keys do there, and not below a page that is read."""


class DashboardApp(App[None]):
    """One run on the screen.

    Args:
        tail: The run folder.
        tune: The tune that it belongs to, if it does: the run that goes on in it is shown.
        services: What keys and the watcher ask for.
        clock: Wall-clock time in seconds; tests replace it.
        watches: Whether threads look at the folder; tests post the messages themselves.
    """

    CSS_PATH = Path(__file__).with_name("dashboard.tcss")
    ENABLE_COMMAND_PALETTE = False
    TITLE = "trainprof top"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "trace", "trace now"),
        Binding("s", "stacks", "stacks now"),
        Binding("space", "freeze", "freeze"),
        Binding("r,right_square_bracket", "rank(1)", "next rank"),
        Binding("left_square_bracket", "rank(-1)", "previous rank"),
        Binding("tab", "view", "next view", priority=True),
        Binding("c", "copy_fix", "copy fix"),
        Binding("l", "light", "light or dark"),
        Binding("question_mark", "help", "help"),
        Binding("o", "output", "output"),
        Binding("slash", "search", "search"),
        Binding("escape", "leave_search", "leave the search"),
        Binding("ctrl+c", "interrupt", "interrupt", priority=True),
        Binding("q", "quit", "quit"),
    ]

    def __init__(
        self,
        tail: RunTail,
        services: Services,
        *,
        tune: TuneTail | None = None,
        clock: Callable[[], float] = time.time,
        watches: bool = True,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        super().__init__()
        self.board = Board(tail.folder)
        self.output = Output()
        self._services = services
        self._clock = clock
        self._frozen = False
        self._due: Timer | None = None
        self._painted_s = 0.0
        self._failure: str | None = None
        self._views = VIEWS if tune is None else (TRIALS, *VIEWS)
        self._watcher = Watcher(tail, services, self.post_message, tune) if watches else None
        if is_light(environment):
            self.theme = "textual-light"

    def compose(self) -> ComposeResult:
        """The widgets from top to bottom."""
        yield Lines(id="small")
        with Vertical(id="board"):
            yield Lines(id="title")
            yield Lines(id="steps")
            yield Lines(id="phases")
            yield Lines(id="data")
            yield Lines(id="machine")
            yield Lines(id="verdict")
            with ContentSwitcher(initial=self._views[0], id="views"):
                with VerticalScroll(id="trials"):
                    yield Lines(id="trial-lines")
                with Vertical(id="findings"):
                    yield Findings(id="finding-list")
                    yield Lines(id="detail")
                with VerticalScroll(id="stacks"):
                    yield Lines(id="stack-lines")
                with VerticalScroll(id="events"):
                    yield Lines(id="event-lines")
                yield OutputPane(self.output, id="output")
            yield Input(placeholder="words to search for in the output", id="search")
            yield Lines(id="keys")

    def on_mount(self) -> None:
        """Starts to watch."""
        self._show_view(self._views[0])
        self.paint()
        if self._watcher is not None:
            self._watcher.start()
            self.set_interval(0.5, self._tick)

    def on_unmount(self) -> None:
        """Ends the threads."""
        if self._watcher is not None:
            self._watcher.stop()

    def on_resize(self, event: Resize) -> None:
        """Lays out anew, or says that there is not enough room."""
        self.call_after_refresh(self.paint)

    @on(Looked)
    def take_look(self, message: Looked) -> None:
        """Adds what was found and shows it."""
        look = message.look
        changed = bool(look.records or look.samples or message.status != self.board.status)
        if look.output:
            self.output.feed(look.output)
            changed = changed or self._view() == "output"
        self.board.take(look)
        self.board.tick(self._clock(), message.status)
        if self._watcher is not None:
            self._watcher.taken()
        if changed and self._due is None:
            wait_s = self._painted_s + PAINT_EVERY_S - time.monotonic()
            self._due = self.set_timer(max(0.001, wait_s), self.paint)

    @on(Tuned)
    def take_tune(self, message: Tuned) -> None:
        """The tune that is looked at got further, maybe to another run."""
        self.board = self.board.follow(message.tune)
        self.board.tick(self._clock(), self.board.status)
        self.paint()

    @on(Diagnosed)
    def take_diagnosis(self, message: Diagnosed) -> None:
        """Shows the new diagnosis: of several trainings that of the last, as the board does."""
        found = message.diagnosis
        sessions = [found, *found.other_sessions]
        self.board.diagnosis = max(sessions, key=lambda one: one.run.session)
        self.paint()

    @on(Answered)
    def show_answer(self, message: Answered) -> None:
        """A page where it is one, else a note."""
        if message.is_page:
            self.push_screen(TextPage(message.title, message.text))
        else:
            self.notify(message.text, title=message.title, markup=False)

    @on(Failed)
    def show_failure(self, message: Failed) -> None:
        """The folder cannot be read any more: what was read stays on the screen."""
        self._failure = message.sentence
        self.paint()

    @on(OptionList.OptionHighlighted)
    def choose_finding(self, message: OptionList.OptionHighlighted) -> None:
        """Shows the evidence of the finding that is chosen now."""
        self.paint()

    @on(OptionList.OptionSelected)
    def open_finding(self, message: OptionList.OptionSelected) -> None:
        """Opens the page of the finding: its evidence, its fix, its rule."""
        diagnosis = self.board.diagnosis
        if diagnosis is not None and message.option_index < len(diagnosis.findings):
            self._read_page(diagnosis, message.option_index)

    @work(thread=True)
    def _read_page(self, diagnosis: Diagnosis, index: int) -> None:
        finding = diagnosis.findings[index]
        page = FindingPage(index + 1, finding, diagnosis, self._services.page(finding.rule))
        self.call_from_thread(self.push_screen, page)

    def paint(self) -> None:
        """Shows the board as it is now, unless the screen is frozen."""
        self._due, self._painted_s = None, time.monotonic()
        if not self.query("#board"):
            return
        width, height = self.size
        fits = width >= LEAST_COLUMNS and height >= LEAST_ROWS
        self.query_one("#small").display = not fits
        self.query_one("#board").display = fits
        if not fits:
            self._part("small").show([Text(_too_small(width, height))])
            return
        if not self._frozen:
            self._paint_board(width, height)
        title = panels.title_line(self.board, width, note="frozen" if self._frozen else "")
        self._part("title").show([title])

    def _paint_board(self, width: int, height: int) -> None:
        board, inner = self.board, width - 2
        steps = panels.step_lines(board, inner)
        if height >= 20:
            steps.append(panels.loss_line(board, inner))
        self._part("steps").show(steps)
        self._part("phases").show(panels.phase_lines(board, inner))
        data = [panels.data_line(board, inner)]
        ranks = panels.rank_line(board, inner)
        self._part("data").show([*data, *([ranks] if ranks is not None else [])])
        most = 2 if height < 24 else min(8, 2 + (height - 22) // 2)
        self._part("machine").show(panels.machine_lines(board, inner, most))
        self._part("verdict").show([self._verdict(), views.views_line(board, self._view())])
        self._paint_view(self._view())
        self._part("keys").show([panels.keys_line()])

    def _verdict(self) -> Text:
        if self._failure:
            return Text(self._failure)
        if self._view() == TRIALS and self.board.tune is not None:
            return trial_line(self.board)
        return panels.verdict_line(self.board)

    def _paint_view(self, view: str) -> None:
        """Only the one of the lower views that is shown."""
        board = self.board
        if view == TRIALS:
            tune = board.tune
            self._part("trial-lines").show(trial_lines(tune, self.size.width - 4) if tune else [])
        elif view == "findings":
            findings = self.query_one(Findings)
            findings.show(board.diagnosis)
            details = views.detail_lines(board, findings.highlighted, self.size.width - 2)
            self._part("detail").show(details)
        elif view == "output":
            self.query_one(OutputPane).refresh_lines()
        elif view == "events":
            several = len(board.training()) > 1
            events = [views.event_line(one, ranks=several) for one in reversed(board.events)]
            self._part("event-lines").show(events or [Text("No event so far.")])
        else:
            self._part("stack-lines").show(views.stack_lines(board.diagnosis))

    def _part(self, name: str) -> Lines:
        return self.query_one(f"#{name}", Lines)

    def _view(self) -> str:
        return self.query_one(ContentSwitcher).current or self._views[0]

    def _tick(self) -> None:
        if self.board.goes_on and time.monotonic() - self._painted_s > 1.0:
            self.board.tick(self._clock(), self.board.status)
            self.paint()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something now."""
        return action not in OF_THE_BOARD or len(self.screen_stack) < 2

    def action_freeze(self) -> None:
        """Holds the screen still, or lets it go on; records are read all the same."""
        self._frozen = not self._frozen
        self.paint()

    def action_rank(self, offset: int) -> None:
        """Looks at the next rank, or back."""
        self.board.select(offset)
        self.paint()

    def action_view(self) -> None:
        """Goes on to the next of the lower views."""
        self._show_view(self._views[(self._views.index(self._view()) + 1) % len(self._views)])

    def _show_view(self, name: str) -> None:
        self.query_one(ContentSwitcher).current = name
        shown = self.query_one(Findings) if name == "findings" else self.query_one(f"#{name}")
        shown.focus()
        self.call_after_refresh(self.paint)

    def action_output(self) -> None:
        """Shows what the script prints."""
        self._show_view("output")

    def action_search(self) -> None:
        """Asks for words to search for in the output."""
        self._show_view("output")
        search = self.query_one("#search", Input)
        search.display = True
        search.value = ""
        search.focus()

    @on(Input.Submitted)
    def search_output(self, message: Input.Submitted) -> None:
        """Goes to the last line of the output that has the words."""
        message.input.display = False
        self._show_view("output")
        if message.value and not self.query_one(OutputPane).search(message.value):
            self.notify("The output has no such line.", markup=False)

    def action_leave_search(self) -> None:
        """Asks for no words any more."""
        if self.query_one("#search", Input).display:
            self.query_one("#search", Input).display = False
            self._show_view("output")

    def action_interrupt(self) -> None:
        """Ctrl-C: the script's, where the dashboard belongs to its run; else it quits."""
        if self._services.interrupt is None or self.board.over:
            self.exit()
            return
        self._services.interrupt()
        self.notify("Ctrl-C was sent to the script; twice within 2 s kills it.", markup=False)

    def action_light(self) -> None:
        """Goes from dark to light, and back."""
        self.theme = "textual-dark" if self.theme == "textual-light" else "textual-light"

    def action_help(self) -> None:
        """Opens the help."""
        self.push_screen(HelpPage())

    def action_copy_fix(self) -> None:
        """Copies the command that applies the fix of the chosen finding."""
        diagnosis = self.board.diagnosis
        index = self.query_one(Findings).highlighted
        if diagnosis is None or index is None:
            self.notify("There is no finding to copy a fix of.", markup=False)
            return
        command = self._services.fix_command(diagnosis.findings[index])
        if command is None:
            self.notify("This finding has no fix that trainprof can write.", markup=False)
            return
        self.copy_to_clipboard(command)
        self.notify(command, title="copied", markup=False)

    def action_trace(self) -> None:
        """Asks for a trace of the next steps."""
        if self.board.over:
            self.notify("The run is over: there is nothing left to trace.", markup=False)
            return
        if self.board.tune is None:
            self.notify("Asked for a trace of the next steps.", markup=False)
        self._trace()

    @work(thread=True, exclusive=True, group="trace")
    def _trace(self) -> None:
        self.post_message(Answered("trace", self._services.trace()))

    def action_stacks(self) -> None:
        """Shows the Python stacks of the chosen rank, or of the first."""
        chosen = self.board.chosen()
        if self.board.over or not chosen:
            self.notify("No training runs whose stacks could be read.", markup=False)
            return
        self._read_stacks(chosen[0].info.pid)

    @work(thread=True, exclusive=True, group="stacks")
    def _read_stacks(self, pid: int) -> None:
        text = self._services.stacks(pid)
        self.post_message(Answered(f"Stacks of process {pid}", text, is_page=True))


def _too_small(width: int, height: int) -> str:
    return (
        f"trainprof needs {LEAST_COLUMNS} columns and {LEAST_ROWS} rows; "
        f"this window has {width} and {height}."
    )


def is_light(environment: Mapping[str, str]) -> bool:
    """Whether the terminal says that its background is light (COLORFGBG, as rxvt sets it)."""
    return environment.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15")
