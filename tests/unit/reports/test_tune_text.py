"""The result of a tune as text: what was kept, and how to write it into the source."""

from trainprof.profiler.model.tuning import TriedFix, TriedTogether, TuneResult
from trainprof.reports.terminal.tune import tune_text

KEPT = TriedFix("optimizer-fused", {"fused": True}, "opt-unfused", 1.4, (1.3, 1.5), 6, 1)
PATCH = "--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-x = f()\n+x = f(fused=True)\n"


def result(**fields):
    return TuneResult(
        run="r", speedup=1.4, ci=(1.3, 1.5), pairs=6, kept=(KEPT,), plan="a run/plan.json", **fields
    )


def test_the_patch_stands_as_it_is_with_the_command_that_writes_it():
    text = tune_text(result(patch=PATCH, by_hand=("gc-freeze at x.py: no loop.",)))
    assert f"\nin the source\n{PATCH}" in text
    assert "\nby hand: gc-freeze at x.py: no loop.\n" in text
    assert "\n  trainprof fix 'a run/plan.json' --write\n" in text


def test_without_a_patch_there_is_no_command():
    text = tune_text(result(by_hand=("pip install 'trainprof[tune]'",)))
    assert "trainprof fix" not in text
    assert "by hand: pip install" in text


def test_the_conditions_are_told():
    aa = {"sd": 0.03, "pairs": 4, "detectable": {"6": 1.043, "16": 1.022}}
    busy = {"cpu_pressure": 0.4, "waited_s": 60.0, "remarks": ["others use the CPUs."]}
    text = tune_text(result(aa=aa, dropped_pairs=2, preflight=busy))
    assert "6 pairs show 1.04; 16 pairs show 1.02 times and" in text
    assert "\n2 pairs do not count: a trial waited for a CPU" in text
    assert "\nothers use the CPUs.\n" in text
    assert "equal runs" not in tune_text(result(aa={"sd": None, "pairs": 1, "detectable": None}))


def test_what_was_tried_together():
    tried = TriedTogether(("a", "b"), "reject", 0.9, (0.8, 1.0), 6, "it is no faster")
    text = tune_text(result(combinations=(tried,)))
    assert "\ntogether: a, b, 0.90 times as fast, 6 pairs\n  it is no faster\n" in text
