"""The process group, and how DistributedDataParallel was set up."""

from __future__ import annotations

from typing import Any

from ...model.facts import DistributedFact
from .naming import json_value

_DDP_ATTRIBUTES = (
    "find_unused_parameters",
    "static_graph",
    "gradient_as_bucket_view",
    "broadcast_buffers",
    "require_backward_grad_sync",
)


def describe_distributed(torch: Any, model: Any = None) -> DistributedFact | None:
    """The payload of Fact "distributed"; None where no process group stands.

    `ddp` holds the constructor's choices and, as `logging_<name>`, what DDP's own logger gives
    (`can_set_static_graph`, `unused_parameter_size`, bucket sizes ...). About 50 us.

    Args:
        torch: The module.
        model: The root module, of which a DistributedDataParallel on the outside is described.
    """
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    fact: DistributedFact = {
        "backend": str(distributed.get_backend()),
        "rank": distributed.get_rank(),
        "world_size": distributed.get_world_size(),
    }
    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        fact["ddp"] = _describe_ddp(model)
    return fact


def _describe_ddp(model: Any) -> dict[str, object]:
    attributes = vars(model)
    described = {
        name: json_value(attributes[name]) for name in _DDP_ATTRIBUTES if name in attributes
    }
    described["bucket_bytes"] = json_value(attributes.get("bucket_bytes_cap"))
    described["mixed_precision"] = attributes.get("mixed_precision") is not None
    described["comm_hooks"] = len(attributes.get("_comm_hooks", ()))
    read = getattr(model, "_get_ddp_logging_data", None)
    if read is not None and attributes.get("logger") is not None:
        for name, value in read().items():
            described[f"logging_{name}"] = json_value(value)
    return described
