"""What the source of a script sends to servers."""

import pytest

from trainprof.cli.network_loggers import network_writes


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import torch, wandb\nwandb.init()", []),
        ("from comet_ml import Experiment", ["comet_ml"]),
        ("import mlflow\nmlflow.set_tracking_uri('http://x')", ["MLflow's set_tracking_uri"]),
        ("import mlflow\nmlflow.log_metric('a', 1)", []),
        ("TrainingArguments('out', push_to_hub=True)", ["push_to_hub"]),
        ("TrainingArguments('out', push_to_hub=False)", []),
        ("model.push_to_hub('x')", ["push_to_hub"]),
        ("import torch\nfrom helpers.log import start", ["comet_ml"]),
        ("this is no Python", []),
    ],
)
def test_servers_are_found(tmp_path, monkeypatch, text, found):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "__init__.py").touch()
    (tmp_path / "helpers" / "log.py").write_text("import comet_ml\ndef start(): ...")
    (tmp_path / "train.py").write_text(text)
    assert network_writes(["python", "train.py", "--lr", "1"]) == found


def test_a_script_that_is_not_there_sends_nothing():
    assert network_writes(["nowhere.py"]) == []
