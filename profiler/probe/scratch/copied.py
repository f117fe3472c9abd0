"""Reads the copy of a data set back, without running the script that made it."""

from __future__ import annotations

import io
import mmap
import os
import pickle
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from ...agent.dataset_pickler import MAIN, rebuild_function
from .definitions import define


class NotTheScript:
    """On sys.meta_path: importing the training script as a module would train, and is refused."""

    def __init__(self, script: str) -> None:
        self._script = os.path.realpath(script)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """None for every other module, which leaves it to the finders behind."""
        spec = PathFinder.find_spec(name, path)
        origin = spec.origin if spec is not None else None
        if origin is not None and os.path.realpath(origin) == self._script:
            raise ImportError("the training script is not imported, as that would run it")
        return None


class Copied:
    """The parts of a copy.

    Args:
        path: As the agent wrote it, without suffix.

    Attributes:
        header: What else it wrote.
        torch: The target's torch, once `prepare` has imported it.
    """

    def __init__(self, path: str) -> None:
        with open(f"{path}.pickle", "rb") as file:
            self.header = pickle.load(file)
        self.torch: Any = sys.modules.get("torch")
        self._memory = _memory(f"{path}.buffers")
        self._parts: dict[str, Any] = {}
        self._script_module: ModuleType | None = None

    def prepare(self) -> Copied:
        """Makes this process like the training's: its modules are found, but it cannot train."""
        script = self.header["script"]
        sys.path[:] = self.header["sys_path"]
        sys.argv = [script or ""]
        if script:
            sys.meta_path.insert(0, NotTheScript(script))
        self.torch = import_module("torch")
        self.torch.set_num_threads(self.header["num_threads"])
        _forbid_training(self.torch)
        return self

    def part(self, name: str) -> Any:
        """A part by name.

        Raises:
            ValueError: it was not copied; the message is the reason.
            Exception: whatever unpickling raises.
        """
        if name not in self._parts:
            part = self.header["parts"][name]
            if isinstance(part, str):
                raise ValueError(part)
            self._parts[name] = self._load(part)
        return self._parts[name]

    def script_module(self) -> ModuleType:
        """Stands for the script: its definitions, and values of its globals from the training."""
        if self._script_module is None:
            module = self._script_module = ModuleType("__main__")
            module.__package__ = self.header["package"]
            module.__file__ = self.header["script"]
            values = self.header["values"]
            plain = {
                name: self._load(part)
                for name, part in values.items()
                if isinstance(part, dict) and not part["needs_main"]
            }
            vars(module).update(plain)
            define(module, self.header["script"], self.header["names"], set(plain))
            for name, part in values.items():
                if isinstance(part, dict) and part["needs_main"]:
                    vars(module)[name] = self._load(part)
            for name in MAIN:
                sys.modules[name] = module
        return self._script_module

    def _load(self, part: dict[str, Any]) -> Any:
        buffers = [self._memory[place : place + size] for place, size in part["buffers"]]
        return _Unpickler(self, io.BytesIO(part["pickle"]), buffers, self._memory).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, copied: Copied, file: Any, buffers: Any, memory: memoryview) -> None:
        super().__init__(file, buffers=buffers)
        self._copied = copied
        self._memory = memory

    def find_class(self, module: str, name: str) -> Any:
        if name == "rebuild_function" and module.endswith("agent.dataset_pickler"):
            return self._function
        if module in MAIN:
            thing: Any = self._copied.script_module()
            for part in name.split("."):
                thing = getattr(thing, part)
            return thing
        return super().find_class(module, name)

    def _function(self, code: bytes, module: str, first: Any, second: Any, cells: Any) -> Any:
        if module in MAIN:
            names = vars(self._copied.script_module())
        else:
            names = vars(import_module(module))
        return rebuild_function(code, module, first, second, cells, names)

    def persistent_load(self, identity: Any) -> Any:
        kind, *rest = identity
        torch = self._copied.torch
        if kind == "part":
            return self._copied.part(rest[0])
        if kind == "tensor":
            dtype, shape, place, size, requires_grad = rest
            if not size:
                return torch.empty(shape, dtype=getattr(torch, dtype))
            raw = torch.frombuffer(self._memory[place : place + size], dtype=torch.uint8)
            # A copy, as a type of several bytes needs an aligned place.
            tensor = raw.clone().view(getattr(torch, dtype)).reshape(shape)
            return tensor.requires_grad_(requires_grad)
        if kind == "sequence":
            pieces = [element for piece in rest[1] for element in pickle.loads(piece)]
            return pieces if rest[0] else tuple(pieces)
        if kind == "generator":
            generator = torch.Generator(rest[0])
            generator.set_state(torch.frombuffer(bytearray(rest[1]), dtype=torch.uint8))
            return generator
        if kind == "memmap":
            numpy = import_module("numpy")
            file, dtype, offset, shape, order = rest
            return numpy.memmap(file, dtype, "r", offset, shape, order)
        raise pickle.UnpicklingError(f"an unknown object {kind}")


def _memory(path: str) -> memoryview:
    """The buffers' file, mapped: pages are read when touched, and written to in memory only."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(bytearray())
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def _forbid_training(torch: Any) -> None:
    """An import that would train ends in an error instead."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("the probe does not train")

    torch.Tensor.backward = refuse
    torch.autograd.backward = refuse
