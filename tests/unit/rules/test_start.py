"""A published architecture and its start, as signals and as a note."""

import pytest
from builders import build_run, build_steps, build_trainer

from trainprof.rules.diagnose import diagnose

RESNET = {
    "type": "torchvision.models.resnet.ResNet",
    "parameters": 11_000_000,
    "norms": 20,
    "norms_untouched": 20,
    "input_channels": 3,
    "vocabulary": None,
}


def findings(start=(), shape=(32, 3, 224, 224), models=(), **loader):
    model = {"parameter_count": 11_000_000, "trained": True, "devices": {"cpu": 11_000_000}}
    trainer = build_trainer(
        build_steps(60, {"forward": 10.0}),
        facts=[
            ("model", "m0", model),
            *models,
            ("start", "m0", {**RESNET, **dict(start)}),
            ("loader", "l0", {"role": "training", "dataset_length": 8_000, **loader}),
            ("batch", "l0", {"tensors": [{"shape": shape, "dtype": "torch.float32"}]}),
        ],
    )
    return {finding.rule: finding for finding in diagnose(build_run(trainer)).findings}


def test_random_weights_on_few_photographs_are_noted():
    finding = findings()["xfer-from-scratch"]

    assert "ResNet of torchvision" in finding.summary
    assert "8,000 samples" in finding.summary
    assert (finding.severity, finding.gain) == ("info", None)


@pytest.mark.parametrize(
    "change",
    [
        {"start": {"norms_untouched": 0}},
        {"start": {"norms": 0, "norms_untouched": 0}},
        {"start": {"input_channels": 1}},
        {"shape": (32, 3, 32, 32)},
        {"shape": (32, 2048)},
        {"dataset_length": None},
        {"dataset_length": 1_281_167},
        {"models": [("model", "m1", {"parameter_count": 5, "trained": True})]},
        {"models": [("frozen", "all", {"parameters": 5, "modules": ["teacher"]})]},
    ],
    ids=str,
)
def test_where_anything_is_otherwise_nothing_is_said(change):
    assert "xfer-from-scratch" not in findings(**change)


def test_images_whose_colours_come_last_have_the_same_sides():
    assert "xfer-from-scratch" in findings(shape=(32, 96, 96, 3))
    assert "xfer-from-scratch" not in findings(shape=(32, 28, 28, 3))
