"""The screen, driven by keys and messages under a fake clock, against committed pictures."""

import asyncio
import dataclasses

import pytest
from run_writer import STARTED_UNIX_S, RunWriter
from screen_text import check_screen, screen_text, until_seen

from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Evidence,
    Finding,
    FixAdvice,
    Gain,
    PhaseTime,
    RankSummary,
    RunSummary,
    StepSummary,
)
from trainprof.profiler.store.tail import RunTail
from trainprof.reports.dashboard.app import DashboardApp
from trainprof.reports.dashboard.messages import Diagnosed, Looked
from trainprof.reports.dashboard.services import Services

PHASES = {
    "data_wait": PhaseTime(0.4, 0.02),
    "forward": PhaseTime(0.2, 0.01),
    "backward": PhaseTime(0.3, 0.015),
    "optimizer": PhaseTime(0.05, 0.0025),
    "residual": PhaseTime(0.05, 0.0025),
}
FINDINGS = (
    Finding(
        rule="data-workers-under",
        severity="critical",
        title="Training waits for batches",
        summary="The training waits for batches for 40 % of the step.",
        evidence=(Evidence("step.data_wait_share", 0.4, "share", 0.05, "XProf"),),
        share=0.4,
        recoverable_s_per_step=0.015,
        gain=Gain(1.3, 1.5),
        fixes=(FixAdvice("loader-workers", {}, "numerics", "Let 2 workers prepare batches."),),
        next_bottleneck="backward",
    ),
    Finding("loop-gc", "info", "Pauses", "Garbage collection takes 4 % of the step.", ()),
)
DIAGNOSIS = Diagnosis(
    schema=1,
    source="run",
    run=RunSummary(status="running", name="train", path="run"),
    verdict="bottleneck",
    headline="The training waits for batches for 40 % of the step.",
    steps=StepSummary(100, 90, 0.05, 0.049, 0.051, 160.0, PHASES),
    findings=FINDINGS,
    stacks={
        "data_wait": {"main (train.py:7);__getitem__ (data.py:27)": 30},
        "forward": {"f (m.py:1)": 10},
    },
)


class Asked:
    """Services that answer at once and remember what was asked."""

    def __init__(self):
        self.calls = []

    def services(self):
        def note(name, answer):
            def ask(*args):
                self.calls.append((name, *args))
                return answer

            return ask

        return Services(
            diagnose=note("diagnose", None),
            recorded=note("recorded", None),
            trace=note("trace", "a.json.gz opens in ui.perfetto.dev."),
            stacks=note("stacks", "Thread 1\n    step (train.py:9)"),
            page=note("page", "# A rule\n\nWhy it costs time."),
            fix_command=lambda one: "trainprof fix run --fix loader-workers" if one.fixes else None,
        )


def _run(tmp_path, ranks=1):
    run = RunWriter(tmp_path / "run", ranks=ranks)
    for rank in range(ranks):
        run.steps(100, wall_ns=50_000_000 + 1_000_000 * rank, rank=rank, loss=1.0 / (rank + 1))
    run.queue(0)
    run.event("checkpoint", 3.2, 0.4, file="model.pt")
    for second in range(6):
        run.sample(
            second,
            cpu=0.3 + 0.1 * second,
            gpus=(0.5, 0.25) if ranks > 1 else (),
            processes=[(100 + rank, 0.9 * second) for rank in range(ranks)],
            memory_total_bytes=8 << 30,
            memory_available_bytes=6 << 30,
            disk_read_total_bytes=second << 20,
            disk_write_total_bytes=0,
        )
    return run.flush()


def drive(
    tmp_path,
    script,
    *,
    size=(80, 24),
    ranks=1,
    environment=None,
    diagnosis=DIAGNOSIS,
    status="running",
    run=None,
):
    """Shows a run on a screen of `size`, lets `script` press keys, and gives what was asked."""
    run = run or _run(tmp_path, ranks)
    asked = Asked()

    async def go():
        tail = RunTail(run.folder)
        app = DashboardApp(
            tail,
            asked.services(),
            clock=lambda: STARTED_UNIX_S + 6.0,
            watches=False,
            environment=environment or {},
        )
        async with app.run_test(size=size, notifications=True) as pilot:
            app.post_message(Looked(tail.look(), status))
            if diagnosis is not None:
                app.post_message(Diagnosed(diagnosis))
            await pilot.pause()
            await script(app, pilot)

    asyncio.run(go())
    return asked.calls


def picture(name, *keys):
    async def script(app, pilot):
        for key in keys:
            await pilot.press(key)
            await app.workers.wait_for_complete()
            await pilot.pause()
        await check_screen(app, pilot, name)

    return script


def test_a_live_run_at_80_by_24(tmp_path):
    drive(tmp_path, picture("live-80x24"))


def test_before_the_first_step(tmp_path):
    run = RunWriter(tmp_path / "run").flush()
    drive(tmp_path, picture("no-step"), run=run, diagnosis=None)


def test_eight_ranks_and_two_gpus_at_100_by_30(tmp_path):
    drive(tmp_path, picture("ranks-100x30"), ranks=8, size=(100, 30))


def test_one_rank_is_looked_at(tmp_path):
    ranks = (RankSummary(0, 100, 100, 0.05, {"data_wait": 0.9, "forward": 0.1}),)
    diagnosis = dataclasses.replace(DIAGNOSIS, ranks=ranks)
    drive(tmp_path, picture("rank-0", "r"), ranks=8, size=(100, 30), diagnosis=diagnosis)


def test_a_run_that_crashed(tmp_path):
    run = _run(tmp_path)
    run.write_info(status="crashed", exit_status=1)
    drive(tmp_path, picture("crashed"), run=run, status="crashed")


def test_the_page_of_a_finding(tmp_path):
    calls = drive(tmp_path, picture("finding-page", "enter"))
    assert ("page", "data-workers-under") in calls


@pytest.mark.parametrize(
    ("name", "keys"), [("stacks-view", ["tab"]), ("events-view", ["tab", "tab"])]
)
def test_the_other_views(tmp_path, name, keys):
    drive(tmp_path, picture(name, *keys))


def test_help(tmp_path):
    drive(tmp_path, picture("help", "question_mark"))


def test_a_window_that_is_too_small_says_so_and_recovers(tmp_path):
    async def script(app, pilot):
        assert " ".join(screen_text(app).split()) == (
            "trainprof needs 60 columns and 16 rows; this window has 20 and 5."
        )
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        await check_screen(app, pilot, "live-80x24")
        await pilot.resize_terminal(20, 5)
        await until_seen(app, pilot, "trainprof needs")

    drive(tmp_path, script, size=(20, 5))


@pytest.mark.parametrize("environment", [{"COLORFGBG": "0;15"}, {"NO_COLOR": "1"}])
def test_light_and_without_colour_say_the_same(tmp_path, monkeypatch, environment):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    async def script(app, pilot):
        await check_screen(app, pilot, "live-80x24")
        if "NO_COLOR" in environment:
            assert app.no_color
        else:
            assert app.theme == "textual-light"

    drive(tmp_path, script, environment=environment)


def test_below_a_page_no_key_of_the_board_does_anything(tmp_path):
    async def script(app, pilot):
        for key in ("question_mark", "question_mark", "tab", "slash", "space", "t"):
            await pilot.press(key)
            await pilot.pause()
        assert len(app.screen_stack) == 2
        await pilot.press("escape")
        await pilot.pause()
        assert len(app.screen_stack) == 1
        assert app.query_one("#views").current == "findings"
        assert not app.query_one("#search").display
        assert "FROZEN" not in screen_text(app)

    assert drive(tmp_path, script) == []


def test_a_search_is_left_without_words(tmp_path):
    async def script(app, pilot):
        await pilot.press("slash")
        await pilot.pause()
        assert app.query_one("#search").display
        await pilot.press("l", "escape")
        await pilot.pause()
        assert not app.query_one("#search").display
        assert app.focused.id == "output"
        await pilot.press("tab")
        await pilot.pause()
        assert app.query_one("#views").current == "findings"

    drive(tmp_path, script)


def test_freezing_holds_the_screen_and_reads_on(tmp_path):
    run = _run(tmp_path)

    async def script(app, pilot):
        await pilot.press("space")
        before = screen_text(app).splitlines()
        run.steps(20, loss=0.5).flush()
        tail = RunTail(run.folder)
        app.post_message(Looked(dataclasses.replace(tail.look(), samples=()), "running"))
        await pilot.pause()
        after = screen_text(app).splitlines()
        assert "FROZEN" in after[0]
        assert before[1:] == after[1:]
        await pilot.press("space")
        await pilot.pause()
        assert screen_text(app).splitlines()[1:] != before[1:]

    drive(tmp_path, script, run=run)


def test_trace_and_stacks_are_asked_for(tmp_path):
    async def script(app, pilot):
        await pilot.press("t")
        await app.workers.wait_for_complete()
        await until_seen(app, pilot, "ui.perfetto.dev")
        await pilot.press("s")
        await app.workers.wait_for_complete()
        await until_seen(app, pilot, "step (train.py:9)")
        await pilot.press("escape")
        assert "Stacks of process" not in screen_text(app)

    calls = drive(tmp_path, script, size=(100, 30))
    assert ("trace",) in calls
    assert ("stacks", 100) in calls


def test_nothing_is_asked_of_a_run_that_is_over(tmp_path):
    async def script(app, pilot):
        await pilot.press("t", "s")
        await pilot.pause()

    assert drive(tmp_path, script, status="complete") == []


def test_the_command_of_a_fix_is_copied(tmp_path):
    async def script(app, pilot):
        await pilot.press("c")
        assert app.clipboard == "trainprof fix run --fix loader-workers"
        await pilot.press("down", "c")
        assert app.clipboard == "trainprof fix run --fix loader-workers"
        await until_seen(app, pilot, "no fix that trainprof can")

    drive(tmp_path, script, size=(100, 30))


def test_the_chosen_finding_stays_chosen_when_others_come_before_it(tmp_path):
    async def script(app, pilot):
        await pilot.press("down")
        turned = dataclasses.replace(DIAGNOSIS, findings=(FINDINGS[1], FINDINGS[0]))
        app.post_message(Diagnosed(turned))
        await pilot.pause()
        assert app.query_one("#finding-list").highlighted == 0

    drive(tmp_path, script)


def test_hostile_names_stay_on_their_line(tmp_path):
    run = RunWriter(tmp_path / "run", name="[red]\x1b[2J" + "x" * 100_000)
    run.steps(30)
    run.event("warning", 2.0, message="[/bold]\x1b]0;x\x07\n" * 20)
    evil = dataclasses.replace(FINDINGS[0], summary="[link=x]\x1b[31m" + "y" * 10_000, rule="[b]")
    diagnosis = dataclasses.replace(DIAGNOSIS, headline="\x1b[2J[i]", findings=(evil,))

    async def script(app, pilot):
        text = screen_text(app)
        assert "[red]\\x1b[2Jxxx" in text
        assert "\x1b" not in text
        assert "[link=x]\\x1b[31myyy" in text
        await pilot.press("enter")
        await app.workers.wait_for_complete()
        await until_seen(app, pilot, "[b]")

    run.flush()
    drive(tmp_path, script, run=run, diagnosis=diagnosis)


def test_64_ranks_fit(tmp_path):
    async def script(app, pilot):
        text = screen_text(app)
        assert "slowest: 63, 113 ms a step" in text
        await pilot.press("left_square_bracket")
        await until_seen(app, pilot, "rank 63 of 64")

    drive(tmp_path, script, ranks=64)
