"""model-compile."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.compiled import has_compiled
from ...profiler.agent.patching import hide_from_compiler
from .fix import Fix, Process, ReadBack
from .root_calls import RootCalls
from .source_edit import Compiled, SourceEdit

MOST_PIECES = 6
"""Of one forward: each graph break ends one, and a forward in more pieces gains little."""
MOST_AGAIN = 3
"""Compilations after the first steps; more of them do not end, as the shapes go on changing."""
FIRST_UPDATES = 3
"""Until then compilations are expected."""
MOST_ROOTS = 4
"""Modules that are compiled; each takes its time."""
ATTEMPT = "compilation for model-compile"
"""By this name its failure is written down; the fix itself goes on, and says so."""
WRAPPERS = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel")
"""What cuts a forward or a backward into pieces of its own."""


class ModelCompile(Fix):
    """`module.compile()` on root modules, when they are first called in training.

    It is in place: names in state dicts stay, copies and pickles are plain. Random numbers are
    drawn as without it, so that only rounding differs. A forward in evaluation mode, or without
    gradients, runs as before and is not compiled.

    Compiling takes seconds to minutes, once in each process; a tune counts that against the steps
    that the training does. What cannot be compiled runs as before. All of it is taken back where a
    forward falls into more than six pieces, or where it is compiled again and again as the shapes
    of its inputs change.

    It is refused where the script compiles itself, without a compiler (C++ on the CPU, Triton on
    GPUs), for TorchScript, and for wrappers such as DistributedDataParallel.
    """

    id = "model-compile"
    title = "Compiled model"
    safety = "numerics"
    parameters: Mapping[str, type] = {}
    pays_off_later = True

    def install(self, process: Process) -> None:
        """Wraps the calls of root modules; nothing of the compiler is imported yet."""
        self._torch = process.torch
        self._inductor: Any = None
        self._compiled: weakref.WeakSet[Any] = weakref.WeakSet()
        self._plain: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._refused: str | None = None
        self._skipped: str | None = None
        self._calls = self._pieces = self._graphs = self._late = self._updates = 0
        self._breaks = 0
        self._compile_s = 0.0
        RootCalls(process, self._around)
        process.after_update(self._count)
        process.at_end(self._release)

    def _count(self) -> None:
        self._updates += 1

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._refused is not None:
            return call(*args, **kwargs)
        if not module.training or not self._torch.is_grad_enabled():
            plain = module._call_impl if module in self._compiled else call
            return plain(*args, **kwargs)
        if module not in self._compiled and not self._compile(module):
            return call(*args, **kwargs)
        before = self._graphs
        if self._updates <= FIRST_UPDATES:
            result = self._carefully(call, args, kwargs)
        else:
            result = call(*args, **kwargs)
        self._calls += 1
        if self._graphs != before:
            self._look(self._graphs - before)
        return result

    def _carefully(self, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """What the compiler cannot take runs as it is, also where it does not expect that."""
        with sys.modules["torch._dynamo.config"].patch(suppress_errors=True):
            return call(*args, **kwargs)

    def _compile(self, module: Any) -> bool:
        if module in self._plain:
            return False
        reason = self._why_not(module)
        if reason is None and guard.attempt(ATTEMPT, self._set, module) is None:
            reason = "torch.compile failed"
        if reason is not None:
            self._plain[module] = self._skipped = reason
            return False
        self._compiled.add(module)
        return True

    def _set(self, module: Any) -> bool:
        if self._inductor is None:
            import_module = importlib.import_module
            import_module("torch._dynamo")
            self._inductor = import_module("torch._inductor.compile_fx").compile_fx
            self._lowering = import_module("torch._functorch.config")
        module.compile(backend=self._backend)
        return True

    def _why_not(self, module: Any) -> str | None:
        torch = self._torch
        if not self._compiled and has_compiled():
            return self._refuse("the script uses torch.compile itself")
        parts = list(module.modules())
        if any(getattr(part, "_compiled_call_impl", None) is not None for part in parts):
            return self._refuse("the script compiles its modules itself")
        if any(type(part).__name__ == "OptimizedModule" for part in parts):
            return self._refuse("the script uses torch.compile itself")
        if any(isinstance(part, torch.jit.ScriptModule) for part in parts):
            return "the module is a TorchScript program"
        if any(type(part).__name__ in WRAPPERS for part in parts):
            return f"{type(module).__name__} cuts the model into pieces itself"
        if not any(one.requires_grad for one in module.parameters()):
            return "nothing in the module is trained"
        if len(self._compiled) >= MOST_ROOTS:
            return f"the script calls more than {MOST_ROOTS} modules"
        return _no_compiler({one.device.type for one in module.parameters()})

    def _backend(self, graph: Any, inputs: Any, **_: Any) -> Any:
        """Inductor, whose failure leaves this graph as it is. Its backward is compiled as well."""
        started_s = time.perf_counter()
        with self._lowering.patch(force_non_lazy_backward_lowering=True):
            compiled = guard.attempt(
                ATTEMPT,
                self._inductor,
                graph,
                inputs,
                config_patches={"fallback_random": True},
            )
        self._compile_s += time.perf_counter() - started_s
        self._graphs += 1
        if compiled is None:
            self._refuse(guard.error_of(ATTEMPT) or "a graph could not be compiled")
            return graph.forward
        return compiled

    def _look(self, graphs: int) -> None:
        """After a call that compiled something."""
        if self._calls == 1:
            self._pieces = graphs
        if graphs > MOST_PIECES:
            self._refuse(f"the forward falls into {graphs} pieces")
        if self._updates > FIRST_UPDATES:
            self._late += 1
        if self._late > MOST_AGAIN:
            self._refuse("it is compiled again and again, as the shapes of its inputs change")

    def _refuse(self, reason: str) -> str:
        self._refused = self._refused or reason
        self._release()
        return reason

    def _release(self) -> None:
        """The modules are as they were."""
        for module in self._compiled:
            module._compiled_call_impl = None

    def read_back(self) -> ReadBack:
        """Forwards that ran compiled, and what that took."""
        seen = {
            "forwards": self._calls,
            "graphs": self._graphs,
            "again": self._late,
            "compile_s": round(self._compile_s, 2),
        }
        if self._refused is not None:
            return ReadBack(False, seen, self._refused)
        if not self._calls:
            told = self._skipped is not None
            return ReadBack(
                False if told else None, seen, self._skipped or "no module was called in training"
            )
        if not self._graphs:
            return ReadBack(False, seen, "nothing in the forward could be compiled")
        return ReadBack(True, seen)

    def edit(self) -> SourceEdit:
        """`model.compile()` before the loop."""
        return Compiled()


def _no_compiler(devices: set[str]) -> str | None:
    if "cpu" in devices:
        names = [os.environ.get("CXX"), "g++", "clang++"]
        if not any(name and shutil.which(name) for name in names):
            return "there is no C++ compiler, which torch.compile needs on the CPU"
    if devices - {"cpu"} and importlib.util.find_spec("triton") is None:
        return "Triton is not installed, which torch.compile needs on GPUs"
    return None


for _method in (ModelCompile._around, ModelCompile._carefully):
    hide_from_compiler(_method)
