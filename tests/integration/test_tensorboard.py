"""Runs shown by a real TensorBoard server, read back through its interface."""

import io
import json
import re
import struct
import sys
from dataclasses import asdict
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from trainprof.cli.main import main
from trainprof.profiler.model.tuning import Pair, RefusedFix, TriedFix, TriedTogether, TuneResult

sys.path.insert(0, str(Path(__file__).parent))
from tensorboard_server import tensorboard_server

pytest.importorskip("tensorboard", reason="needs: pip install 'trainprof[tensorboard]'")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def single(value):
    """As TensorBoard keeps it: with 24 binary digits."""
    return float(np.float32(value))


SPOILT = "a trial waited | for a CPU"
PAIRS = (
    Pair("old", 0.03, 0.02, 1.5),
    Pair("new", 0.03, 0.01, 3.0, SPOILT),
    Pair("old", None, None, None, "a trial failed"),
    Pair("new", 0.032, 0.02, 1.6),
)
TUNE = TuneResult(
    run="run",
    aa={"sd": 0.02, "pairs": 1, "ratio": 1.25, "ci": [0.5, 1.5]},
    aa_pairs=(Pair("old", 0.05, 0.04, 1.25),),
    kept=(
        TriedFix(
            "loader-workers",
            {"num_workers": 4, "persistent_workers": True, "nested": {"a": 1}, "none": None},
            "data-workers-under",
            speedup=1.5,
            ci=(1.4, 1.6),
            pairs=6,
            predicted=(1.2, 1.9),
            searched=({"params": {"num_workers": 8}, "speedup": 1.3, "pairs": 2},),
            measured=PAIRS,
        ),
    ),
    failed=(
        TriedFix(
            "compile/all",
            {"mode": "x" * 100_000},
            "kern-launch-bound",
            measured=(Pair("new", None, None, None, "a trial failed"),),
        ),
    ),
    refused=(RefusedFix("amp", "prec-amp-off", "numerics"),),
    combinations=(TriedTogether(("loader-workers", "amp"), "keep", 1.7, (1.6, 1.8), 6),),
)
PAIRS_OF_FIX = "tuned/pairs/01-loader-workers"


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def profiled(profile, loops_folder, live):
    return profile([sys.executable, str(loops_folder / "plain.py")], "--tensorboard", live)


@pytest.fixture(scope="module")
def shown(profiled, tmp_path_factory):
    """A folder with a run and a tune, served."""
    base = tmp_path_factory.mktemp("shown")
    tuned = base / "tuned"
    (tuned / "baseline").mkdir(parents=True)
    (tuned / "procs").mkdir()  # as each folder of records has one
    (tuned / "baseline" / "run").symlink_to(profiled.folder)
    (tuned / "tune.json").write_text(json.dumps(asdict(TUNE)))
    board = base / "board"
    for run in (profiled.folder, tuned, tuned):  # the second time replaces the first
        assert main(["export", str(run), "--to", "tensorboard", "--out", str(board)]) == 0
    with tensorboard_server(board) as server:
        server.wait_for({"run", "tuned", "tuned/trials/together-1", PAIRS_OF_FIX})
        yield server


def test_step_times_and_phases_equal_the_records(shown, profiled):
    trainer = profiled.trainers[0]
    walls = trainer.steps.columns["wall_ns"]
    expected = [(step, single(wall / 1e9)) for step, wall in enumerate(walls)]
    assert shown.scalars("run", "step/seconds") == expected
    waits = trainer.steps.columns["data_wait_ns"]
    pairs = zip(waits, walls, strict=True)
    expected = [(step, single(wait / wall)) for step, (wait, wall) in enumerate(pairs)]
    assert shown.scalars("run", "phase_share/data_wait") == expected
    losses = [(one.step, single(one.value)) for one in trainer.losses]
    assert shown.scalars("run", "loss") == losses


def test_points_have_the_time_of_day_at_which_the_step_ended(shown, profiled):
    info, columns = profiled.run.info, profiled.trainers[0].steps.columns
    points = shown.get("/data/plugin/scalars/scalars", run="run", tag="step/seconds")
    for (unix_s, _, _), start, wall in zip(
        points, columns["start_ns"], columns["wall_ns"], strict=True
    ):
        end_s = info.started_unix_s + (start + wall - info.started_ns) / 1e9
        assert unix_s == pytest.approx(end_s, abs=1e-3)


def test_figures_of_the_mean_step_equal_the_diagnosis(shown, profiled):
    steps = profiled.diagnosis["steps"]
    (found,) = shown.scalars("run", "summary/step_seconds")
    assert found == (steps["count"] - 1, single(steps["mean_s"]))
    for phase, time in steps["phases"].items():
        if time["share"] > 0:
            (found,) = shown.scalars("run", f"summary/phase_share/{phase}")
            assert found[1] == single(time["share"])


def test_the_machine_is_shown_by_step(shown, profiled):
    points = shown.scalars("run", "machine/memory_available_bytes")
    values = [one.machine.memory_available_bytes for one in profiled.run.samples]
    assert points
    assert all(min(values) * 0.999 <= value <= max(values) * 1.001 for _, value in points)
    assert len({step for step, _ in points}) == len(points)


def test_the_findings_are_texts(shown, profiled):
    (text,) = shown.get("/data/plugin/text/text", run="run", tag="trainprof/diagnosis")
    for finding in profiled.diagnosis["findings"]:
        assert f"<code>{finding['rule']}</code>" in text["text"]
    tags = shown.get("/data/plugin/text/tags")["run"]
    assert sum(tag.startswith("findings/") for tag in tags) == len(profiled.diagnosis["findings"])
    (about,) = shown.get("/data/plugin/text/text", run="run", tag="trainprof/about these curves")
    assert "100,000 steps make 4,366 points" in about["text"]


def test_the_composition_of_the_step_is_a_picture(shown):
    from PIL import Image

    tag = "trainprof/the mean step"
    (picture,) = shown.get("/data/plugin/images/images", run="run", tag=tag, sample=0)
    png = shown.bytes(f"/data/plugin/images/individualImage?{picture['query']}")
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">II", png[16:24])[0] == 640
    colours = Image.open(io.BytesIO(png)).convert("RGB").getcolors(10_000)
    assert len(colours) > 5


def test_custom_scalars_are_laid_out_and_match_curves(shown):
    layout = shown.get("/data/plugin/custom_scalars/layout")
    titles = [category["title"] for category in layout["category"]]
    assert titles[0] == "Where a step's time goes"
    chart = layout["category"][0]["chart"][0]
    found = shown.get(
        "/data/plugin/custom_scalars/scalars", run="run", tag=chart["multiline"]["tag"][0]
    )
    assert found["regex_valid"]
    assert "phase_share/forward" in found["tag_to_events"]


def test_trials_are_rows_of_the_hparams_page(shown):
    allowed = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
    asked = {"experimentName": "", "allowedStatuses": allowed, "colParams": []}
    answer = shown.post(
        "/data/plugin/hparams/session_groups", {**asked, "startIndex": 0, "sliceSize": 99}
    )
    rows = {row["name"].split("/", 1)[1]: row for row in answer["sessionGroups"]}
    assert set(rows) == {
        "00-unchanged",
        "01-loader-workers",
        "01-loader-workers-setting-1",
        "02-compile/all",
        "together-1",
    }
    best = rows["01-loader-workers"]
    assert best["hparams"] == {
        "fix": "loader-workers",
        "verdict": "kept",
        "rule": "data-workers-under",
        "num_workers": 4.0,
        "persistent_workers": True,
        "nested": '{"a": 1}',
    }
    metrics = {one["name"]["tag"]: one["value"] for one in best["metricValues"]}
    assert metrics["tune/speedup"] == single(1.5)
    assert metrics["tune/speedup_low"] == single(1.4)
    assert metrics["tune/pairs"] == 6
    assert {name.split("/")[0] for name in metrics} == {"tune"}  # no columns of single pairs
    assert rows["02-compile/all"]["metricValues"] == []
    control = {one["name"]["tag"]: one["value"] for one in rows["00-unchanged"]["metricValues"]}
    assert control == {
        "tune/speedup": 1.25,
        "tune/speedup_low": 0.5,
        "tune/speedup_high": 1.5,
        "tune/pairs": 1,
    }
    assert rows["01-loader-workers-setting-1"]["hparams"]["num_workers"] == 8.0


def test_the_pairs_of_a_trial_are_points_and_a_table(shown):
    assert shown.scalars(PAIRS_OF_FIX, "tune_pair/ratio") == [(1, 1.5), (4, single(1.6))]
    assert shown.scalars(PAIRS_OF_FIX, "tune_pair/ratio_left_out") == [(2, 3.0)]
    for name in ("old", "new"):
        found = shown.scalars(PAIRS_OF_FIX, f"tune_pair/{name}_step_seconds")
        of_pairs = [getattr(pair, f"{name}_step_s") for pair in PAIRS]
        assert found == [(n, single(s)) for n, s in enumerate(of_pairs, 1) if s is not None]
    assert shown.scalars("tuned/pairs/00-unchanged", "tune_pair/ratio") == [(1, 1.25)]
    (text,) = shown.get("/data/plugin/text/text", run=PAIRS_OF_FIX, tag="tune_pair/all")
    rows = re.findall(r"<tr>(.*?)</tr>", text["text"], re.DOTALL)
    cells = [
        [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in rows[1:]
    ]
    assert cells[:2] == [
        ["1", "without", "30 ms", "20 ms", "1.50x", "yes"],
        ["2", "with", "30 ms", "10 ms", "3.00x", f"no: {SPOILT}"],
    ]
    assert cells[2][2:] == [*["not measured"] * 3, "no: a trial failed"]
    texts = shown.get("/data/plugin/text/tags")
    assert texts["tuned/pairs/02-compile-all"] == ["tune_pair/all"]
    assert "tuned/pairs/together-1" not in texts  # none was recorded


def test_a_second_export_replaces_the_first(shown, profiled):
    """The tune was exported twice: there is one file, and a point is there once."""
    assert len(shown.scalars("tuned", "step/seconds")) == len(profiled.trainers[0].steps)


def events(folder):
    """Everything that TensorBoard reads of a folder."""
    accumulator = EventAccumulator(str(folder), {"scalars": 0, "tensors": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    scalars = {name: accumulator.Scalars(name) for name in tags["scalars"]}
    return scalars | {name: accumulator.Tensors(name) for name in tags["tensors"]}


def test_what_was_written_while_it_ran_equals_the_export(profiled, live, tmp_path, monkeypatch):
    monkeypatch.chdir(profiled.folder.parent)  # paths are shown as seen from here
    assert profiled.status == 0
    board = str(tmp_path)
    assert main(["export", str(profiled.folder), "--to", "tensorboard", "--out", board]) == 0
    exported = events(tmp_path / "run")
    assert events(live / "run") == exported
    assert len(exported["step/seconds"]) == 40
    assert "tensorboard" not in profiled.stdout


def test_a_folder_that_cannot_be_written_is_said_before_the_training_starts(profile, tmp_path):
    (tmp_path / "file").write_text("")
    done = profile([sys.executable, "-c", "print('ran')"], "--tensorboard", tmp_path / "file")
    assert done.status == 2
    assert "ran" not in done.stdout
    assert done.stderr == (
        f"trainprof: {tmp_path / 'file'} cannot be written (File exists); "
        "name another with --tensorboard DIR.\n"
    )
    assert not done.folder.exists()
