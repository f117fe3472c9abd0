"""What data-persistent advises: workers that live on, a loader that is kept, or no workers."""

from __future__ import annotations

import pytest

from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.catalogue.data.persistent import Persistent

STARTS = {
    "loader.num_workers": 2,
    "loader.persistent_workers": False,
    "loader.start_share": 0.16,
    "loader.iterators_made": 7,
    "loader.loaders_made": 1,
    "step.data_wait_share": 0.52,
    "step.mean_s": 0.0064,
    "loader.producer_wall_s": 0.00175,
    "model.devices": {"cpu": 1_000},
}


@pytest.mark.parametrize(
    ("signals", "advised"),
    [
        (
            {},
            [
                ("loader-workers", {"persistent_workers": True}),
                ("loader-workers", {"num_workers": 0}),
            ],
        ),
        ({"loader.producer_wall_s": 0.0055}, [("loader-workers", {"persistent_workers": True})]),
        ({"loader.producer_wall_s": None}, [("loader-workers", {"persistent_workers": True})]),
        (
            {"loader.loaders_made": 7, "loader.producer_wall_s": None},
            [("loader-kept", {})],
        ),
    ],
    ids=["quick batches", "slow batches", "not measured", "a loader for each epoch"],
)
def test_what_is_advised(signals, advised):
    values = {name: Signal(value) for name, value in {**STARTS, **signals}.items()}
    (found,) = Persistent().check(Signals(values))
    assert [(one.fix, one.params) for one in found.fixes] == advised
