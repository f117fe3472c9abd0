"""A pickler for a stranger's data set: polite to the training, and free of the user's code.

Tensors and arrays leave as raw memory beside the pickle. Functions that have no importable name
(lambdas, closures) leave as their code, which the same interpreter reads back.
"""

from __future__ import annotations

import io
import marshal
import mmap
import os
import pickle
import sys
import time
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any

from .location import is_user_file

MAIN = ("__main__", "__mp_main__")
CHECK_EVERY = 200
"""Objects between two offers of the interpreter's lock: some 30 us."""
CHUNK = 2_000
"""Elements of a list of plain values that are pickled in one go, which is a tenth of the work."""
_USERS_OWN = (
    "__getstate__",
    "__reduce__",
    "__reduce_ex__",
    "__getnewargs__",
    "__getnewargs_ex__",
    "__getattribute__",
)
_PLAIN = frozenset((int, float, bool, type(None), complex))
_PLAIN_ELEMENTS = _PLAIN | {str, bytes}


class NotCopied(Exception):
    """Why an object is not copied; the message follows "the data set was not looked at:"."""


class _Bounded(io.RawIOBase):
    """Collects what is written, up to a size."""

    def __init__(self, most_bytes: int) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self._most = most_bytes

    def write(self, data: Any) -> int:
        """Adds a piece.

        Raises:
            NotCopied: it would be too much.
        """
        self.size += len(data)
        if self.size > self._most:
            raise NotCopied(f"its pickle is larger than {self._most >> 20} MiB")
        self.pieces.append(bytes(data))
        return len(data)


class DatasetPickler:
    """Pickles the parts of one copy.

    Args:
        torch: The user's torch.
        buffers: Unbuffered binary file for raw memory.
        most_pickle_bytes, most_buffer_bytes: Limits over all parts.
        deadline_ns: Thread CPU time (`time.thread_time_ns`) at which it gives up.

    Attributes:
        main_objects: Functions and classes of the script itself that were met.
        known: id of an object that is another part, and the name of that part.
    """

    def __init__(
        self,
        torch: Any,
        buffers: Any,
        most_pickle_bytes: int,
        most_buffer_bytes: int,
        deadline_ns: int,
    ) -> None:
        self.torch = torch
        self.main_objects: dict[int, Any] = {}
        self.known: dict[int, str] = {}
        self.pickle_bytes = 0
        self.buffer_bytes = 0
        self._buffers = buffers
        self._most_pickle_bytes = most_pickle_bytes
        self._most_buffer_bytes = most_buffer_bytes
        self._deadline_ns = deadline_ns

    def pickled(self, part: Any) -> dict[str, Any]:
        """One part: its pickle, where its buffers lie, and whether it needs the script's names.

        Raises:
            NotCopied: it is too large, takes too long, or would run the user's code.
            Exception: whatever pickling raises.
        """
        out = _Bounded(self._most_pickle_bytes - self.pickle_bytes)
        places: list[tuple[int, int]] = []

        def keep(buffer: pickle.PickleBuffer) -> None:
            places.append(self.keep(buffer.raw()))

        met = len(self.main_objects)
        _Pickler(self, out, keep).dump(part)
        self.pickle_bytes += out.size
        return {
            "pickle": b"".join(out.pieces),
            "buffers": places,
            "needs_main": len(self.main_objects) > met,
        }

    def keep(self, memory: memoryview) -> tuple[int, int]:
        """Writes raw memory; gives its place and size."""
        self.allow(memory.nbytes)
        place, size = self.buffer_bytes, memory.nbytes
        written = 0
        while written < size:
            written += self._buffers.write(memory[written : written + (1 << 22)])
        self.buffer_bytes += size
        return place, size

    def allow(self, count: int) -> None:
        """Raises NotCopied where `count` bytes more are too much."""
        if self.buffer_bytes + count > self._most_buffer_bytes:
            raise NotCopied(f"it holds more than {self._most_buffer_bytes >> 20} MiB in memory")

    def breathe(self) -> None:
        """Lets the training thread have the interpreter, and gives up after too long."""
        time.sleep(0)
        if time.thread_time_ns() > self._deadline_ns:
            raise NotCopied("it has so many objects that copying them would disturb the training")


class _Pickler(pickle.Pickler):
    def __init__(self, owner: DatasetPickler, out: Any, keep: Any) -> None:
        super().__init__(out, protocol=5, buffer_callback=keep)
        self._owner = owner
        self._torch = owner.torch
        self._tensors = (owner.torch.Tensor, owner.torch.nn.Parameter)
        numpy = sys.modules.get("numpy")
        self._array = getattr(numpy, "ndarray", ())
        self._memmap = getattr(numpy, "memmap", ())
        self._countdown = CHECK_EVERY
        self._checked: set[type] = set()
        self._seen: dict[int, Any] = {}

    def persistent_id(self, thing: Any) -> Any:
        """What leaves the pickle: tensors, generators, memory-mapped arrays, known parts."""
        self._countdown -= 1
        if self._countdown <= 0:
            self._countdown = CHECK_EVERY
            self._owner.breathe()
        kind = type(thing)
        if kind in _PLAIN:
            return None
        if (kind is list or kind is tuple) and len(thing) >= 16:
            return self._of_sequence(thing)
        if kind is str or kind is bytes or kind is bytearray:
            if len(thing) > 1 << 20:
                self._owner.allow(len(thing))
            return None
        if kind in self._tensors:
            seen = self._seen.get(id(thing))
            if seen is None:
                seen = self._seen[id(thing)] = self._tensor(thing)
            return seen
        if kind is self._torch.Generator:
            state = thing.get_state().numpy().tobytes()
            return ("generator", str(thing.device), state)
        if isinstance(thing, self._array):
            return self._of_array(thing)
        name = self._owner.known.get(id(thing))
        return None if name is None else ("part", name)

    def _tensor(self, tensor: Any) -> Any:
        if tensor.device.type != "cpu":
            raise NotCopied(f"it holds tensors on {tensor.device}")
        if tensor.layout != self._torch.strided or tensor.is_quantized:
            raise NotCopied("it holds sparse or quantized tensors")
        size = tensor.numel() * tensor.element_size()
        self._owner.allow(size)
        dtype = str(tensor.dtype).removeprefix("torch.")
        place = 0
        if size:
            raw = tensor.detach().contiguous().reshape(-1).view(self._torch.uint8)
            place, _ = self._owner.keep(memoryview(raw.numpy()).cast("B"))
        return ("tensor", dtype, tuple(tensor.shape), place, size, bool(tensor.requires_grad))

    def _of_sequence(self, sequence: Any) -> Any:
        """A long list of plain values in chunks, without a call of ours for each element."""
        pieces = []
        for place in range(0, len(sequence), CHUNK):
            piece = sequence[place : place + CHUNK]
            if not _PLAIN_ELEMENTS.issuperset(map(type, piece)):
                return None
            pieces.append(pickle.dumps(piece, protocol=5))
            if len(piece) == CHUNK:
                self._owner.breathe()
        return ("sequence", type(sequence) is list, pieces)

    def _of_array(self, array: Any) -> Any:
        file = getattr(array, "filename", None)
        if isinstance(array, self._memmap) and isinstance(array.base, mmap.mmap) and file:
            order = "C" if array.flags.c_contiguous else "F"
            path = os.path.abspath(os.fspath(file))
            return ("memmap", path, array.dtype.str, array.offset, array.shape, order)
        self._owner.allow(array.nbytes)
        return None

    def reducer_override(self, thing: Any) -> Any:
        """Code of functions without a name; a refusal where the user's code would run."""
        kind = type(thing)
        if kind is FunctionType:
            return self._function(thing)
        if isinstance(thing, type):
            self._note_class(thing)
        elif kind not in self._checked:
            _refuse_users_code(kind)
            self._checked.add(kind)
        return NotImplemented

    def _function(self, function: FunctionType) -> Any:
        in_main = function.__module__ in MAIN
        if in_main:
            self._owner.main_objects[id(function)] = function
        if _found(function.__module__, function.__qualname__) is function:
            return NotImplemented
        cells = tuple(cell.cell_contents for cell in function.__closure__ or ())
        return rebuild_function, (
            marshal.dumps(function.__code__),
            function.__module__,
            function.__defaults__,
            function.__kwdefaults__,
            cells,
        )

    def _note_class(self, cls: type) -> None:
        if cls.__module__ in MAIN:
            if "<locals>" in cls.__qualname__:
                raise NotCopied(f"its class {cls.__name__} is defined inside a function")
            self._owner.main_objects[id(cls)] = cls


def rebuild_function(
    code: bytes,
    module: str,
    defaults: Any,
    keyword_defaults: Any,
    cells: tuple[Any, ...],
    names: dict[str, Any] | None = None,
) -> FunctionType:
    """The function again; `names` stand for the globals of its module."""
    from types import CellType

    if names is None:
        names = sys.modules[module].__dict__
    closure = tuple(CellType(content) for content in cells)
    function = FunctionType(marshal.loads(code), names, None, defaults, closure)
    function.__kwdefaults__ = keyword_defaults
    function.__module__ = module
    return function


def referenced_names(things: dict[int, Any], most: int) -> dict[str, Any]:
    """Globals of the script that the functions and classes among `things` may use, with values.

    Nothing is called: names are read from the compiled code, and include attributes that happen to
    be called like a global.
    """
    scope = vars(sys.modules["__main__"])
    found: dict[str, Any] = {}
    waiting = list(things.values())
    for thing in things.values():
        found[thing.__qualname__.partition(".")[0]] = thing
    while waiting and len(found) < most:
        for name in _names_of(waiting.pop()):
            if name in scope and name not in found and not name.startswith("__"):
                value = found[name] = scope[name]
                if isinstance(value, (type, FunctionType)) and value.__module__ in MAIN:
                    waiting.append(value)
    return {name: value for name, value in found.items() if scope.get(name) is value}


def _names_of(thing: Any) -> Iterator[str]:
    if isinstance(thing, type):
        for base in thing.__mro__:
            if base.__module__ in MAIN:
                yield base.__name__
                for member in vars(base).values():
                    yield from _names_of(_unwrapped(member))
    elif isinstance(thing, FunctionType):
        yield from _names_in((thing.__code__,))


def _unwrapped(member: Any) -> Any:
    if isinstance(member, (staticmethod, classmethod)):
        return member.__func__
    return member.fget if isinstance(member, property) else member


def _names_in(codes: Iterable[Any]) -> Iterator[str]:
    for code in codes:
        if isinstance(code, CodeType):
            yield from code.co_names
            yield from _names_in(code.co_consts)


def _found(module: str | None, qualified_name: str) -> Any:
    """What the name leads to, None where it leads nowhere."""
    thing: Any = sys.modules.get(module or "")
    for part in qualified_name.split("."):
        thing = vars(thing).get(part) if hasattr(thing, "__dict__") else None
    return thing


def _refuse_users_code(kind: type) -> None:
    """Raises NotCopied where pickling an object of this type would run a method of the user's."""
    names = _USERS_OWN if sys.version_info >= (3, 11) else (*_USERS_OWN, "__getattr__")
    for base in kind.__mro__:
        for name in names:
            code = getattr(vars(base).get(name), "__code__", None)
            if isinstance(code, CodeType) and is_user_file(code.co_filename):
                raise NotCopied(
                    f"its {kind.__name__} has a {name} of its own, which is not run in a training"
                )
