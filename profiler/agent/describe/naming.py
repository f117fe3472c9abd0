"""Names of types, and values made fit for JSON."""

from __future__ import annotations

import math
from typing import Any


def type_name(cls: type) -> str:
    """`module.QualName` of a class; builtins without their module."""
    module = cls.__module__
    return cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}"


def dtype_name(dtype: Any) -> str:
    """`float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")


def json_value(value: Any) -> object:
    """Plain numbers, strings and short sequences of them as they are; everything else None.

    Exact types only: a subclass's methods would be the user's code, and a tensor's value may lie
    on a device. Not-a-number and infinity are not JSON: None as well.
    """
    kind = type(value)
    if kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else None
    if kind in (tuple, list) and len(value) <= 16:
        return [json_value(item) for item in value]
    return None
