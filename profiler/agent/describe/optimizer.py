"""What an optimizer holds and which of torch's implementations its step really uses.

Measured: about 2 us per parameter tensor with its state: 0.3 ms for a 12-layer transformer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from ...model.facts import OptimizerFact
from .naming import json_value, type_name

_MOST_GROUPS = 64
_WRAPPERS = ("accelerate", "lightning", "lightning_fabric", "pytorch_lightning", "deepspeed")
_INSIDE = ("_optimizer", "optimizer", "optim")


def describe_optimizer(
    torch: Any,
    optimizer: Any,
    trainable_parameters: Iterable[Any] = (),
    sparse_parameters: Iterable[Any] = (),
) -> OptimizerFact:
    """The payload of Fact "optimizer".

    Wrappers of Accelerate, Lightning, DeepSpeed and torch's ZeRO are looked through.
    `implementation` is that of the group with the most tensors (each group carries its own); None
    where the step is not one of torch.optim's, or has no such choice (LBFGS).

    Args:
        torch: The module.
        optimizer: Any object with `param_groups`.
        trainable_parameters: Those of the models, to count the elements that no group holds.
        sparse_parameters: Those that get sparse gradients, which no fused implementation takes.
    """
    optimizer = unwrap_optimizer(torch, optimizer)
    own = _torch_class(optimizer)
    groups = optimizer.param_groups
    described = [_describe_group(torch, own, group) for group in groups]
    largest = max(described, key=lambda group: group["tensors"], default=None)
    held = {id(p) for group in groups for p in group["params"]}
    fused = _fused_supported(own, optimizer)
    if fused and any(id(parameter) in held for parameter in sparse_parameters):
        fused = False
    return {
        "type": type_name(type(optimizer)),
        "groups": described[:_MOST_GROUPS],
        "implementation": None if largest is None else largest["implementation"],
        "fused_supported": fused,
        "parameter_count": sum(group["parameters"] for group in described),
        "tensor_count": len(held),
        "state_bytes": _state_bytes(torch, optimizer),
        "params_in_no_group": sum(_elements(p) for p in trainable_parameters if id(p) not in held),
    }


def unwrap_optimizer(torch: Any, optimizer: Any) -> Any:
    """The optimizer inside the wrapper of a known library (or itself)."""
    for _ in range(4):
        module = type(optimizer).__module__
        if module.partition(".")[0] not in _WRAPPERS and not module.startswith(
            "torch.distributed.optim"
        ):
            break
        candidates = (vars(optimizer).get(name) for name in _INSIDE)
        inner = next((c for c in candidates if isinstance(c, torch.optim.Optimizer)), None)
        if inner is None:
            break
        optimizer = inner
    return optimizer


def _torch_class(optimizer: Any) -> str | None:
    """The class of torch.optim whose `step` runs (its wrappers keep its name), else None."""
    step = type(optimizer).step
    if not getattr(step, "__module__", "").startswith("torch.optim."):
        return None
    return str(step.__qualname__).rpartition(".")[0]


def _describe_group(torch: Any, own: str | None, group: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        str(key): json_value(v) for key, v in group.items() if key != "params"
    }
    described["tensors"] = len(group["params"])
    described["parameters"] = sum(_elements(p) for p in group["params"])
    described["implementation"] = _implementation(torch, own, group)
    return described


def _implementation(torch: Any, own: str | None, group: dict[str, Any]) -> str | None:
    """Follows the rule of torch/optim/*.py.

    Explicit flags win. The default is foreach where all parameters are plain tensors on a device
    with foreach kernels (not the CPU), and never fused.
    """
    if own is None or own == "LBFGS":
        return None
    if group.get("fused"):
        return "fused"
    foreach = group.get("foreach")
    undecided = foreach is None and "foreach" in group and group.get("fused") is None
    if undecided:
        foreach = _default_foreach(torch, own, group)
    return "foreach" if foreach else "forloop"


def _default_foreach(torch: Any, own: str, group: dict[str, Any]) -> bool:
    tensor_lr = isinstance(group.get("lr"), torch.Tensor)
    if own in ("Adam", "AdamW") and tensor_lr and not group.get("capturable"):
        return False
    decide = sys.modules["torch.optim.optimizer"]._default_to_fused_or_foreach
    _, foreach = decide(group["params"], bool(group.get("differentiable")), use_fused=False)
    return bool(foreach)


def _fused_supported(own: str | None, optimizer: Any) -> bool | None:
    if own is None:
        return None
    if "fused" not in optimizer.defaults or optimizer.defaults.get("differentiable"):
        return False
    supported = sys.modules["torch.utils._foreach_utils"]._get_fused_kernels_supported_devices()
    kinds = {(p.device, p.dtype) for group in optimizer.param_groups for p in group["params"]}
    if own == "Adagrad" and any(device.type != "cpu" for device, _ in kinds):
        return None  # older torch has it for the CPU only
    return all(dtype.is_floating_point and device.type in supported for device, dtype in kinds)


def _state_bytes(torch: Any, optimizer: Any) -> int:
    return sum(
        value.numel() * value.dtype.itemsize
        for state in list(optimizer.state.values())
        if isinstance(state, dict)
        for value in list(state.values())
        if isinstance(value, torch.Tensor)
    )


def _elements(parameter: Any) -> int:
    # A lazy parameter has no shape yet, and raises where one asks for it.
    return 0 if "Uninitialized" in type(parameter).__name__ else int(parameter.numel())
