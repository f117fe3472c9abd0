"""`Diagnosis`: the single input of every report, and the shape of `diagnose --format json`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from .collector_status import CollectorStatus

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Location:
    """A place in the user's source."""

    file: str
    line: int
    function: str | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One measured fact behind a finding, beside the threshold it was held against."""

    signal: str
    value: float | int | str | bool
    unit: str
    threshold: float | str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Gain:
    """Predicted speed-up T_old / T_new, as an interval."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The speed-up that is as far from both ends, as a ratio."""
        return math.sqrt(self.low * self.high)


@dataclass(frozen=True, slots=True)
class FixAdvice:
    """What to change. `text` is one or two sentences a reader can act on.

    Attributes:
        fix: Name of the change, e.g. "loader-workers".
        params: JSON values, e.g. {"num_workers": 4}.
        safety: safe | numerics | semantics (DESIGN 5).
        code: The source as it would read, where that is known.
        where: Of what is to be changed, where that is not the place of the finding.
    """

    fix: str
    params: dict[str, object]
    safety: str
    text: str
    code: str | None = None
    where: Location | None = None


@dataclass(frozen=True, slots=True)
class PastPredictions:
    """How often the predictions of a rule held what a tune then measured, on such machines."""

    right: int
    cases: int


@dataclass(frozen=True, slots=True)
class Finding:
    """One cause of lost time.

    Attributes:
        rule: Id of the rule, `<family>-<slug>`.
        severity: info | warn | critical.
        title: The fault in a few words.
        summary: One sentence with the number in it.
        share: Share of the step's wall time that the cause accounts for, 0..1.
        recoverable_s_per_step: Expected seconds a step that the fix gives back.
        confidence: low | medium | high.
        suppresses: Rules whose findings this one explains; they are not listed by themselves.
        next_bottleneck: What would bound the step once this is fixed.
        past: What became of earlier predictions of this rule; None where no tune has tried.
    """

    rule: str
    severity: str
    title: str
    summary: str
    evidence: tuple[Evidence, ...]
    where: Location | None = None
    share: float | None = None
    recoverable_s_per_step: float | None = None
    gain: Gain | None = None
    confidence: str = "medium"
    fixes: tuple[FixAdvice, ...] = ()
    suppresses: tuple[str, ...] = ()
    next_bottleneck: str | None = None
    past: PastPredictions | None = None


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """One phase of the mean steady step; the state split is None where it was not measured."""

    share: float
    s_per_step: float
    cpu_s_per_step: float | None = None
    run_queue_s_per_step: float | None = None
    blocked_s_per_step: float | None = None
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class StepSummary:
    """The steady steps.

    Attributes:
        count: Steps recorded.
        steady: Steps behind the means (warm-up trimmed).
        mean_s: Mean wall time of a steady step (sums over windows, never a median).
        mean_s_low, mean_s_high: 90 % block bootstrap interval.
    """

    count: int
    steady: int
    mean_s: float | None = None
    mean_s_low: float | None = None
    mean_s_high: float | None = None
    samples_per_s: float | None = None
    phases: dict[str, PhaseTime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Header of a report: which run this is and how it ended."""

    status: str
    name: str | None = None
    path: str | None = None
    argv: tuple[str, ...] = ()
    cwd: str | None = None
    started_unix_s: float | None = None
    wall_s: float | None = None
    exit_status: int | None = None
    stopped_by: str | None = None
    python: str | None = None
    torch: str | None = None
    device: str | None = None
    world_size: int | None = None
    trainprof: str | None = None
    session: int = 0
    sessions: int = 0
    startup_s: float | None = None
    """From the start of the process to its first step."""


@dataclass(frozen=True, slots=True)
class SkippedRule:
    """A rule that could not speak, and why."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class Overhead:
    """trainprof's own cost as a share of the step, and how that is known."""

    share: float | None
    method: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket of a series: `t_s` is seconds since the training process started."""

    t_s: float
    low: float
    mean: float
    high: float


@dataclass(frozen=True, slots=True)
class Series:
    """A quantity over time, at most 2,000 buckets."""

    name: str
    unit: str
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class RankSummary:
    """One rank's steps."""

    rank: int
    pid: int
    steps: int
    mean_s: float | None
    phases_share: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """What one device did in the window of a trace.

    Attributes:
        device: Its number and, where the trace says it, its name.
        window: What the shares refer to, in words.
        window_s: Its length.
        shares: Of the window, by what the device did; they sum to 1.
        idle: The share in which it did nothing, by what the host did meanwhile.
    """

    device: str
    window: str
    window_s: float
    shares: dict[str, float]
    idle: dict[str, float]


@dataclass(frozen=True, slots=True)
class ThreadTime:
    """What the thread that trains did in the window of a trace.

    Attributes:
        thread: As the trace calls it.
        window: What the shares refer to, in words.
        window_s: Its length.
        shares: Of the window; they sum to 1.
    """

    thread: str
    window: str
    window_s: float
    shares: dict[str, float]


@dataclass(frozen=True, slots=True)
class KernelTime:
    """The kernels of one family on the busiest device of a trace.

    Attributes:
        family: What they compute. example: Name of the one that took longest in all.
        count: In the window.
        share: Of the time in which the device was busy there, in which any of them ran.
        precisions: Part of their own lengths, by the precision that their names tell.
        tensor_cores: Part of it on tensor cores; None where that cannot be told.
        operator: That launched most of it; None where no operator can be linked.
    """

    family: str
    example: str
    count: int
    share: float
    precisions: dict[str, float] = field(default_factory=dict)
    tensor_cores: float | None = None
    operator: str | None = None


@dataclass(frozen=True, slots=True)
class OwnTime:
    """Of an operator by itself, in s and as a share of the window."""

    s: float
    share: float


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """All calls of one operator in the window of a trace.

    Attributes:
        name: As the trace calls it. calls: That lie in the window in part, or whose work does.
        host: Without the operators inside it.
        device: Of the device's work that it launched itself, and no operator inside it; None
            where the trace holds no device.
        shapes: Sizes of its inputs in the calls that took most; None where the trace has none.
        shape_kinds: How many different ones there are.
    """

    name: str
    calls: int
    host: OwnTime
    device: OwnTime | None
    shapes: str | None
    shape_kinds: int


@dataclass(frozen=True, slots=True)
class OperatorDevice:
    """Whose time operators took: its number and name, and its work that no operator launched."""

    name: str
    unlinked_s: float


@dataclass(frozen=True, slots=True)
class OperatorTimes:
    """The operators of a trace that take most, on the host or on the device.

    Host times are of all threads and device times of all streams: shares may add up to more than 1.

    Attributes:
        window: What the shares refer to, in words. window_s: Its length.
        device: The busiest one; None where the trace holds none.
        names: How many different operators there are; `rows` holds those that take most.
        rows: Those that take most of the device first.
    """

    window: str
    window_s: float
    device: OperatorDevice | None
    names: int
    rows: tuple[OperatorTime, ...]


@dataclass(frozen=True, slots=True)
class CriticalPathTime:
    """What decides how long the steps of a trace take: the longest chain of waits.

    Attributes:
        window: What was replayed, in words. window_s: Until host and devices had done its work.
        shares: Of it, by what lies on the path; they sum to 1.
    """

    window: str
    window_s: float
    shares: dict[str, float]


@dataclass(frozen=True, slots=True)
class SimulatedChange:
    """What a change would do to the steps of a trace, by a replay of what waits for what.

    Attributes:
        change: Its name. text: What it is, in words.
        gain: By a pessimistic and an optimistic model; per sample, where the batch grows.
        step_after_s: Mean step then, between the two, until host and devices have done its work;
            None where the trace marks no steps.
        next_bottleneck: The largest part of the critical path then.
    """

    change: str
    text: str
    gain: Gain
    step_after_s: float | None
    next_bottleneck: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything a report may show.

    Attributes:
        verdict: bottleneck | healthy | insufficient.
        headline: The verdict in one sentence.
        findings: Ordered by recoverable time, the root cause first.
        missing: JSON path of a null value -> why it is null.
        other_sessions: The further trainings of the same command, each diagnosed by itself.
        ignored: Findings left out because their source line says `# trainprof: ignore[rule]`.
        devices: Of a trace, the busiest first.
        critical_path: Of a trace. what_if: Changes of it that would gain something, most first.
        training_thread: Of a trace.
        kernels: Of its busiest device, by family, those that take longest first.
        operators: Of a trace, or of the steps that a run traced; None where there are none, or for
            a format that does not show them.
    """

    schema: int
    source: str
    run: RunSummary
    verdict: str
    headline: str
    steps: StepSummary
    findings: tuple[Finding, ...] = ()
    skipped_rules: tuple[SkippedRule, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    collectors: tuple[CollectorStatus, ...] = ()
    overhead: Overhead = field(default_factory=lambda: Overhead(None, "not measured"))
    experiments: tuple[dict[str, object], ...] = ()
    series: tuple[Series, ...] = ()
    stacks: dict[str, dict[str, int]] = field(default_factory=dict)
    ranks: tuple[RankSummary, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    other_sessions: tuple[Diagnosis, ...] = ()
    ignored: tuple[Finding, ...] = ()
    devices: tuple[DeviceTime, ...] = ()
    training_thread: ThreadTime | None = None
    kernels: tuple[KernelTime, ...] = ()
    critical_path: CriticalPathTime | None = None
    what_if: tuple[SimulatedChange, ...] = ()
    operators: OperatorTimes | None = None
