"""The hooks on what every loop has: loaders, root modules, backward, optimizers.

Each wrapper appends an opening and a closing mark around the original and does nothing else on
the training thread. Under torch.compile's tracing all of them step aside (`recorder.compiling`), so
that they cause no graph break and no recompilation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import get_ident
from time import perf_counter_ns
from typing import Any

from . import guard
from . import marks as m
from .describe.flags import FlagWatch, read_flags
from .hooks_comm import CommunicationHooks
from .hooks_device import DeviceHooks, DeviceLosses
from .hooks_graph import GraphWatch
from .hooks_loader import LoaderHooks
from .hooks_modules import ModuleHooks
from .hooks_optimizer import OptimizerHooks, UpdateWatch
from .patching import Patches, hide_from_compiler, hide_methods_from_compiler, like
from .recorder import Recorder

EVERY_LOSS_UNTIL = 256
"""Updates from which on the loss is read where a thread state is: at every step that takes 10 ms, a
hundred times a second where steps are shorter (reading takes 2 us out of a step of 1 ms)."""
_BACKWARD, _BACKWARD_END = m.BACKWARD, m.BACKWARD_END


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
        first_batches: Description of the first batch of each loader, by number.
        padding: What the sampled batches of each loader show of their padding, by number.
        on_boundary: While `recorder.watched`: called wherever a step may begin, with the mark.
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
        self._started = False
        self.flags: dict[str, Any] = {}
        self.on_boundary: Callable[[int], None] | None = None
        self._errands: deque[Callable[[], None]] = deque()
        self.graphs = GraphWatch(recorder)
        self.communication = CommunicationHooks(torch, recorder)
        self.device_losses = DeviceLosses(torch)
        self._updates = UpdateWatch(recorder)
        self._modules = ModuleHooks(
            torch, recorder, self._new_root, self._before_forward, self._in_forward
        )
        self._loaders = LoaderHooks(
            torch,
            recorder,
            self._before_ask,
            self._modules.discover,
            check_limit,
            self.note_boundary,
        )
        self._optimizers = OptimizerHooks(
            torch, recorder, self.start, self._modules.consider, check_limit
        )
        self.modules = self._modules.modules
        self.loaders = self._loaders.loaders
        self.first_batches = self._loaders.first_batches
        self.padding = self._loaders.padding
        self.optimizers = self._optimizers.optimizers
        self.optimizer_sites = self._optimizers.sites
        self._flag_watch: FlagWatch | None = None
        self._device: DeviceHooks | None = None
        self._patches: Patches | None = None

    def install(self, patches: Patches) -> None:
        """Patches torch; `uninstall` and `patches.undo()` take everything back."""
        torch = self._torch
        self._patches = patches
        self._recorder.compiling = _compiling(torch)
        for ours in (Recorder, ModuleHooks, LoaderHooks, OptimizerHooks, UpdateWatch, type(self)):
            hide_methods_from_compiler(ours)
        hide_from_compiler(guard.attempt, with_callees=True)
        self._loaders.install(patches)
        self._modules.install()
        if hasattr(torch.autograd, "_engine_run_backward"):
            patches.replace(torch.autograd, "_engine_run_backward", self._engine)
        else:  # a private name: fall back to the public function
            patches.replace(torch.autograd, "backward", self._engine)
        self._optimizers.install(patches)
        guard.attempt("communication", self.communication.install, patches)
        self._flag_watch = guard.attempt("flags", FlagWatch.install, torch, patches)

    def uninstall(self) -> None:
        """Removes the module, optimizer and gradient hooks."""
        self._modules.uninstall()
        self._optimizers.uninstall()
        self.communication.uninstall()

    def after_fork(self) -> None:
        """A forked child starts as one that has not trained."""
        self._started = False

    def start(self) -> None:
        """This process trains; called before each mark on the thorough way."""
        if not self._started:
            self._started = True
            self._on_first()

    # Around the marks of loaders and modules, on the thorough way.

    def _before_ask(self) -> None:
        self._optimizers.stepping = False  # its end is lost where a step has raised
        if self._recorder.update_pending:
            guard.attempt("updates", self._updates.look)
        if not self._recorder.inferring:
            guard.attempt("modules", self._modules.consider)

    def _new_root(self, module: Any) -> None:
        self._updates.follow(module)
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
            guard.attempt("updates", self._updates.look)
        if self._recorder.watched:
            self.note_boundary(m.FORWARD)

    def note_boundary(self, kind: int) -> None:
        """A step may begin here, in the training thread: at an ask, a forward or a backward."""
        if self.on_boundary is not None:
            guard.attempt("trace window", self.on_boundary, kind)

    def _in_forward(self) -> None:
        """Where the loop's autocast is on (it belongs to the thread)."""
        guard.attempt("flags", self._read_flags)

    def ask_for_flags(self) -> None:
        """Has the flags read in a forward soon."""
        self._recorder.flags_due = True

    def ask(self, errand: Callable[[], None]) -> None:
        """Has the training thread call `errand` in its next forward."""
        self._errands.append(errand)
        self.ask_for_flags()

    @property
    def profiler_used(self) -> bool:
        """Whether the script has started a profiler of torch's."""
        return self._flag_watch is not None and self._flag_watch.profiler_where is not None

    def _read_flags(self) -> None:
        self._recorder.flags_due = False
        while self._errands:
            guard.attempt("errands", self._errands.popleft())
        self.flags = dict(read_flags(self._torch, self._flag_watch))

    # Backward.

    def _engine(self, original: Any) -> Any:
        recorder = self._recorder
        append, now, ident = recorder.append, perf_counter_ns, get_ident
        thorough = self._thorough_engine(original)

        def _engine_run_backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
            if ident() != recorder.quick:
                return thorough(outputs, *args, **kwargs)
            value = None
            if recorder.loss_due or recorder.updates < EVERY_LOSS_UNTIL:
                value = _free_value(outputs)
                if value is None:
                    self._offer(outputs)
            append((_BACKWARD, now(), 0, value))
            try:
                return original(outputs, *args, **kwargs)
            finally:
                if recorder.last_gradient_ns:
                    guard.attempt("communication", self.communication.backward_ended)
                append((_BACKWARD_END, now(), 0, 0))
                recorder.backwards += 1
                if not recorder.called:
                    guard.attempt("modules", self._modules.discover)
                recorder.called = False

        return like(original, _engine_run_backward)

    def _thorough_engine(self, original: Any) -> Any:
        recorder = self._recorder

        def thorough_backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
            if get_ident() != recorder.thread:
                if self._started or recorder.closed or recorder.compiling():
                    return original(outputs, *args, **kwargs)
                recorder.follow_thread()  # the training lives in another thread
            self.start()
            if recorder.watched:
                self.note_boundary(_BACKWARD)
            value = _free_value(outputs)
            recorder.mark(_BACKWARD, 0, value)
            self._look_at(outputs, value)
            try:
                return original(outputs, *args, **kwargs)
            finally:
                if recorder.last_gradient_ns:
                    guard.attempt("communication", self.communication.backward_ended)
                recorder.mark(_BACKWARD_END)
                recorder.backwards += 1
                if recorder.inferring and not self._optimizers.stepping:
                    self._updates.expect()
                if not recorder.called:
                    guard.attempt("modules", self._modules.discover)
                recorder.called = False

        hide_from_compiler(thorough_backward)
        return thorough_backward

    def _look_at(self, outputs: Any, value: float | None) -> None:
        """What is not done in every backward."""
        if self._recorder.detailed:
            guard.attempt("graphs", self.graphs.watch, outputs)
        if value is None:
            self._offer(outputs)
        if self._recorder.flags_due and not len(self.modules):
            guard.attempt("flags", self._read_flags)

    def _offer(self, outputs: Any) -> None:
        guard.attempt("losses", self.device_losses.offer, perf_counter_ns(), outputs)


def _compiling(torch: Any) -> Callable[[], bool]:
    compiler = getattr(torch, "compiler", None)
    check = getattr(compiler, "is_dynamo_compiling", None) or getattr(
        compiler, "is_compiling", None
    )
    return check if check is not None else _never


def _never() -> bool:
    return False


def _free_value(outputs: Any) -> float | None:
    """The loss, where reading it costs nothing: one element on the CPU."""
    try:
        tensor = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        if tensor.is_cpu and tensor.numel() == 1:
            return float(tensor.item())
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        pass
    return None
