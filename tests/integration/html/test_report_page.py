"""`report.html` in a real browser: nothing is asked for, nothing recorded runs, numbers agree."""

import json
import math
import runpy
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from trainprof.profiler.model.diagnosis import (
    Bucket,
    OperatorDevice,
    OperatorTime,
    OwnTime,
    RankSummary,
    Series,
)
from trainprof.profiler.model.tuning import Pair, TriedFix, TuneResult
from trainprof.reports import numbers, sentences
from trainprof.reports.html.extras import Extras
from trainprof.reports.html.report import HtmlReport
from trainprof.reports.json_report import JsonReport

sys.path.insert(0, str(Path(__file__).parents[3] / "docs"))
from shown_page import page_differs

CONTRACT = Path(__file__).parents[2] / "contract" / "test_reports.py"
GIVEN = runpy.run_path(str(CONTRACT))
SCENARIOS, NASTY, LONG = GIVEN["SCENARIOS"], GIVEN["NASTY"], GIVEN["LONG"]
FULL, HOSTILE = GIVEN["ONE_FINDING"], GIVEN["HOSTILE"]


def course(name, unit, low, mean, high, points=500):
    return Series(
        name, unit, tuple(Bucket(2.0 + place, low, mean, high) for place in range(points))
    )


LONG_RUN = replace(
    FULL,
    steps=replace(FULL.steps, count=100_000, steady=99_900),
    series=(
        course("step_s", "s", 0.03, 0.0412, 1.7),
        course("data_wait_share", "share", 0.482, 0.482, 0.482),
        course("forward_share", "share", 0.2, 0.2, 0.2),
        course("backward_share", "share", 0.25, 0.25, 0.25),
        course("loss", "", 0.1, 0.2, 0.3),
        course("rss_bytes", "bytes", 2.0**30, 2.0**30, 2.0**30),
        *(course(f"gpu{n}.utilization_share", "share", 0.1, 0.5, 0.9) for n in range(8)),
    ),
    stacks={
        "data_wait": {
            f"main (/p/train.py:1);step{n} (/p/train.py:{n});read (/p/io.py:3)": 10 + n
            for n in range(300)
        },
        "forward": {"main (/p/train.py:1);forward (/p/net.py:7)": 900},
    },
)
SPOILT = "a trial waited for a CPU 50 % of its time, where 2 % is usual"
PAIRS = (
    *(
        Pair("new" if n % 2 else "old", 0.041, 0.041 / (1.4 + n / 20), 1.4 + n / 20)
        for n in range(6)
    ),
    Pair("new", 0.041, 0.016, 2.5, SPOILT),
)
TUNED = TuneResult(
    run="r",
    speedup=1.52,
    ci=(1.41, 1.63),
    pairs=6,
    least_ratio=1.03,
    kept=(
        TriedFix(
            "loader-workers",
            {},
            "data-workers-under",
            1.52,
            (1.41, 1.63),
            6,
            predicted=(1.3, 1.9),
            measured=PAIRS,
            deciding_low=1.37,
        ),
    ),
    rejected=(TriedFix(NASTY, {}, NASTY, 0.99, (0.97, 1.01), 8, reason=NASTY),),
    failed=(
        TriedFix(LONG, {}, LONG, reason=LONG, measured=(Pair(NASTY, None, None, None, NASTY),)),
    ),
    aa={"sd": 0.02, "pairs": 2, "detectable": {"6": 1.04}, "ratio": 1.005, "ci": [0.96, 1.05]},
    aa_pairs=(Pair("old", 0.041, 0.0414, 0.99), Pair("old", 0.041, 0.0402, 1.02)),
)


def write(tmp_path, diagnosis, extras=None):
    path = tmp_path / "report.html"
    path.write_text(HtmlReport(extras).render(diagnosis), encoding="utf-8")
    return path


def quiet(browser, path):
    assert browser.problems == []
    own = [one for one in browser.requests if not one.startswith(("data:", "blob:"))]
    assert own == [path.as_uri()]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_diagnosis_is_drawn_without_an_error_or_a_request(browser, tmp_path, name):
    path = write(tmp_path, SCENARIOS[name])
    browser.open(path)
    quiet(browser, path)
    text = " ".join(browser.text().split())
    for gap in ("NaN", "undefined", "null", "Infinity", "[object"):
        assert gap not in text
    if name != "hostile":
        headline = sentences.headline(SCENARIOS[name])
        assert headline in text
        assert page_differs(browser, json.loads(JsonReport().render(SCENARIOS[name])), {}) == []


def test_a_long_run_is_drawn_whole_from_a_small_file_made_quickly(browser, tmp_path):
    begun = time.process_time()
    path = write(tmp_path, LONG_RUN, Extras(tune=TUNED))
    assert time.process_time() - begun < 3.0
    assert path.stat().st_size < 5_000_000
    browser.open(path)
    quiet(browser, path)
    assert browser.run("document.querySelectorAll('.plot .main-svg').length") >= 2 * 12
    text = browser.text()
    assert "each of the 500 points stands for about 200 steps" in text
    assert "1.52 times faster [1.41, 1.63]" in text


def test_the_numbers_are_those_of_the_diagnosis(browser, tmp_path):
    browser.open(write(tmp_path, LONG_RUN))
    text = browser.text()
    steps = LONG_RUN.steps
    assert numbers.seconds(steps.mean_s) in text
    shown = browser.run(
        "[...document.querySelectorAll('#composition tbody tr')].map((row) =>"
        " [...row.cells].map((cell) => cell.lastChild ? cell.lastChild.textContent : ''))"
    )
    named = {label.lstrip("~"): rest for label, *rest in shown}
    for label, phase in (("data wait", "data_wait"), ("forward", "forward")):
        time_s = steps.phases[phase]
        assert named[label][0] == numbers.share(time_s.share)
        assert named[label][1] == numbers.seconds(time_s.s_per_step)
        assert named[label][2] == numbers.seconds(time_s.cpu_s_per_step)
    drawn = browser.run("document.getElementById('chart-step-time').data.at(-1).y[3]")
    assert math.isclose(drawn, 41.2)


def test_each_pair_of_an_experiment_is_a_dot_and_a_row(browser, tmp_path):
    path = write(tmp_path, FULL, Extras(tune=TUNED))
    browser.open(path)
    drawn = browser.run(
        "document.getElementById('chart-experiments').data.map((one) => [one.name, one.x])"
    )
    dots = dict(drawn)
    assert dots["a pair"] == [one.ratio for one in (*TUNED.aa_pairs, *PAIRS[:-1])]
    assert dots["a pair left out"] == [2.5]
    assert dots["end that decides"] == [1.37]
    assert dots["predicted"] == [1.3, 1.9]
    assert dots["ratio with its interval"] == [1.005, 1.52, 0.99]
    limits = browser.run(
        "document.getElementById('chart-experiments').layout.shapes.map((s) => s.x0)"
    )
    assert limits == [1, 1.03]
    rows = browser.run(
        "[...document.querySelectorAll('#experiments table')[1].tBodies[0].rows].map((row) =>"
        " [...row.cells].map((cell) => cell.textContent))"
    )
    assert len(rows) == 2 + 7 + 1
    control = "the script against itself"
    assert rows[0] == [control, "1", "without", "41 ms", "41.4 ms", "0.99x", "yes"]
    assert rows[8] == ["loader-workers", "7", "with", "41 ms", "16 ms", "2.50x", f"no: {SPOILT}"]
    quiet(browser, path)


def test_an_interval_without_end_leaves_room_for_the_pairs(browser, tmp_path):
    noise = {"pairs": 2, "ratio": 1.0, "ci": [6.6e-7, 448159.6]}
    browser.open(write(tmp_path, FULL, Extras(tune=replace(TUNED, aa=noise))))
    low, high = browser.run("document.getElementById('chart-experiments').layout.xaxis.range")
    assert 0.0 < low < 0.99
    assert 2.5 < high < 4.0


def test_experiments_follow_the_colours_of_the_system_and_of_paper(browser, tmp_path):
    colours = (
        "(({data, layout}) => [data[1].marker.color, layout.shapes[0].line.color,"
        " layout.annotations[0].bgcolor])(document.getElementById('chart-experiments'))"
    )
    browser.open(write(tmp_path, FULL, Extras(tune=TUNED)))
    light = browser.run(colours)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", features=dark)
    browser.wait(f"{colours}[2] !== {json.dumps(light[2])}")
    assert not set(browser.run(colours)) & set(light)
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.run(colours) == ["#000", "#000", "#fff"]
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    browser.call("Emulation.setEmulatedMedia", features=[])


def cells_of(browser, section):
    return browser.run(
        f"[...document.querySelectorAll('#{section} tbody tr')].map((row) =>"
        " [...row.cells].map((cell) => cell.textContent))"
    )


def test_operators_have_the_numbers_of_the_diagnosis_and_are_sorted_by_their_headings(
    browser, tmp_path
):
    path = write(tmp_path, GIVEN["TRACE"])
    browser.open(path)
    mm = [
        "aten::mm",
        "347",
        "145 ms",
        "14 %",
        "12.1 ms",
        "1.1 %",
        "[[64, 32], [32, 16]] and 2 more",
    ]
    copy = ["aten::copy_", "1,600", "3.18 ms", "0.3 %", "57.4 ms", "5.5 %", ""]
    assert cells_of(browser, "operators") == [mm, copy]
    told = browser.run("document.getElementById('operators').innerText")
    assert "2 of 89 operators, those that take most, by their time on device 0 (Tesla" in told
    assert "7.1 ms of the device's work was launched by no operator." in told

    def press(heading):
        buttons = "[...document.querySelectorAll('#operators thead button')]"
        browser.run(f"{buttons}.find((one) => one.textContent === '{heading}').click()")
        return [row[0] for row in cells_of(browser, "operators")]

    assert press("host time") == ["aten::copy_", "aten::mm"]
    assert press("host time") == ["aten::mm", "aten::copy_"]
    assert press("operator") == ["aten::copy_", "aten::mm"]
    assert press("device time") == ["aten::mm", "aten::copy_"]
    marks = (
        "[...document.querySelectorAll('#operators th[aria-sort]')].map((one) => one.textContent)"
    )
    assert browser.run(marks) == ["device time"]
    quiet(browser, path)


def test_operators_of_a_trace_without_a_device_have_no_empty_columns(browser, tmp_path):
    given = GIVEN["TRACE"].operators
    rows = tuple(replace(one, device=None, shapes=None) for one in given.rows)
    host = replace(given, device=None, rows=rows)
    browser.open(write(tmp_path, replace(GIVEN["TRACE"], operators=host)))
    assert cells_of(browser, "operators")[0] == ["aten::mm", "347", "12.1 ms", "1.1 %"]
    headings = browser.run("document.querySelectorAll('#operators thead th').length")
    assert headings == 4


def test_kernels_are_sorted_by_number_and_not_by_text(browser, tmp_path):
    browser.open(write(tmp_path, GIVEN["TRACE"]))
    before = [row[2] for row in cells_of(browser, "kernels")]
    assert before == ["1,186", "347"]
    click = "document.querySelectorAll('#kernels thead button')[2].click()"
    browser.run(f"{click}; {click}")
    assert [row[2] for row in cells_of(browser, "kernels")] == ["347", "1,186"]


def test_shares_of_tensor_cores_are_sorted_by_number_and_unknown_ones_come_last(browser, tmp_path):
    cores = (0.095, None, 0.38)
    kernels = tuple(replace(GIVEN["TRACE"].kernels[0], tensor_cores=one) for one in cores)
    browser.open(write(tmp_path, replace(GIVEN["TRACE"], kernels=kernels)))
    heading = "[...document.querySelectorAll('#kernels thead button')].find("
    browser.run(f"{heading}(one) => one.textContent === 'tensor cores').click()")
    assert [row[4] for row in cells_of(browser, "kernels")] == ["38 %", "9.5 %", ""]


def test_all_charts_over_time_zoom_together_by_mouse_and_by_key(browser, tmp_path):
    browser.open(write(tmp_path, LONG_RUN))
    reach = "document.getElementById('chart-rss-bytes').layout.xaxis.range"
    browser.run("Plotly.relayout('chart-step-time', {'xaxis.range': [1, 2]}).then(() => 0)")
    browser.wait(f"{reach}[0] === 1 && {reach}[1] === 2")
    key = "new KeyboardEvent('keydown', {key: '0', bubbles: true})"
    browser.run(f"document.getElementById('chart-step-time').dispatchEvent({key})")
    browser.wait(f"{reach}[1] > 5")
    assert browser.problems == []


def test_the_flame_graph_looks_into_a_function_and_back(browser, tmp_path):
    browser.open(write(tmp_path, LONG_RUN))
    buttons = "[...document.querySelectorAll('.flame button')]"
    before = browser.run(f"{buttons}.length")
    browser.run(f"{buttons}.find((one) => one.title.startsWith('forward (/p/net.py')).click()")
    assert browser.run(f"{buttons}.length") == 1
    assert "Inside forward" in browser.text()
    key = "new KeyboardEvent('keydown', {key: 'Escape', bubbles: true})"
    browser.run(f"{buttons}[0].dispatchEvent({key})")
    assert browser.run(f"{buttons}.length") == before


def test_what_is_folded_away_opens(browser, tmp_path):
    page = "Title\n=====\n\nwhy it costs </details><script>document.title = 'run'</script>\n"
    path = write(tmp_path, FULL, Extras(pages={"data-workers-under": page}))
    browser.open(path)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.wait("document.querySelector('pre.page')")
    assert "why it costs </details><script>" in browser.text()
    quiet(browser, path)


def test_hostile_texts_are_shown_and_never_run(browser, tmp_path):
    nasty = "</script><script>document.title='run'</script><img src=x onerror=document.title='run'>"
    stacks = {nasty: {f"{nasty};{LONG}": 900}, "forward": {LONG: 1000}}
    series = (*LONG_RUN.series, course(nasty, nasty, 1.0, 1.0, 1.0, 3))
    diagnosis = replace(
        HOSTILE,
        stacks=stacks,
        series=series,
        kernels=tuple(replace(one, family=nasty, example=LONG) for one in GIVEN["TRACE"].kernels),
        operators=replace(
            GIVEN["TRACE"].operators,
            window=nasty,
            device=OperatorDevice(nasty, math.nan),
            rows=(OperatorTime(nasty, 1, OwnTime(1.0, math.nan), OwnTime(math.inf, 1.0), LONG, 2),),
        ),
        ranks=tuple(RankSummary(n, n, 1, 1.0, {nasty: 1.0}) for n in range(3)),
        facts={"model": {nasty: LONG}, "signals": {nasty: {"value": nasty, "unit": nasty}}},
        other_sessions=(HOSTILE,),
    )
    path = write(tmp_path, diagnosis, Extras(tune=TUNED, pages={NASTY: nasty}))
    assert path.stat().st_size < 5_000_000
    browser.open(path)
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.wait("document.querySelectorAll('details[open] table').length > 1")
    quiet(browser, path)
    assert browser.run("document.title") != "run"
    assert browser.run("document.querySelectorAll('main img, main script, main a').length") == 0
    assert "<img src=x" in browser.text()


def test_a_script_that_the_page_does_not_name_is_refused(browser, tmp_path):
    path = write(tmp_path, FULL)
    planted = path.read_text().replace("</main>", "</main><script>document.title='run'</script>")
    path.write_text(planted)
    browser.open(path)
    assert browser.run("document.title") != "run"
    assert any("Content Security Policy" in str(one) for one in browser.problems)


@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_is_no_wider_than_the_window(browser, tmp_path, width):
    for diagnosis in (LONG_RUN, HOSTILE):
        browser.open(write(tmp_path, diagnosis, Extras(tune=TUNED)), width=width)
        assert browser.run("document.documentElement.scrollWidth") <= width


def test_a_thousand_ranks_stay_a_small_page(browser, tmp_path):
    ranks = tuple(
        RankSummary(n, n, 100, 0.04 + n / 1e5, {"forward": 0.4, "backward": 0.6})
        for n in range(1000)
    )
    path = write(tmp_path, replace(FULL, ranks=ranks))
    browser.open(path)
    rows = browser.run("document.querySelectorAll('#ranks tbody tr').length")
    assert rows == 64
    assert browser.run("document.querySelector('#ranks tbody th').textContent") == "rank 999"
    quiet(browser, path)


def test_ranks_without_a_mean_step_are_not_called_slow_or_fast():
    ranks = tuple(RankSummary(n, n, 1, None, {}) for n in range(100))
    sections = HtmlReport().content(replace(FULL, ranks=ranks))["sections"]
    (shown,) = [one for one in sections if one["id"] == "ranks"]
    (table,) = shown["blocks"]
    assert table["caption"].startswith("The first 64 of 100 ranks")
    assert [row[0] for row in table["rows"]] == [f"rank {n}" for n in range(64)]


def test_the_largest_runs_stay_a_small_page():
    gpus = [
        course(f"gpu{n}.{what}", "bytes", 0.1, 0.5, 0.9)
        for n in range(64)
        for what in ("utilization_share", "memory_used_bytes")
    ]
    ranks = tuple(RankSummary(n, n, 9, 0.04, {"forward": 0.4}) for n in range(1000))
    largest = replace(
        LONG_RUN,
        series=(*LONG_RUN.series, *gpus),
        ranks=ranks,
        skipped_rules=tuple(GIVEN["SkippedRule"](f"r{n}", "no reason") for n in range(500)),
        other_sessions=(FULL,) * 200,
    )
    pages = {FULL.findings[0].rule: "why " * 1000}
    text = HtmlReport(Extras(pages=pages, tune=TUNED)).render(largest)
    assert len(text.encode()) < 5_000_000
    assert "188 more are in trainprof diagnose" in text


def test_what_is_printed_from_a_dark_page_is_black_on_white(browser, tmp_path):
    colour = "document.getElementById('chart-step-time').layout.font.color"
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", features=features)
    browser.open(write(tmp_path, LONG_RUN))
    dark = browser.run(colour)
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.run(colour) == "#000"
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    assert browser.run(colour) == dark
    browser.call("Emulation.setEmulatedMedia", features=[])


def test_light_and_dark_follow_the_system(browser, tmp_path):
    path = write(tmp_path, LONG_RUN)
    seen = []
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.call("Emulation.setEmulatedMedia", features=features)
        browser.open(path)
        seen.append(
            browser.run(
                "[getComputedStyle(document.body).backgroundColor,"
                " document.getElementById('chart-step-time').layout.font.color]"
            )
        )
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] != seen[1][1]


def test_a_screen_reader_finds_its_way(browser, tmp_path):
    browser.open(write(tmp_path, LONG_RUN, Extras(tune=TUNED)))
    counts = browser.run(
        """(() => {
          const all = (what) => [...document.querySelectorAll(what)];
          const levels = all('h1, h2, h3').map((one) => Number(one.tagName[1]));
          return {
            lang: document.documentElement.lang,
            h1: all('h1').length, main: all('main').length, nav: all('nav[aria-label]').length,
            skipped: levels.some((level, at) => at > 0 && level > levels[at - 1] + 1),
            tables: all('table').filter((one) => !one.caption || !one.caption.textContent).length,
            headers: all('tbody tr').filter((row) => row.cells[0].scope !== 'row').length,
            regions: all('section').filter((one) =>
              !document.getElementById(one.getAttribute('aria-labelledby'))).length,
            images: all('[role=img]').filter((one) => !one.getAttribute('aria-label')).length,
            buttons: all('.flame button').filter((one) => !one.ariaLabel).length,
            dead: all('nav a').filter((one) => !document.querySelector(one.hash)).length,
            skip: document.querySelector('a').getAttribute('href'),
          };
        })()"""
    )
    assert counts == {
        "lang": "en", "h1": 1, "main": 1, "nav": 1, "skipped": False, "tables": 0, "headers": 0,
        "regions": 0, "images": 0, "buttons": 0, "dead": 0, "skip": "#main",
    }  # fmt: skip
