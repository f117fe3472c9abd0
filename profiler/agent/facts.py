"""Describes what the training is made of, on the agent's thread, after its first step."""

from __future__ import annotations

import time
from typing import Any

from ..model.records import Fact
from ..store.writer import ProcessWriter
from . import guard
from .backward_watch import BackwardWatch
from .dead_units import DeadUnits
from .denormals import Denormals
from .describe.distributed import describe_distributed
from .describe.loader import sampler_epoch
from .describe.memory import read_peak_memory
from .describe.model import describe_model
from .describe.numa import read_numa
from .describe.optimizer import describe_optimizer
from .frozen_features import FrozenFeatures
from .hooks_training import TrainingHooks
from .kept_gradients import KeptGradients
from .pace import Pace
from .recorder import Recorder
from .registry import LoaderEntry
from .segment import Segmenter
from .start_weights import StartWeights
from .untrained import UntrainedParameters

FLAGS_EVERY_S = 10
MOST_MODELS = 16
DISTRIBUTED_AT = (2, 5, 10, 30)
"""Seconds at which the process group is described again; then once a minute."""


class FactCollector:
    """Writes facts as they become known; the writer drops those that have not changed.

    Args:
        torch: The user's torch.
        hooks: Knows the loaders, root modules and optimizers by number.
        recorder: Tells which thread trains.

    Attributes:
        complete: Whether facts were written once; until then no second is waited for.
    """

    def __init__(self, torch: Any, hooks: TrainingHooks, recorder: Recorder) -> None:
        self._torch = torch
        self._hooks = hooks
        self._recorder = recorder
        self._pace = Pace()
        self._loader_pace = Pace()
        self._parts_written: set[str] = set()
        self._distributed: dict[str, Any] = {}
        self._sampler_epochs: dict[int, int] = {}
        self._backwards = BackwardWatch(torch, recorder)
        self._untrained = UntrainedParameters(torch, recorder, self._backwards)
        self.complete = False
        self._frozen = FrozenFeatures(torch, recorder, self._backwards, self._epochs)
        self._kept_gradients = KeptGradients(torch, recorder, self._backwards)
        self._start = StartWeights(torch)
        self._units = DeadUnits(torch, recorder, self._backwards)
        self._denormals = Denormals(torch, recorder, self._backwards)
        self._training_loaders: tuple[int, ...] = ()
        self._described_models: set[int] = set()
        self._flags_written = 0
        self._optimizer_fingerprints: dict[int, Any] = {}

    def after_fork(self) -> None:
        """The child writes its own facts."""
        self.complete = False
        self._described_models.clear()
        self._optimizer_fingerprints.clear()
        self._distributed = {}
        self._sampler_epochs.clear()
        self._parts_written.clear()
        self._pace = Pace()
        self._loader_pace = Pace()
        self._backwards.stop()
        self._untrained.after_fork()
        self._frozen.after_fork()
        self._kept_gradients.after_fork()
        self._start.facts.clear()
        self._units.after_fork()
        self._denormals.after_fork()
        self._flags_written = 0

    def uninstall(self) -> None:
        """Leaves torch as it was."""
        self._backwards.stop()
        self._frozen.stop()
        self._kept_gradients.stop()
        self._units.stop()

    def before_training(self) -> None:
        """In the training thread, before the first update."""
        modules = self._hooks.modules
        things = ((n, modules.thing(n)) for n in range(min(len(modules), MOST_MODELS)))
        self._start.look((n, thing) for n, thing in things if thing is not None)

    def tick(self) -> None:
        """A few times a second."""
        guard.attempt("dead units", self._units.tick)

    def write(self, writer: ProcessWriter, segmenter: Segmenter, seconds: int) -> None:
        """Once a second: whatever is new."""
        if segmenter.count == 0:
            return
        self.complete = True
        self._write_models(writer, segmenter)
        self._write_distributed(writer, seconds)
        self._write_optimizers(writer)
        self._write_training_parts(writer, segmenter)
        self._write_units(writer, segmenter)
        self._write_loaders(writer, segmenter)
        self._write_flags(writer, seconds)
        self._hooks.modules.release()
        self._hooks.optimizers.release()
        self._fact(writer, "memory", "peak", dict(read_peak_memory(self._torch)))

    def _fact(self, writer: ProcessWriter, kind: str, key: str, data: dict[str, Any]) -> None:
        writer.fact(Fact(kind, key, time.perf_counter_ns(), data))

    def _write_models(self, writer: ProcessWriter, segmenter: Segmenter) -> None:
        modules = self._hooks.modules
        for number in range(min(len(modules), MOST_MODELS)):
            module = modules.thing(number)
            if module is None or number in self._described_models:
                continue
            self._described_models.add(number)
            fact = guard.attempt("model facts", describe_model, self._torch, module)
            if fact is None:
                continue
            trained = number in segmenter.trained_modules
            self._fact(writer, "model", f"m{number}", {**fact, "trained": trained})
            if number in self._start.facts:
                self._fact(writer, "start", f"m{number}", dict(self._start.facts[number]))
            inner = getattr(module, "module", None)  # DDP and its like: validation calls the inside
            if trained and inner is not None and hasattr(inner, "parameters"):
                segmenter.trained_modules.add(modules.number(inner))

    def _write_distributed(self, writer: ProcessWriter, seconds: int) -> None:
        """At first, now and then, and at the end: what DDP says of itself changes all the time."""
        communication = self._hooks.communication
        due = not self._distributed or seconds in DISTRIBUTED_AT or seconds % 60 == 0
        if due:
            parallel = communication.parallel
            read = guard.attempt("distributed facts", describe_distributed, self._torch, parallel)
            self._distributed = dict(read) if read is not None else self._distributed
        if self._distributed and (due or self._recorder.closed):
            counts = {
                "backwards": communication.backwards,
                "synced_backwards": communication.synced,
            }
            self._fact(writer, "distributed", "group", {**self._distributed, **counts})

    def _write_optimizers(self, writer: ProcessWriter) -> None:
        optimizers = self._hooks.optimizers
        for number in range(len(optimizers)):
            optimizer = optimizers.thing(number)
            if optimizer is None or not self._optimizer_changed(number, optimizer):
                continue
            fact = guard.attempt("optimizer facts", self._describe_optimizer, optimizer)
            if fact is not None:
                where = self._hooks.optimizer_sites.get(number)
                located = {**fact, "where": where} if where else dict(fact)
                self._fact(writer, "optimizer", f"o{number}", located)

    def _optimizer_changed(self, number: int, optimizer: Any) -> bool:
        """Whether it is new, holds its first state, or its groups are others than before."""
        fingerprint = (
            len(optimizer.state) > 0,
            [
                (group.get("fused"), group.get("foreach"), len(group["params"]))
                for group in optimizer.param_groups
            ],
        )
        if self._optimizer_fingerprints.get(number) == fingerprint:
            return False
        self._optimizer_fingerprints[number] = fingerprint
        return True

    def _describe_optimizer(self, optimizer: Any) -> dict[str, Any]:
        modules = self._hooks.modules
        trainable = {
            id(parameter): parameter
            for number in self._described_models
            if (module := modules.thing(number)) is not None
            for parameter in module.parameters()
            if parameter.requires_grad
        }
        sparse = [
            part.weight
            for number in self._described_models
            if (module := modules.thing(number)) is not None
            for part in module.modules()
            if getattr(part, "sparse", False) is True and hasattr(part, "weight")
        ]
        return dict(describe_optimizer(self._torch, optimizer, trainable.values(), sparse))

    def _write_training_parts(self, writer: ProcessWriter, segmenter: Segmenter) -> None:
        """What is trained, what is frozen: walks through all parameters, so not too often."""
        if not self._pace.due() and not self._recorder.closed:
            return
        with self._pace:
            modules, optimizers = self._hooks.modules, self._hooks.optimizers
            numbers = sorted(segmenter.trained_modules & self._described_models)
            models = [module for n in numbers if (module := modules.thing(n)) is not None]
            seen = [o for n in range(len(optimizers)) if (o := optimizers.thing(n)) is not None]
            if not models or not seen:  # gone at the end: what was written stays true
                return
            every = [m for n in self._described_models if (m := modules.thing(n)) is not None]
            self._training_loaders = tuple(segmenter.training_loaders)
            look = guard.attempt
            untrained = look("untrained parameters", self._untrained.look, models, seen)
            frozen = look("frozen features", self._frozen.look, every)
            kept = look("kept gradients", self._kept_gradients.look, seen)
            denormals = look("denormals", self._denormals.look, models, seen)
        self._write_part(writer, "untrained", untrained)
        self._write_part(writer, "frozen", frozen)
        if kept is not None:
            self._fact(writer, "gradients", "all", dict(kept))
        if denormals is not None:
            self._fact(writer, "denormals", "all", dict(denormals))
        for event in self._denormals.take_events():
            writer.event(event)

    def _write_units(self, writer: ProcessWriter, segmenter: Segmenter) -> None:
        """Also at the end, when the models may be gone; it keeps a pace of its own."""
        modules = self._hooks.modules
        numbers = segmenter.trained_modules & self._described_models
        models = [module for n in numbers if (module := modules.thing(n)) is not None]
        units = guard.attempt("dead units", self._units.look, models)
        if units is not None:
            self._fact(writer, "units", "all", dict(units))

    def _write_part(self, writer: ProcessWriter, kind: str, fact: Any) -> None:
        """What was true before, and is no more, is taken back."""
        if fact is not None:
            self._parts_written.add(kind)
            self._fact(writer, kind, "all", dict(fact))
        elif kind in self._parts_written:
            self._fact(writer, kind, "all", {"parameters": 0})

    def _epochs(self) -> int:
        entries = self._hooks.loaders.entries
        return sum(entries[number].iterators for number in self._training_loaders)

    def _write_loaders(self, writer: ProcessWriter, segmenter: Segmenter) -> None:
        """What is new of each; a script with a thousand of them is not asked every second."""
        if not self._loader_pace.due() and not self._recorder.closed:
            return
        with self._loader_pace:
            for number, entry in enumerate(self._hooks.loaders.entries):
                if entry.fact is not None:
                    self._write_loader(writer, segmenter.training_loaders, number, entry)

    def _write_loader(
        self, writer: ProcessWriter, training: set[int], number: int, entry: LoaderEntry
    ) -> None:
        role = "training" if number in training else "validation"
        data = {
            **entry.fact,
            "role": role if training else "unknown",
            "loaders_made": entry.made,
            "iterators_made": entry.iterators,
        }
        self._read_sampler(number, entry)
        if number in self._sampler_epochs:
            data["sampler_epoch"] = self._sampler_epochs[number]
        if entry.site is not None and entry.site.where:
            data["where"] = entry.site.where
        self._fact(writer, "loader", f"l{number}", data)
        batch = self._hooks.first_batches.get(number)
        if batch:
            self._fact(writer, "batch", f"l{number}", dict(batch))
        live = self._hooks.padding.get(number)
        padding = guard.attempt("padding", live.fact) if live is not None else None
        if padding is not None:
            self._fact(writer, "padding", f"l{number}", dict(padding))

    def _read_sampler(self, number: int, entry: LoaderEntry) -> None:
        """While the loader lives: at the end it may be gone."""
        loader = entry.loader() if entry.loader is not None else None
        if loader is not None:
            epoch = guard.attempt("loader facts", sampler_epoch, loader)
            if epoch is not None:
                self._sampler_epochs[number] = epoch

    def _write_flags(self, writer: ProcessWriter, seconds: int) -> None:
        flags = self._hooks.flags
        if flags:
            key = "steady" if self._flags_written else "start"
            self._fact(writer, "flags", key, dict(flags))
            self._hooks.flags = {}
            self._flags_written += 1
        if seconds % FLAGS_EVERY_S == 1 or self._flags_written == 1:
            self._hooks.ask_for_flags()
            numa = guard.attempt("numa", read_numa)
            if numa is not None:
                self._fact(writer, "numa", "cpus", dict(numa))

    def write_cost(self, writer: ProcessWriter, steps: int, marks: int, thread_cpu_ns: int) -> None:
        """What the agent itself has cost: marks in the training thread, CPU on its own."""
        if not steps:
            return
        nanoseconds = _mark_cost_ns()
        data = {
            "hook_ns_per_step": round(nanoseconds * marks / steps),
            "thread_cpu_ns": thread_cpu_ns,
            "steps": steps,
            "marks_per_step": round(marks / steps, 2),
            "mark_ns": round(nanoseconds),
            "method": "marks counted times the cost of a mark measured here, plus the CPU time of "
            "the agent's thread",
        }
        self._fact(writer, "agent", "cost", data)


def _mark_cost_ns() -> float:
    """Nanoseconds of one hook's mark on this machine: the best of several short runs.

    A hooked call costs its two marks and the wrapper around them; the wrapper is about as dear as
    a mark, so that a mark is counted one and a half times.
    """
    recorder = Recorder()
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter_ns()
        for _ in range(100):
            recorder.mark(0)
        best = min(best, (time.perf_counter_ns() - start) / 100)
        recorder.marks.clear()
    return 1.5 * best
