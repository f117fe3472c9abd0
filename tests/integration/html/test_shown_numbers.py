"""Every number on the page of a run is one of its diagnosis.json, and the check can fail."""

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path

from trainprof.profiler.model.diagnosis import Bucket, Series
from trainprof.reports.html.report import HtmlReport
from trainprof.reports.json_report import JsonReport

sys.path.insert(0, str(Path(__file__).parents[3] / "docs"))
from shown_page import page_differs, run_differs

REPOSITORY = Path(__file__).parents[3]
SCENARIOS = runpy.run_path(str(REPOSITORY / "tests" / "contract" / "test_reports.py"))["SCENARIOS"]
STEPS = Series("step_s", "s", tuple(Bucket(float(at), 0.04, 0.041, 0.05) for at in range(3)))
RUN = replace(SCENARIOS["one finding"], series=(STEPS,))
WRONG = {
    r"41.2 ms\n90 %": (r"42.2 ms\n90 %", "verdict: '42.2 ms'"),
    '"48 %","19.8 ms"': ('"20 %","19.8 s"', "composition/data wait: '20 %'"),
    "312 (290 steady)": ("312 (291 steady)", "verdict: '312 (291 steady)"),
}
"""In place of what is shown, what might be; the second has the share of another phase."""


def page_of(diagnosis, tmp_path, text=None):
    path = tmp_path / "report.html"
    path.write_text(text or HtmlReport().render(diagnosis), encoding="utf-8")
    return path, json.loads(JsonReport().render(diagnosis))


def test_the_numbers_of_a_real_run(browser, profile, loops_folder):
    done = profile([sys.executable, loops_folder / "plain.py"], "--no-calibration")
    browser.open(done.folder / "report.html")
    assert run_differs(browser, done.folder) == []


def test_wrong_numbers_are_named(browser, tmp_path):
    text = HtmlReport().render(RUN)
    for right, (wrong, _) in WRONG.items():
        assert right in text
        text = text.replace(right, wrong, 1)
    path, diagnosis = page_of(RUN, tmp_path, text)
    browser.open(path)
    browser.run("document.getElementById('chart-step-time').data.at(-1).y[0] *= 1.01")
    found = page_differs(browser, diagnosis, {})
    expected = [*(named for _, named in WRONG.values()), "composition/data wait: '19.8 s'"]
    expected.append("step_s: drawn at ")
    for named in expected:
        assert sum(one.startswith(named) for one in found) == 1, (named, found)
    assert len(found) == len(expected)


def test_what_is_not_on_the_page_is_named(browser, tmp_path):
    path, diagnosis = page_of(RUN, tmp_path)
    browser.open(path)
    browser.run("document.getElementById('chart-step-time').remove()")
    assert page_differs(browser, diagnosis, {}) == ["chart-step-time: not drawn"]
    browser.run("document.getElementById('verdict').remove()")
    assert page_differs(browser, diagnosis, {}) == ["the page has no verdict"]
