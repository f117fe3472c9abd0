"""mem-leak-device."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import is_on, needed, number, observed, place, size
from trainprof.rules.rule import Candidate, Case, Rule


class LeakDevice(Rule):
    """Each step leaves memory of the device allocated.

    ## What it finds
    In a memory snapshot or a trace: what is allocated at the end of a step is more each time.

    ## Why it costs time
    The training ends when the device is full, after hours perhaps, and before that the allocator
    gives back and asks for memory in every step. A loss that is summed as a tensor keeps the graph
    of each step, with all of its activations.

    ## Evidence needed
    - The ends of at least five steps: those that a trace marks, or the optimizer's steps in a
      snapshot, whose first two are left out (they make state that stays).
    - At each of them more is allocated than at the one before, by 1 KiB a step or more on the
      average.

    It points at the line that allocated most of what stayed, where a snapshot has stacks. Memory
    has no time model, so no gain is predicted. confirmed on: built files only.

    ## Fix
    Keep numbers, not tensors: `total += loss.item()` or `loss.detach()`; evaluate under
    `torch.no_grad()`; do not append outputs to a list.

    ## Fix safety
    Safe.

    ## When it is wrong
    A cache that fills during the first epoch, or batches that grow (a curriculum), stop growing.

    ## References
    - PyTorch, "My model reports out of memory":
      https://docs.pytorch.org/docs/stable/notes/faq.html
    - Understanding CUDA memory usage: https://docs.pytorch.org/docs/stable/torch_cuda_memory.html
    """

    id = "mem-leak-device"
    title = "Memory of the device grows from step to step"
    needs = ("device_memory.growth_bytes_per_step", "device_memory.growth_monotone")
    fires_on = (
        Case(
            "5 MiB a step, and the line that keeps them",
            {
                "device_memory.growth_bytes_per_step": 5.0 * 2**20,
                "device_memory.growth_monotone": True,
                "device_memory.most_reserved_bytes": 2**33,
                "device_memory.grown_where": {"file": "train.py", "line": 31},
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case(
            "more and less by turns",
            {
                "device_memory.growth_bytes_per_step": 2.0 * 2**20,
                "device_memory.growth_monotone": False,
                "device_memory.most_reserved_bytes": 2**33,
            },
        ),
        Case(
            "a number a step",
            {
                "device_memory.growth_bytes_per_step": 512.0,
                "device_memory.growth_monotone": True,
                "device_memory.most_reserved_bytes": 2**33,
            },
        ),
    )

    min_bytes_per_step = 1024.0
    """As for the memory of the host."""

    def applies(self, signals: Signals) -> bool:
        """There is memory of a device to speak of."""
        return number(signals, "device_memory.most_reserved_bytes") is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the ends of steps."""
        growth = needed(signals, "device_memory.growth_bytes_per_step")
        if growth < self.min_bytes_per_step or not is_on(signals, "device_memory.growth_monotone"):
            return
        free = number(signals, "device_memory.free_share")
        total = number(signals, "device_memory.total_bytes")
        left = ""
        if free is not None and total is not None:
            left = f"; the device is full after {free * total / growth:,.0f} more"
        yield Candidate(
            summary=f"Each step leaves {size(growth)} more allocated on the device{left}.",
            evidence=(
                *observed(signals, "device_memory.growth_bytes_per_step", self.min_bytes_per_step),
                *observed(signals, "device_memory.growth_monotone"),
                *observed(signals, "memory.accelerator_peak_bytes"),
                *observed(signals, "device_memory.total_bytes"),
            ),
            where=place(signals, "device_memory.grown_where"),
            fixes=(
                FixAdvice(
                    fix="detach-loss",
                    params={},
                    safety="safe",
                    text="Keep numbers instead of tensors of earlier steps.",
                    code="total += loss.item()",
                ),
            ),
            confidence="medium",
            severity="warn",
            timeless=True,
        )
