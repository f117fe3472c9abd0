"""dist-bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainprof.profiler.model.diagnosis import Evidence, FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    has_several_ranks,
    high,
    low,
    needed,
    number,
    observed,
    percent,
    size,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule


class Bucket(Rule):
    """Gradients travel in too many buckets, or in a single one that hides behind nothing.

    ## What it finds
    DistributedDataParallel whose bucket size does not suit the model, in a training that waits for
    the exchange.

    ## Why it costs time
    DDP averages gradients in buckets of 25 MiB unless told otherwise. With many of them the fixed
    cost of an exchange is paid many times; with a single one it begins when the last gradient is
    there, and nothing of it hides behind the backward.

    ## Evidence needed
    - Exposed communication of at least 5 % of the step on the rank that waits the least.
    - More than 20 buckets; or four or more that hold less than 1 MiB on average (DDP's own first
      bucket is no smaller); or one bucket for gradients of at least 4 MiB.
    - In a trace: all-reduces that a thread of autograd's launches between a forward of
      DistributedDataParallel and the optimizer's step, both by their names, and how long nothing
      is computed beside these.

    The best size cannot be told without a try, so this is a note: the interval goes from no gain to
    half of the wait. Seen on a real run: two gloo ranks on one busy machine, 202 KiB of gradients in
    13 buckets (`bucket_cap_mb=0.001`), took 1.17 and 1.23 times as long as in one.

    ## Fix
    Try `bucket_cap_mb` of 50, 100 and 200 where there are many buckets, torch's 25 where they are
    small, a quarter of the gradients' size where there is one. `gradient_as_bucket_view=True` saves a copy of all gradients.

    ## Fix safety
    Safe for results: the order in which numbers are added may change in the last bit. With
    `gradient_as_bucket_view` gradients cannot be detached in place.

    ## When it is wrong
    Between processes of one machine an exchange of a MiB or more costs little more than its bytes,
    and the size of buckets hardly matters.

    ## References
    - torch.nn.parallel.DistributedDataParallel, `bucket_cap_mb`:
      https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html
    - "25 MB is very small and most users would have to increase it":
      https://github.com/pytorch/pytorch/issues/118421
    """

    id = "dist-bucket"
    title = "Gradient buckets of an unsuitable size"
    needs = ("distributed.transfer_share", "distributed.bucket_count")
    suppresses = ("dist-exposed-comm",)
    can_warn = False
    on_traces = True
    fires_on = (
        Case(
            "forty buckets",
            {
                "distributed.transfer_share": (0.2, 0.18, 0.22),
                "distributed.bucket_count": 40,
                "distributed.gradient_bytes": 1_000_000_000,
                "distributed.ddp": {"bucket_bytes": 26_214_400},
            },
            severity="info",
        ),
        Case(
            "thirteen buckets of 16 KiB, in the hope that the exchange begins earlier",
            {
                "distributed.transfer_share": (0.3, 0.28, 0.32),
                "distributed.bucket_count": 13,
                "distributed.gradient_bytes": 206_864,
                "distributed.ddp": {"bucket_bytes": 1_048},
            },
            severity="info",
        ),
        Case(
            "one bucket for all",
            {
                "distributed.transfer_share": (0.3, 0.28, 0.32),
                "distributed.bucket_count": 1,
                "distributed.gradient_bytes": 8_000_000,
            },
            severity="info",
        ),
        Case(
            "thirty buckets of 32 MiB, in a trace",
            {
                "distributed.transfer_share": 0.2,
                "distributed.bucket_count": 30.0,
                "distributed.gradient_bytes": 1_006_632_960.0,
                "timeline.window": "5 whole steps",
            },
            severity="info",
            gain=(1.02, 1.12),
        ),
    )
    silent_on = (
        Case(
            "forty buckets that hide behind the backward",
            {"distributed.transfer_share": (0.02, 0.01, 0.03), "distributed.bucket_count": 40},
        ),
        Case(
            "one bucket of a small model",
            {
                "distributed.transfer_share": (0.2, 0.18, 0.22),
                "distributed.bucket_count": 1,
                "distributed.gradient_bytes": 300_000,
            },
        ),
        Case(
            "a small model in torch's first bucket and another",
            {
                "distributed.transfer_share": (0.2, 0.18, 0.22),
                "distributed.bucket_count": 2,
                "distributed.gradient_bytes": 1_600_000,
            },
        ),
        Case(
            "five buckets",
            {
                "distributed.transfer_share": (0.2, 0.18, 0.22),
                "distributed.bucket_count": 5,
                "distributed.gradient_bytes": 120_000_000,
            },
        ),
        Case(
            "eight buckets that hide behind the backward, in a trace",
            {
                "distributed.transfer_share": 0.03,
                "distributed.bucket_count": 8.0,
                "distributed.gradient_bytes": 200_000_000.0,
                "timeline.window": "5 whole steps",
            },
        ),
    )

    min_transfer_share = 0.05
    """Part of the step (TraceLens reports exposed communication from 5 %)."""
    max_buckets = 20
    """More are many (a starting value)."""
    min_small_buckets, small_bucket_bytes = 4, 2**20
    """Fewer than that many may be the first bucket and a rest; 1 MiB is the size of DDP's first."""
    min_gradient_bytes = 4 * 2**20
    """Below it one bucket is right (a starting value)."""
    removable = 0.5
    """Part of the wait, for the upper end of the gain (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """More than one rank trains; a trace names what DDP sends."""
        traced = signals.get("timeline.window").value is not None
        told = not traced or number(signals, "distributed.bucket_count") is not None
        return told and has_several_ranks(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Counts buckets where the exchange is waited for."""
        share = needed(signals, "distributed.transfer_share")
        buckets = needed(signals, "distributed.bucket_count")
        gradient_bytes = number(signals, "distributed.gradient_bytes") or 0.0
        alone = buckets == 1 and gradient_bytes >= self.min_gradient_bytes
        small = (
            buckets >= self.min_small_buckets
            and 0.0 < gradient_bytes < buckets * self.small_bucket_bytes
        )
        if share < self.min_transfer_share:
            return
        if not (alone or small or buckets > self.max_buckets):
            return
        ddp = signals.get("distributed.ddp").value
        cap = ddp.get("bucket_bytes") if isinstance(ddp, Mapping) else None
        many = "a single bucket" if alone else f"{buckets:.0f} buckets"
        if small:
            many += f" of {size(gradient_bytes / buckets)}"
        wanted = 25 if small else 100
        if alone:
            wanted = round(gradient_bytes / 4 / 2**20) or 1
        window = text(signals, "timeline.window") or "the step"
        yield Candidate(
            summary=f"Gradients travel in {many}, and {percent(share)} of {window} waits for them.",
            evidence=(
                *observed(signals, "distributed.transfer_share", self.min_transfer_share),
                *observed(signals, "distributed.bucket_count", self.max_buckets),
                *observed(signals, "distributed.gradient_bytes"),
                *((Evidence("distributed.ddp.bucket_bytes", cap, "bytes"),) if cap else ()),
            ),
            share=share * self.removable,
            share_low=(low(signals, "distributed.transfer_share") or 0.0) * self.removable,
            gain=Gain(
                1.0, amdahl((high(signals, "distributed.transfer_share") or share) * self.removable)
            ),
            fixes=(
                FixAdvice(
                    fix="bucket-size",
                    params={"bucket_cap_mb": wanted},
                    safety="safe",
                    text="Set another bucket size and compare.",
                    code=f"DistributedDataParallel(model, bucket_cap_mb={wanted})",
                ),
                FixAdvice(
                    fix="ddp-flags",
                    params={"gradient_as_bucket_view": True},
                    safety="safe",
                    text="Let gradients be views of the buckets: no copy into them and back.",
                    code="DistributedDataParallel(model, gradient_as_bucket_view=True)",
                ),
            ),
            confidence="low",
            max_severity="info",
        )
