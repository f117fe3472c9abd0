"""The trials of a tune on the screen."""

import asyncio
import dataclasses
import json
import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins
from run_writer import STARTED_UNIX_S, RunWriter
from screen_text import check_screen, screen_text, until_seen
from test_screen import DIAGNOSIS, Asked, _run
from tune_writer import FUSED, KEPT, NOISE, WORKERS, TuneWriter

from trainprof.cli import top
from trainprof.profiler.model.tune_progress import TuneEnded, TuneNoise, TuneRun
from trainprof.profiler.model.tuning import TriedFix, TuneResult
from trainprof.profiler.store.encoded import encode_json
from trainprof.profiler.store.tail import RunTail
from trainprof.profiler.store.tune_progress import TuneTail, is_tune
from trainprof.reports.dashboard.app import DashboardApp
from trainprof.reports.dashboard.board import Board
from trainprof.reports.dashboard.messages import Diagnosed, Looked, Tuned
from trainprof.reports.dashboard.panels import title_line, verdict_line
from trainprof.reports.dashboard.trials import run_words, trial_line, trial_lines

sys.path.insert(0, str(Path(__file__).parents[3] / "docs"))
from shown_screen import screen_differs, sources_of_screen

TRIAL = "trials/021-optimizer-fused/run"
NOW_S = STARTED_UNIX_S + 6.0
BEGUN_S = NOW_S - 200.0


@pytest.fixture
def alive(monkeypatch):
    """Whether the process of the tune is: `alive["is"]`."""
    state = {"is": True}
    monkeypatch.setattr(
        "trainprof.profiler.store.tune_progress.is_supervised", lambda *_: state["is"]
    )
    return state


@pytest.fixture
def tuned(tmp_path, alive):
    """A tune half way, whose 21st trial has done 100 steps."""
    folder = tmp_path / "tune"
    writer = TuneWriter(folder, BEGUN_S).half_way()
    _run(folder / "baseline")
    _run(folder / TRIAL.removesuffix("/run"))
    return writer


def result(**fields):
    tried = TriedFix("loader-workers", {"num_workers": 2}, "data-workers-under", 2.214)
    kept = dataclasses.replace(tried, ci=(2.11, 2.32), pairs=6, reason=KEPT.reason)
    whole = TuneResult("run", speedup=2.214, ci=(2.11, 2.32), pairs=6, kept=(kept,), aa=NOISE)
    return dataclasses.replace(whole, seconds=180.0, steps=105, **fields)


def write_result(folder, **fields):
    (folder / "tune.json").write_text(json.dumps(dataclasses.asdict(result(**fields))))


def show(folder, script, *, size=(80, 24), now_s=NOW_S):
    """Shows a tune on a screen of `size` and lets `script` press keys."""

    async def go():
        tune = TuneTail(folder, lambda: now_s).look()
        app = DashboardApp(
            RunTail(folder / "baseline" / "run"),
            Asked().services(),
            tune=TuneTail(folder),
            clock=lambda: now_s,
            watches=False,
            environment={},
        )
        async with app.run_test(size=size) as pilot:
            app.post_message(Tuned(tune))
            look = RunTail(tune.run_folder).look()
            app.post_message(Looked(look, "running" if not tune.over else "complete"))
            app.post_message(Diagnosed(DIAGNOSIS))
            await pilot.pause()
            await script(app, pilot)

    asyncio.run(go())


def picture(name):
    async def script(app, pilot):
        await check_screen(app, pilot, name)

    return script


def test_a_tune_half_way_at_80_by_24(tuned):
    show(tuned.folder, picture("tune-80x24"))


def test_a_tune_that_was_killed(tuned, alive, monkeypatch):
    monkeypatch.chdir(tuned.folder.parent)
    alive["is"] = False
    show(tuned.folder, picture("tune-killed"))


def test_a_tune_that_failed_says_why_in_full(tuned):
    tuned.add(TuneEnded("failed", "the script fails unchanged (exit status 1: " + "no " * 40))
    lines = [one.plain for one in trial_lines(TuneTail(tuned.folder).look(), 60)]
    assert lines[0].startswith("result       the script fails unchanged")
    assert sum(line.count("no ") + line.endswith("no") for line in lines[:4]) >= 40
    assert not [line for line in lines if line.startswith(("under way", "queued"))]


def test_a_tune_that_is_over(tuned):
    tuned.add(TuneEnded("complete"))
    write_result(tuned.folder)
    show(tuned.folder, picture("tune-over"), size=(100, 30))


def test_a_small_window_and_one_without_colour(tuned, monkeypatch):
    async def small(app, pilot):
        assert "trainprof needs 60 columns" in " ".join(screen_text(app).split())
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        await check_screen(app, pilot, "tune-80x24")

    show(tuned.folder, small, size=(20, 5))
    monkeypatch.setenv("NO_COLOR", "1")
    show(tuned.folder, picture("tune-80x24"))
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("COLORFGBG", "0;15")
    show(tuned.folder, picture("tune-80x24"))


def test_the_next_trial_has_an_empty_board_and_keeps_the_diagnosis(tuned):
    async def script(app, pilot):
        assert app.board.training()[0].steps == 100
        tuned.add(TuneRun("noise", "trials/022-unchanged/run", 105, pair=1, pairs_at_most=4))
        app.post_message(Tuned(TuneTail(tuned.folder, lambda: NOW_S).look()))
        await until_seen(app, pilot, "Now: equal runs, pair 1 of 4")
        assert not app.board.training()
        assert app.board.diagnosis is DIAGNOSIS

    show(tuned.folder, script)


def test_before_the_tune_has_diagnosed_anything_no_diagnosis_is_under_way(tuned):
    board = Board(tuned.folder).follow(TuneTail(tuned.folder).look())
    board.take(RunTail(tuned.folder / TRIAL).look())
    told = "The tune diagnoses the unchanged script once that has run."
    assert verdict_line(board).plain == told
    tuned.add(TuneEnded("interrupted"))
    over = board.follow(TuneTail(tuned.folder).look())
    assert verdict_line(over).plain != told


def test_all_views_are_reached_and_no_trace_is_taken_of_a_trial(tuned):
    async def script(app, pilot):
        for view in ("findings", "stacks", "events", "output", "trials"):
            await pilot.press("tab")
            await pilot.pause()
            assert app.query_one("#views").current == view
        said = []
        app.notify = lambda text, **_: said.append(text)
        await pilot.press("t")
        while not said:
            await pilot.pause(0.02)
        assert said == [Asked().services().trace()]

    show(tuned.folder, script)


def test_hostile_names_stay_on_their_line(tuned):
    evil = dataclasses.replace(
        KEPT, fixes=("[red]\x1b[2J" + "x" * 9_000,), reason="[/b]\x1b]0;x\x07\n" * 99
    )
    tuned.add(evil)

    async def script(app, pilot):
        text = screen_text(app)
        assert "[red]\\x1b[2Jxxx" in text
        assert "\x1b" not in text

    show(tuned.folder, script)


def test_reading_takes_only_whole_lines_and_what_it_knows(tmp_path, alive):
    tune = TuneWriter(tmp_path, BEGUN_S)
    tail = TuneTail(tmp_path, lambda: NOW_S)
    first = tail.look()
    assert (first.status, first.attempts) == ("running", ())
    assert tail.look() is first  # nothing is new
    with tune.path.open("ab") as file:
        file.write(b'not json\n{"kind":"of a newer version","at_unix_s":1,"data":[]}\n')
        file.write(b'{"kind":"attempt","at_unix_s":"now","data":{}}\n{"kind":"run","at_un')
    assert tail.look().attempts == ()
    with tune.path.open("ab") as file:
        file.write(b"torn and killed\n")
    tune.add(WORKERS, FUSED, KEPT)
    found = tail.look()
    assert [one.number for one in found.attempts] == [1, 2]
    assert found.attempts[0] == KEPT
    assert found.run_folder == tmp_path / "baseline" / "run"


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)
FIELDS = {"attempt": KEPT, "noise": TuneNoise(NOISE), "run": TuneRun("pair", TRIAL, 70, 1)}


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(sorted(FIELDS)), st.data(), ANY_JSON)
def test_no_line_breaks_the_screen(tmp_path_factory, kind, data, value):
    folder = tmp_path_factory.mktemp("tune")
    tune = TuneWriter(folder, time.time() + 1.0).add(KEPT)
    told = to_builtins(FIELDS[kind])
    field = data.draw(st.sampled_from(sorted(told)))
    inner = list(told[field]) if isinstance(told[field], dict) else []
    if inner and data.draw(st.booleans()):
        told[field] = {**told[field], data.draw(st.sampled_from(inner)): value}
    else:
        told[field] = value
    with tune.path.open("ab") as file:
        file.write(encode_json({"kind": kind, "at_unix_s": 1.0, "data": told}) + b"\n")
    board = Board(folder).follow(TuneTail(folder).look())
    for line in [trial_line(board), *trial_lines(board.tune, 60), title_line(board, 80)]:
        assert "\n" not in line.plain


def test_a_tune_that_goes_on_comes_to_its_attempts_again(tuned, alive):
    write_result(tuned.folder, ended="budget")
    os.utime(tuned.folder / "tune.json", (BEGUN_S + 150.0, BEGUN_S + 150.0))
    tuned.add(TuneEnded("budget"))
    tail = TuneTail(tuned.folder, lambda: NOW_S)
    assert tail.look().result is not None
    tuned.begin()
    again = tail.look()
    assert (again.status, again.attempts, again.result) == ("running", (), None)
    alive["is"] = False
    tail = TuneTail(tuned.folder, lambda: NOW_S)
    assert (tail.look().status, tail.look().result) == ("killed", None)


def test_folders_of_older_versions_have_no_journal(tmp_path):
    now_s = time.time()
    for name in ("001-unchanged", "002-gc-freeze"):
        RunWriter(tmp_path / "trials" / name / "run")
    RunWriter(tmp_path / "baseline" / "run")
    assert is_tune(tmp_path)
    running = TuneTail(tmp_path, lambda: now_s).look()
    assert running.status == "running"
    assert running.run_folder == tmp_path / "trials" / "002-gc-freeze" / "run"
    assert TuneTail(tmp_path, lambda: now_s + 7200.0).look().status == "unknown"
    write_result(tmp_path)
    over = TuneTail(tmp_path, lambda: now_s).look()
    assert over.run_folder == tmp_path / "baseline" / "run"
    assert [one.verdict for one in over.attempts] == ["keep"]
    show(tmp_path, picture("tune-older"))


def test_a_tune_of_another_machine_goes_on_as_long_as_it_writes(tuned, tmp_path):
    line = tuned.path.read_text().replace(os.uname().nodename, "elsewhere")
    tuned.path.write_text(line)
    now_s = time.time()
    assert TuneTail(tuned.folder, lambda: now_s).look().status == "running"
    assert TuneTail(tuned.folder, lambda: now_s + 100.0).look().status == "killed"


def test_settings_are_chosen_in_trials_of_their_own(tuned):
    def words(purpose, **fields):
        tuned.add(TuneRun(purpose, TRIAL, 70, **fields))
        tune = TuneTail(tuned.folder, lambda: NOW_S).look()
        return run_words(tune, tune.run)

    with_4 = {"number": 1, "changed": True, "params": {"num_workers": 4}}
    assert words("setting", **with_4) == (
        "loader-workers (num_workers=4), choosing its setting, with it"
    )
    assert words("setting", number=1) == "loader-workers, choosing its setting, without it"
    assert "another seed" in words("seed", pair=2, pairs_at_most=6)
    assert "what is kept" in words("kept")
    assert words("pair", number=99) == "a fix, pair 0 of at most 0, without it"


@pytest.mark.parametrize("is_over", [False, True])
def test_every_number_on_the_screen_has_its_source(tuned, is_over):
    if is_over:
        tuned.add(TuneEnded("complete"))
        write_result(tuned.folder)

    async def script(app, pilot):
        svg, sources = app.export_screenshot(), sources_of_screen(app.board)
        assert "2.11,&#160;2.32" in svg
        assert screen_differs(svg, sources) == []
        assert len(screen_differs(svg.replace("2.11,&#160;2.32", "2.11,&#160;2.33"), sources)) > 0

    show(tuned.folder, script, size=(100, 30))


def test_top_follows_a_tune_and_takes_no_trace_of_its_trials(tuned, monkeypatch):
    shown = []
    monkeypatch.setattr(DashboardApp, "run", lambda app: shown.append(app))
    top.show(tuned.folder)
    top.show(tuned.folder / "baseline" / "run")
    tune, run = shown
    assert tune._views[0] == "trials"
    assert "trials" not in run._views
    assert "would disturb the trial" in tune._services.trace()
