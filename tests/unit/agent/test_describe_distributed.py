import contextlib
import json

import pytest
import torch
from torch import distributed, nn

from trainprof.profiler.agent.describe import describe_distributed, describe_model


@pytest.fixture
def group(tmp_path):
    """A process group of one, over gloo."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


def test_nothing_without_a_group():
    assert describe_distributed(torch, nn.Linear(1, 1)) is None


@pytest.mark.usefixtures("group")
def test_group_and_ddp():
    model = nn.parallel.DistributedDataParallel(nn.Linear(3, 3), find_unused_parameters=True)
    model(torch.ones(2, 3)).sum().backward()
    fact = describe_distributed(torch, model)
    assert (fact["backend"], fact["rank"], fact["world_size"]) == ("gloo", 0, 1)
    ddp = fact["ddp"]
    assert ddp["find_unused_parameters"] is True
    assert ddp["static_graph"] is False
    assert ddp["bucket_bytes"] == 25 * 1024 * 1024
    assert ddp["mixed_precision"] is False
    assert ddp["comm_hooks"] == 0
    assert ddp["logging_num_parameter_tensors"] == 2
    assert json.loads(json.dumps(fact)) == fact
    described = describe_model(torch, model)
    assert described["wrapper"] == "DistributedDataParallel"
    assert described["type"] == "torch.nn.modules.linear.Linear"


@pytest.mark.usefixtures("group")
def test_group_without_ddp():
    assert "ddp" not in describe_distributed(torch, nn.Linear(1, 1))
    assert "ddp" not in describe_distributed(torch)


@pytest.mark.usefixtures("group")
def test_backwards_that_average_gradients_are_counted():
    from trainprof.profiler.agent.hooks_comm import CommunicationHooks
    from trainprof.profiler.agent.recorder import Recorder

    hooks = CommunicationHooks(torch, Recorder())
    model = nn.parallel.DistributedDataParallel(nn.Linear(3, 3))
    hooks.follow(model)

    for last in (False, False, True):
        with contextlib.nullcontext() if last else model.no_sync():
            model(torch.ones(2, 3)).sum().backward()
            hooks.backward_ended()
    hooks.uninstall()

    assert (hooks.backwards, hooks.synced) == (3, 1)
    assert hooks.parallel is model
