"""What an item or a batch is made of: leaves by path, size in bytes, a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import pickle
import sys
from collections.abc import Iterator, Mapping
from typing import Any

_DEEPEST = 8
_NUMBERS = (int, float, bool)

Leaf = tuple[str, Any]


def leaves(thing: Any, path: str = "", depth: int = 0) -> Iterator[Leaf]:
    """Every leaf with its path (".image", "[0]"); a sequence of plain numbers is one leaf."""
    if depth < _DEEPEST:
        if isinstance(thing, Mapping):
            for key, value in thing.items():
                yield from leaves(value, f"{path}.{key}", depth + 1)
            return
        if isinstance(thing, (tuple, list)) and not is_numbers(thing):
            for place, value in enumerate(thing):
                yield from leaves(value, f"{path}[{place}]", depth + 1)
            return
        if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
            for field in dataclasses.fields(thing):
                yield from leaves(getattr(thing, field.name), f"{path}.{field.name}", depth + 1)
            return
    yield path, thing


def is_numbers(thing: Any) -> bool:
    """Whether it is a list of plain Python numbers, or of such lists (judged by their ends)."""
    for _ in range(4):
        if not isinstance(thing, (tuple, list)) or not thing:
            return False
        if isinstance(thing[0], _NUMBERS) and isinstance(thing[-1], _NUMBERS):
            return True
        thing = thing[0]
    return False


def is_tensor(thing: Any) -> bool:
    """A tensor of the target's torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(thing, torch.Tensor)


def is_array(thing: Any) -> bool:
    """An array of numpy."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(thing, numpy.ndarray)


def is_numpy_scalar(thing: Any) -> bool:
    """A single value of numpy, as an array's element is."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(thing, numpy.generic) and not thing.dtype.hasobject


def is_image(thing: Any) -> bool:
    """A picture of Pillow."""
    image = sys.modules.get("PIL.Image")
    return image is not None and isinstance(thing, image.Image)


def size_bytes(thing: Any) -> int:
    """Memory of the data itself."""
    total = 0
    for _, leaf in leaves(thing):
        if is_tensor(leaf):
            total += leaf.numel() * leaf.element_size()
        elif is_array(leaf):
            total += leaf.nbytes
        elif is_image(leaf):
            total += leaf.width * leaf.height * len(leaf.getbands())
        elif isinstance(leaf, (bytes, bytearray, str)):
            total += len(leaf)
        elif is_numbers(leaf):
            total += 8 * len(leaf) * (len(leaf[0]) if isinstance(leaf[0], (tuple, list)) else 1)
        else:
            total += 8
    return total


def digest(thing: Any) -> bytes | None:
    """Equal for equal contents; None where an object has no bytes that could be compared."""
    code = hashlib.blake2b(digest_size=16)
    for path, leaf in leaves(thing):
        raw = _raw(leaf)
        if raw is None:
            return None
        code.update(f"{path}:{type(leaf).__name__}:{len(raw)}:".encode())
        code.update(raw)
    return code.digest()


def _raw(leaf: Any) -> Any:
    """Its type and contents as bytes, None where it has none."""
    if is_tensor(leaf):
        if leaf.layout != sys.modules["torch"].strided:
            return None
        flat = leaf.detach().cpu().contiguous().reshape(-1)
        shape = f"{leaf.dtype}{tuple(leaf.shape)}".encode()
        return shape + flat.view(sys.modules["torch"].uint8).numpy().tobytes()
    if is_array(leaf):
        if leaf.dtype.hasobject:
            return None
        return f"{leaf.dtype}{leaf.shape}".encode() + leaf.tobytes()
    if is_image(leaf):
        return f"{leaf.mode}{leaf.size}".encode() + leaf.tobytes()
    if is_numpy_scalar(leaf):
        return f"{leaf.dtype}".encode() + leaf.tobytes()
    if isinstance(leaf, (str, bytes, int, float, bool, type(None))) or is_numbers(leaf):
        return pickle.dumps(leaf, protocol=4)
    return None
