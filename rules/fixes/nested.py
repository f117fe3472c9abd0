"""The tensors in what modules take and give: lists, dicts, named tuples, dataclasses.

Standard library only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

PLAIN = (type(None), bool, int, float, complex, str, bytes, slice, range, type(Ellipsis))
"""Types that hold no tensor."""
OF_TORCH = ("dtype", "device", "layout", "memory_format")
"""The same, of module torch."""


class Nested:
    """Walks values of one torch.

    Args:
        tensor: `torch.Tensor`.
    """

    def __init__(self, tensor: type) -> None:
        self._tensor = tensor

    def changed(self, value: Any, change: Callable[[Any], Any]) -> Any:
        """The value with `change` done to its tensors; the value itself where nothing changes."""
        if isinstance(value, self._tensor):
            return change(value)
        parts = _parts(value)
        if parts is None:
            return value
        new = {key: self.changed(part, change) for key, part in parts.items()}
        if all(new[key] is part for key, part in parts.items()):
            return value
        return _rebuilt(value, new)

    def tensors(self, value: Any) -> Iterator[Any]:
        """The tensors, depth first."""
        if isinstance(value, self._tensor):
            yield value
        else:
            for part in (_parts(value) or {}).values():
                yield from self.tensors(part)

    def unknown(self, value: Any) -> type | None:
        """The first type that may hold tensors which the other methods do not find."""
        if isinstance(value, (*PLAIN, self._tensor)) or _is_plain(type(value)):
            return None
        parts = _parts(value)
        if parts is None:
            return type(value)
        kinds = (self.unknown(part) for part in parts.values())
        return next((kind for kind in kinds if kind is not None), None)


def _is_plain(kind: type) -> bool:
    numpys = kind.__module__.partition(".")[0] == "numpy"
    return numpys or (kind.__module__ == "torch" and kind.__name__ in OF_TORCH)


def _parts(value: Any) -> Mapping[Any, Any] | None:
    """What a container holds, by key, position or field; None for what is no container."""
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if isinstance(value, MutableMapping):
        return dict(value.items())
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    return None


def _rebuilt(value: Any, parts: Mapping[Any, Any]) -> Any:
    if isinstance(value, tuple):
        named = hasattr(value, "_fields")
        return type(value)(*parts.values()) if named else type(value)(tuple(parts.values()))
    new = copy.copy(value)
    if isinstance(value, list):
        new[:] = parts.values()
    elif isinstance(value, MutableMapping):
        for key, part in parts.items():
            new[key] = part
    else:
        for key, part in parts.items():
            object.__setattr__(new, key, part)
    return new
