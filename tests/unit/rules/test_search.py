"""Runs beside this one: whether they are a grid, and whether they went one after the other."""

import itertools

import pytest
from builders import build_run, build_samples, build_steps, build_trainer
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.store.trials import Launch
from trainprof.rules.diagnose import diagnose
from trainprof.rules.search_grid import find_grid, read_options
from trainprof.rules.search_queue import runs_in_a_row

SPACE = {"lr": ["0.1", "1e-2", "0.003"], "wd": ["0", "1e-4", "1e-3"], "dropout": ["0.1", "0.3"]}


def product(space=SPACE, *more):
    return [
        (
            "python",
            "train.py",
            *(f"--{name}={value}" for name, value in zip(space, point, strict=True)),
            *more,
        )
        for point in itertools.product(*space.values())
    ]


def test_all_combinations_are_a_grid():
    commands = product()
    grid = find_grid([*commands, *commands], commands[5])  # repeated: it counts once

    assert grid is not None
    assert grid.runs == 18
    assert grid.values == {"lr": 3, "wd": 3, "dropout": 2}


def test_a_grid_with_a_hole_or_random_points_is_none():
    commands = product()
    assert find_grid(commands[:-1], commands[0]) is None
    points = [("train.py", f"--lr={n / 97}", f"--wd={n / 31}", f"--bs={n}") for n in range(1, 28)]
    assert find_grid(points, points[3]) is None


def test_the_first_part_of_a_grid_is_one_as_the_loop_makes_it():
    commands = product()
    assert find_grid(commands[:12], commands[0]).runs == 12


def test_data_sets_and_models_are_a_benchmark_not_a_search():
    space = {"data": ["mnist", "svhn"], "model": ["a", "b", "c"], "method": list("wxyz")}
    assert find_grid(product(space), product(space)[0]) is None
    mixed = {**SPACE, "model": ["a", "b"]}
    assert find_grid(product(mixed), product(mixed)[0]).runs == 18  # of this model only


def test_studies_of_size_and_length_are_no_search():
    space = {"epochs": ["1", "2", "4"], "samples": ["10", "100"], "subset": ["1", "2", "3", "4"]}
    assert find_grid(product(space), product(space)[0]) is None


def test_seeds_names_and_places_do_not_count():
    commands = [
        (*command, "--seed", str(place % 4), "--run-name", f"r{place}", "--gpu", str(place % 2))
        for place, command in enumerate(product())
    ]
    assert find_grid(commands, commands[0]).values == {"lr": 3, "wd": 3, "dropout": 2}


def test_runs_with_other_options_are_left_out():
    commands = product()
    tried = [("python", "train.py", "--lr=0.1"), ("python", "train.py", "--lr=5", "--debug")]
    assert find_grid([*tried, *commands], commands[0]).runs == 18
    assert find_grid([*tried, *commands], tried[0]) is None


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--lr", "1e-3", "--amp", "--wd=0"], {"lr": "1e-3", "wd": "0", "amp": ""}),
        (["--lr", "-1e-3", "--sizes", "64", "32"], {"lr": "-1e-3", "sizes": "64 32"}),
        (["model.lr=0.1", "fast"], {"model.lr": "0.1", "#0": "fast"}),
        (["-s", "a=1", "-s", "b=2"], {"s": "a=1; b=2"}),
        (["--seed", "3", "--out-dir=x"], {}),
        ([], {}),
    ],
)
def test_options_of_a_command(arguments, options):
    assert read_options(["python", "train.py", *arguments]) == options


@given(st.lists(st.text(max_size=8), max_size=8))
def test_no_command_is_too_odd(arguments):
    read_options(["train.py", *arguments])
    find_grid([["train.py", *arguments]], ["train.py", *arguments])


def launches(count, *, pause=1.0, length=20.0, arguments=lambda n: ("train.py", f"--lr={n}")):
    return [
        Launch(arguments(n), n * (length + pause), n * (length + pause) + length)
        for n in range(count)
    ]


def test_runs_that_follow_one_another_are_a_row():
    row = launches(8)
    assert runs_in_a_row(row, row[-1].started_unix_s) == 8
    assert runs_in_a_row(row, row[3].started_unix_s) == 4
    assert runs_in_a_row(launches(8, pause=45.0), 7 * 65.0) == 1  # somebody thought in between
    assert runs_in_a_row(launches(8, pause=-5.0), 7 * 15.0) == 1  # they overlap


def test_a_run_that_still_goes_on_ends_the_row():
    row = [*launches(5), Launch(("train.py", "--lr=9"), 105.0, None)]
    assert runs_in_a_row(row, 105.0) == 6


def test_repetitions_and_measurements_are_no_search():
    same = launches(8, arguments=lambda n: ("train.py",))
    assert runs_in_a_row(same, same[-1].started_unix_s) == 1
    timed = launches(8, arguments=lambda n: ("benchmark.py", f"--threads={n}"))
    assert runs_in_a_row(timed, timed[-1].started_unix_s) == 1


def test_a_run_beside_another_is_no_row():
    beside = [*launches(6), Launch(("train.py", "--lr=9"), 110.0, 130.0)]
    assert runs_in_a_row(beside, 105.0) == 1
    assert runs_in_a_row([], 0.0) == 1


def found(cores, launched, **values):
    trainer = build_trainer(
        build_steps(400, {"forward": 20.0}, flags=8),
        facts=[("model", "m0", {"devices": {"cpu": 9}, "parameter_count": 9, "trained": True})],
    )
    samples = build_samples(14, own_cores=1.0, busy_share=1.05 / cores, logical_cores=cores)
    here = build_run(
        trainer,
        samples=samples,
        cores=cores,
        argv=launched[-1].arguments,
        started_unix_s=launched[-1].started_unix_s,
        **values,
    )
    return {finding.rule: finding for finding in diagnose(here, launches=launched).findings}


def test_a_queue_of_small_runs_is_noted_on_a_large_machine_only():
    assert "7 at once" in found(8, launches(6))["hpo-concurrency"].summary
    assert "hpo-concurrency" not in found(2, launches(6))
    assert "hpo-concurrency" not in found(8, launches(4))


def test_a_grid_is_noted():
    space = {**SPACE, "dropout": ["0.1", "0.2", "0.3"]}
    commands = product(space)
    launched = [Launch(command, 100.0 * n, 100.0 * n + 20) for n, command in enumerate(commands)]
    finding = found(2, launched)["hpo-grid"]

    assert "27 runs" in finding.summary
    assert "lr (3 values), wd (3), dropout (3)" in finding.summary
    assert "hpo-grid" not in found(2, launched[:17])
