"""The hooks on what every loop has: loaders, root modules, backward, optimizers.

Each wrapper appends an opening and a closing mark around the original and does nothing else on
the training thread. Under torch.compile's tracing all of them step aside (`recorder.compiling`), so
that they cause no graph break and no recompilation.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from threading import get_ident
from time import perf_counter_ns
from typing import Any

from . import guard
from . import marks as m
from .describe.batch import batch_samples, describe_batch
from .describe.flags import FlagWatch, read_flags
from .describe.loader import describe_loader
from .hooks_comm import CommunicationHooks
from .hooks_device import DeviceHooks, DeviceLosses
from .hooks_graph import GraphWatch
from .hooks_modules import ModuleHooks
from .location import caller_location
from .patching import Patches, hide_from_compiler, hide_methods_from_compiler, like
from .recorder import Recorder
from .registry import LoaderRegistry, Registry, construction_site

CONSIDER_EVERY = 8
"""Updates between two looks at whether the root modules are known."""


class TrainingHooks:
    """Installs the hooks and holds what they know.

    Args:
        torch: The user's torch.
        recorder: Takes the marks.
        on_first: Called once, at the first backward or optimizer step.
        check_limit: With --steps: called after each mark that may end a step; raises to stop.

    Attributes:
        modules, optimizers, loaders: The numbers in the marks.
        optimizer_sites: Where each optimizer was made, by number.
    """

    def __init__(
        self,
        torch: Any,
        recorder: Recorder,
        on_first: Callable[[], None],
        check_limit: Callable[[], None] | None,
    ) -> None:
        self._torch = torch
        self._recorder = recorder
        self._on_first = on_first
        self._check_limit = check_limit
        self.flags: dict[str, Any] = {}
        self.graphs = GraphWatch(recorder)
        self.communication = CommunicationHooks(torch, recorder)
        self.device_losses = DeviceLosses(torch)
        self._modules = ModuleHooks(
            torch, recorder, self._new_root, self._before_forward, self._in_forward
        )
        self.modules = self._modules.modules
        self.optimizers: Registry[Any] = Registry()
        self.loaders = LoaderRegistry()
        self.optimizer_sites: dict[int, Any] = {}
        self.first_batches: dict[int, Any] = {}
        self._started = False
        self._optimizing = False  # an optimizer step is under way
        self._watched: Any = None  # weak reference to one trainable parameter
        self._watched_version = -1
        self._handles: list[Any] = []
        self._flag_watch: FlagWatch | None = None
        self._device: DeviceHooks | None = None
        self._patches: Patches | None = None

    def install(self, patches: Patches) -> None:
        """Patches torch; `uninstall` and `patches.undo()` take everything back."""
        torch = self._torch
        recorder = self._recorder
        self._patches = patches
        recorder.compiling = _compiling(torch)
        for ours in (Recorder, ModuleHooks, TrainingHooks):
            hide_methods_from_compiler(ours)
        hide_from_compiler(guard.attempt, with_callees=True)
        loader = torch.utils.data.DataLoader
        iterator = torch.utils.data.dataloader._BaseDataLoaderIter
        patches.replace(loader, "__init__", self._loader_init)
        patches.replace(loader, "__iter__", self._loader_iter)
        patches.replace(iterator, "__next__", self._next)
        self._modules.install()
        if hasattr(torch.autograd, "_engine_run_backward"):
            patches.replace(torch.autograd, "_engine_run_backward", self._engine)
        else:  # a private name: fall back to the public function
            patches.replace(torch.autograd, "backward", self._engine)
        optimizer = torch.optim.Optimizer
        patches.replace(optimizer, "__init__", self._optimizer_init)
        patches.replace(optimizer, "zero_grad", self._zero_grad)
        register = sys.modules["torch.optim.optimizer"]  # torch.optim deletes the name
        self._handles = [
            register.register_optimizer_step_pre_hook(self._before_step),
            register.register_optimizer_step_post_hook(self._after_step),
        ]
        guard.attempt("communication", self.communication.install, patches)
        self._flag_watch = guard.attempt("flags", FlagWatch.install, torch, patches)
        scaler = getattr(torch.amp, "GradScaler", None)
        if scaler is not None:
            patches.replace(scaler, "step", self._scaler_step)

    def uninstall(self) -> None:
        """Removes the module, optimizer and gradient hooks."""
        self._modules.uninstall()
        self.communication.uninstall()
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def after_fork(self) -> None:
        """A forked child starts as one that has not trained."""
        self._started = False
        self._modules.after_fork()
        self._recorder.update_pending = False
        self._recorder.flags_due = False

    # Loaders.

    def _loader_init(self, original: Any) -> Any:
        def __init__(loader: Any, *args: Any, **kwargs: Any) -> None:
            original(loader, *args, **kwargs)
            site = guard.attempt("location", construction_site)
            object.__setattr__(loader, "_trainprof_site", site)

        return like(original, __init__)

    def _loader_iter(self, original: Any) -> Any:
        recorder = self._recorder
        number_of = self.loaders.number

        def __iter__(loader: Any) -> Any:
            if not recorder.active():
                return original(loader)
            site = getattr(loader, "_trainprof_site", None)
            number = guard.attempt("loaders", number_of, loader, site)
            guard.attempt("loader facts", self._describe_loader, number, loader)
            guard.attempt("modules", self._modules.discover)
            if number is None:
                return original(loader)
            recorder.mark(m.ITERATOR, number)
            try:
                iterator = original(loader)
            finally:
                recorder.mark(m.ITERATOR_END, number)
            guard.attempt("loaders", setattr, iterator, "_trainprof_loader", number)
            return iterator

        return like(original, __iter__)

    def _next(self, original: Any) -> Any:
        recorder = self._recorder
        append, now, ident = recorder.append, perf_counter_ns, get_ident
        check_limit = self._check_limit
        first_batches = self.first_batches

        def __next__(iterator: Any) -> Any:
            if ident() != recorder.thread:
                return original(iterator)
            number = getattr(iterator, "_trainprof_loader", -1)
            self._optimizing = False  # its end is lost where a step has raised
            if self._recorder.update_pending:
                guard.attempt("updates", self._look_for_update)
            recorder.boundary(
                m.ASK, number, _ready_batches(iterator) if recorder.detailed else None
            )
            if check_limit is not None:
                check_limit()
            try:
                batch = original(iterator)
            except BaseException:
                recorder.mark(m.END, number)
                raise
            if recorder.detailed:
                recorder.mark(m.GOT, number, batch_samples(batch))
            else:
                append((m.GOT, now(), number, batch_samples(batch)))
            if number not in first_batches:
                first_batches[number] = guard.attempt("batches", self._describe_batch, batch)
            return batch

        return like(original, __next__)

    def _describe_loader(self, number: int, loader: Any) -> None:
        """At once, as a loader built inline in the loop is gone when the loop is."""
        entry = self.loaders.entries[number]
        if entry.described != entry.made:
            entry.described = entry.made
            entry.fact = describe_loader(self._torch, loader)

    def _describe_batch(self, batch: Any) -> Any:
        return describe_batch(self._torch, batch)

    # Modules.

    def _new_root(self, module: Any) -> None:
        self._watch(module)
        self.communication.follow(module)
        on_device = next(module.parameters()).device.type not in ("cpu", "meta")
        if on_device and self._device is None and self._patches is not None:
            # Only now: asking torch whether there is a device could initialise it too early.
            self._device = DeviceHooks(self._torch, self._recorder)
            self._device.install(self._patches)

    def _before_forward(self) -> None:
        if not self._started:
            self._recorder.forget_old()
        if self._recorder.update_pending:
            guard.attempt("updates", self._look_for_update)

    def _in_forward(self) -> None:
        """Where the loop's autocast is on (it belongs to the thread)."""
        guard.attempt("flags", self._read_flags)

    def ask_for_flags(self) -> None:
        """Has the flags read in the next forward."""
        self._recorder.flags_due = True

    def _read_flags(self) -> None:
        self._recorder.flags_due = False
        self.flags = dict(read_flags(self._torch, self._flag_watch))

    # Updates without an optimizer.

    def _watch(self, module: Any) -> None:
        if self._watched is not None and self._watched() is not None:
            return
        for parameter in module.parameters():
            if parameter.requires_grad:
                self._watched = weakref.ref(parameter)
                self._watched_version = parameter._version
                return

    def _look_for_update(self) -> None:
        parameter = self._watched() if self._watched is not None else None
        if parameter is not None and parameter._version != self._watched_version:
            self._recorder.update_pending = False
            self._recorder.mark(m.UPDATE)

    # Backward.

    def _engine(self, original: Any) -> Any:
        recorder = self._recorder
        append, now, ident = recorder.append, perf_counter_ns, get_ident
        communication = self.communication
        modules = self._modules

        def _engine_run_backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
            if ident() != recorder.thread:
                if self._started or recorder.closed or recorder.compiling():
                    return original(outputs, *args, **kwargs)
                recorder.follow_thread()  # the training lives in another thread
            if not self._started:
                self.start()
            value = _free_value(outputs)
            if value is None or recorder.detailed or recorder.flags_due:
                recorder.mark(m.BACKWARD, 0, value)
                self._look_at(outputs, value)
            else:
                append((m.BACKWARD, now(), 0, value))
            try:
                return original(outputs, *args, **kwargs)
            finally:
                if communication.last_gradient_ns:
                    guard.attempt("communication", communication.backward_ended)
                if recorder.detailed:
                    recorder.mark(m.BACKWARD_END)
                else:
                    append((m.BACKWARD_END, now(), 0, 0))
                if not self._optimizing:
                    self._backward_ended()
                if not modules.calls:
                    guard.attempt("modules", modules.discover)
                modules.calls = 0

        return like(original, _engine_run_backward)

    def _look_at(self, outputs: Any, value: float | None) -> None:
        """What is not done in every backward."""
        if self._recorder.detailed:
            guard.attempt("graphs", self.graphs.watch, outputs)
        if value is None:
            guard.attempt("losses", self.device_losses.offer, perf_counter_ns(), outputs)
        if self._recorder.flags_due and not len(self.modules):
            guard.attempt("flags", self._read_flags)

    def _backward_ended(self) -> None:
        """From here on a change of a parameter is an update (in a closure the step's end is)."""
        self._recorder.update_pending = True
        parameter = self._watched() if self._watched is not None else None
        if parameter is not None:
            self._watched_version = parameter._version

    def start(self) -> None:
        """This process trains."""
        self._started = True
        self._on_first()

    # Optimizers.

    def _optimizer_init(self, original: Any) -> Any:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            guard.attempt("optimizers", self._note_optimizer, optimizer)

        return like(original, __init__)

    def _note_optimizer(self, optimizer: Any) -> None:
        self.optimizer_sites[self.optimizers.number(optimizer)] = caller_location()

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        recorder = self._recorder
        if get_ident() != recorder.thread or recorder.compiling():
            return
        if not self._started:
            self.start()
        self._optimizing = True
        recorder.mark(m.OPTIMIZER, self.optimizers.number(optimizer))
        if self._check_limit is not None:
            self._check_limit()

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        recorder = self._recorder
        if get_ident() != recorder.thread or recorder.compiling():
            return
        recorder.update_pending = self._optimizing = False
        recorder.updated(m.OPTIMIZER_END, self.optimizers.number(optimizer))
        if recorder.updates % CONSIDER_EVERY == 0:
            guard.attempt("modules", self._modules.consider)

    def _zero_grad(self, original: Any) -> Any:
        recorder = self._recorder
        append, now, ident = recorder.append, perf_counter_ns, get_ident

        def zero_grad(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            if ident() != recorder.thread or recorder.compiling():
                return original(optimizer, *args, **kwargs)
            if recorder.detailed:
                recorder.mark(m.ZERO_GRAD)
            else:
                append((m.ZERO_GRAD, now(), 0, 0))
            try:
                return original(optimizer, *args, **kwargs)
            finally:
                if recorder.detailed:
                    recorder.mark(m.ZERO_GRAD_END)
                else:
                    append((m.ZERO_GRAD_END, now(), 0, 0))

        return like(original, zero_grad)

    def _scaler_step(self, original: Any) -> Any:
        recorder = self._recorder

        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            """Its own work is the optimizer's; the step counts only if the optimizer's runs."""
            if not recorder.active():
                return original(scaler, optimizer, *args, **kwargs)
            recorder.mark(m.SCALER)
            try:
                return original(scaler, optimizer, *args, **kwargs)
            finally:
                recorder.mark(m.SCALER_END)

        return like(original, step)


def _compiling(torch: Any) -> Callable[[], bool]:
    compiler = getattr(torch, "compiler", None)
    check = getattr(compiler, "is_dynamo_compiling", None) or getattr(
        compiler, "is_compiling", None
    )
    return check if check is not None else _never


def _never() -> bool:
    return False


def _ready_batches(iterator: Any) -> int | None:
    """Batches that wait for the loop: in the workers' queue, or taken out of order before."""
    queue = getattr(iterator, "_data_queue", None)
    if queue is None:
        return None
    try:
        waiting = int(queue.qsize())
    except NotImplementedError:  # macOS has no sem_getvalue
        return None
    early = sum(1 for entry in iterator._task_info.values() if len(entry) == 2)
    return waiting + early


def _free_value(outputs: Any) -> float | None:
    """The loss, where reading it costs nothing: one element on the CPU."""
    try:
        tensor = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        if tensor.is_cpu and tensor.numel() == 1:
            return float(tensor.item())
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        pass
    return None
