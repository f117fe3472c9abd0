"""data-pageable-copies."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, size, text
from trainprof.rules.rule import Candidate, Case, Rule


class PageableCopies(Rule):
    """Copies to the device start from memory that is not page-locked, and nothing runs beside them.

    ## What it finds
    In a trace: copies named "Pageable -> Device" while the device runs no kernel, and idle time of
    the device that follows because the host was blocked in them. `data-pin-nonblock` finds the same
    in a run.

    ## Why it costs time
    From ordinary memory the driver copies piece by piece through a page-locked buffer of its own,
    behind all work that is queued: the call returns when that is done, so the host cannot launch
    ahead, and the device cannot compute meanwhile.

    ## Evidence needed
    - At least half of the copies to the device are named pageable.
    - Copies without a kernel beside them, and idle time that follows since the host was blocked,
      are at least 3 % of the window.

    How long the host stands in such a call says nothing: it mostly waits for kernels that were
    queued before. The expected gain is Amdahl's bound: on the exposed copies alone at the lower
    end, with the idle time at the upper end. One measurement of others, on an A100: 1.41 times
    faster with page-locked memory and `non_blocking`.

    ## Fix
    `DataLoader(..., pin_memory=True)` and `batch.to(device, non_blocking=True)`; both, as
    `non_blocking` without page-locked memory changes nothing.

    ## Fix safety
    Safe for copies to the device: the stream keeps the order.

    ## When it is wrong
    Page-locked memory cannot be swapped: where memory is short, the system suffers. On the stream
    of the kernels a copy from page-locked memory is faster, but still runs between them.

    ## References
    - pin_memory and non_blocking, a tutorial:
      https://docs.pytorch.org/tutorials/intermediate/pinmem_nonblock.html
    - Nsight Systems, expert system rules: https://docs.nvidia.com/nsight-systems/UserGuide/index.html
    - Machine Learning Engineering, DataLoader:
      https://github.com/stas00/ml-engineering/tree/master/training/performance
    """

    id = "data-pageable-copies"
    title = "The device waits for pageable copies"
    what_if = "pinned-copies"
    needs = ("copies.h2d_exposed_share", "copies.h2d_pageable_share", "timeline.window")
    fires_on = (
        Case(
            "large images, copied before each step",
            {
                "copies.h2d_count": 12,
                "copies.h2d_bytes": 115_607_040,
                "copies.h2d_pageable_share": 1.0,
                "copies.h2d_exposed_share": 0.09,
                "copies.h2d_behind_share": 0.04,
                "timeline.window": "6 whole steps",
            },
            severity="warn",
            gain=(1.1, 1.15),
        ),
    )
    silent_on = (
        Case(
            "the host waits long in calls whose copies are short",
            {
                "copies.h2d_count": 12,
                "copies.h2d_pageable_share": 1.0,
                "copies.h2d_exposed_share": 0.012,
                "copies.h2d_behind_share": 0.002,
                "copies.h2d_wait_share": 0.3,
                "timeline.window": "6 whole steps",
            },
        ),
        Case(
            "from page-locked memory already",
            {
                "copies.h2d_count": 12,
                "copies.h2d_pageable_share": 0.0,
                "copies.h2d_exposed_share": 0.09,
                "timeline.window": "6 whole steps",
            },
        ),
    )

    min_share = 0.03
    """Of the window (the threshold of any finding)."""
    min_pageable = 0.5
    """Part of the copies (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """Something was copied to a device in a trace."""
        return bool(number(signals, "copies.h2d_count"))

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Adds exposed copies and the idle time after them."""
        exposed = needed(signals, "copies.h2d_exposed_share")
        share = exposed + (number(signals, "copies.h2d_behind_share") or 0.0)
        pageable = needed(signals, "copies.h2d_pageable_share")
        if share < self.min_share or pageable < self.min_pageable:
            return
        copied = number(signals, "copies.h2d_bytes")
        what = f"{size(copied)}" if copied else "data"
        yield Candidate(
            summary=(
                f"In {percent(share)} of {text(signals, 'timeline.window')} the device only copied "
                f"{what} from pageable memory, or was idle because that had blocked the host."
            ),
            evidence=(
                *observed(signals, "copies.h2d_exposed_share", self.min_share),
                *observed(signals, "copies.h2d_behind_share"),
                *observed(signals, "copies.h2d_pageable_share", self.min_pageable),
                *observed(signals, "copies.h2d_bytes"),
                *observed(signals, "copies.h2d_bytes_per_s"),
                *observed(signals, "copies.h2d_pinned_bytes_per_s"),
                *observed(signals, "copies.h2d_wait_share"),
            ),
            share=share,
            gain=Gain(amdahl(exposed), amdahl(share)),
            fixes=(
                FixAdvice(
                    fix="loader-pinned",
                    params={"pin_memory": True, "non_blocking": True},
                    safety="safe",
                    text="Pin the loader's batches and copy them without blocking.",
                    code="DataLoader(…, pin_memory=True); batch.to(device, non_blocking=True)",
                ),
            ),
            confidence="medium",
        )
