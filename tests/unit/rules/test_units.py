"""Dead channels of the layers, as signals and as a note."""

import pytest
from builders import build_run, build_steps, build_trainer

from trainprof.rules.diagnose import diagnose
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training

LAYER = {
    "name": "features.3",
    "type": "Conv2d",
    "channels": 64,
    "parameters": 36_864,
    "flops": 8_000_000,
    "zero_rows": 0,
    "zero_share": 0.0,
    "never_active": 30,
    "rows": 20_000,
    "active_decile": 900,
    "first_update": 300,
}
OTHER = {**LAYER, "name": "features.0", "flops": 2_000_000, "never_active": 3}


def run(*layers, **fact):
    data = {"sparse": False, "sampled_steps": 96, "last_update": 900}
    data |= {"layers": list(layers), **fact}
    trainer = build_trainer(build_steps(60, {"forward": 10.0}), facts=[("units", "all", data)])
    return build_run(trainer)


def rules(*layers, **fact):
    return {finding.rule: finding for finding in diagnose(run(*layers, **fact)).findings}


def test_dead_channels_in_the_heavy_layers_are_noted():
    finding = rules(LAYER, OTHER)["comp-dead-units"]

    assert "47 % of the output channels of features.3 were never active" in finding.summary
    assert "38 % of the floating-point operations" in finding.summary  # 0.8 * 30 / 64
    assert finding.gain is None


def test_where_no_layer_was_seen_running_the_parameters_count():
    seen = [{**layer, "flops": 0, "never_active": 0, "zero_rows": 32} for layer in (LAYER, OTHER)]
    assert "parameters" in rules(*seen)["comp-dead-units"].summary
    assert "have weights of zero" in rules(*seen)["comp-dead-units"].summary


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 400},
        {"active_decile": 3},  # the others are seldom active as well
        {"never_active": 8},
        {"flops": 200_000},
    ],
    ids=str,
)
def test_layers_of_which_one_cannot_be_sure_do_not_count(change):
    assert "comp-dead-units" not in rules({**LAYER, **change}, OTHER)


def test_a_layer_that_is_dead_as_a_whole_counts():
    assert "comp-dead-units" in rules({**LAYER, "never_active": 64, "active_decile": 0}, OTHER)


def test_networks_that_are_sparse_by_design_and_early_looks_do_not_count():
    assert "comp-dead-units" not in rules(LAYER, OTHER, sparse=True)
    assert "comp-dead-units" not in rules({**LAYER, "first_update": 20}, OTHER)
    empty = {**LAYER, "never_active": 0, "zero_rows": 40}
    assert "comp-dead-units" in rules(empty, OTHER)
    assert "comp-dead-units" not in rules(empty, OTHER, last_update=60)


def test_without_layers_the_signals_are_missing():
    signals = measure(Training(run(), run().sessions[0]))
    assert signals.get("units.dead_layers").value is None
    assert signals.get("units.dead_layers").reason
