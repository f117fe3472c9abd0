"""How a rule reads its signals and words what it saw: typed values, evidence, gains, figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from trainprof.profiler.model.diagnosis import Evidence, Gain, Location
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.signals import Signals

COMPUTE_PHASES = ("forward", "loss", "backward", "optimizer")
"""The phases in which the training thread does arithmetic."""

LARGEST_SHARE = 0.99
"""Amdahl's bound is cut here: no measured share is exact enough to promise more than 100-fold."""


def number(signals: Signals, name: str) -> float | None:
    """The value of a numeric signal, None where it was not measured."""
    value = signals.get(name).value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def needed(signals: Signals, name: str) -> float:
    """The value of a numeric signal that the rule names in `needs`.

    Raises:
        LookupError: when it is absent after all, which is a mistake of the rule.
    """
    value = number(signals, name)
    if value is None:
        raise LookupError(f"{name} is not a number; name it in `needs` or read it with number()")
    return value


def low(signals: Signals, name: str) -> float | None:
    """Lower bound of a signal's 90 % interval, or its value where no interval was computed."""
    bound = signals.get(name).low
    return number(signals, name) if bound is None else bound


def high(signals: Signals, name: str) -> float | None:
    """Upper bound of a signal's 90 % interval, or its value where no interval was computed."""
    bound = signals.get(name).high
    return number(signals, name) if bound is None else bound


def text(signals: Signals, name: str) -> str | None:
    """The value of a signal in words, None where it was not measured."""
    value = signals.get(name).value
    return value if isinstance(value, str) and value else None


def is_on(signals: Signals, name: str) -> bool:
    """True only where a switch was seen on; a switch that was not read counts as off."""
    return signals.get(name).value is True


def place(signals: Signals, name: str) -> Location | None:
    """The line of the user's source that a signal names, None where it is not known."""
    value = signals.get(name).value
    if isinstance(value, Location):
        return value
    if isinstance(value, Mapping):
        file, line, function = value.get("file"), value.get("line"), value.get("function")
        if isinstance(file, str) and isinstance(line, int):
            return Location(file, line, function if isinstance(function, str) else None)
    return None


def observed(
    signals: Signals,
    name: str,
    threshold: float | str | None = None,
    source: str | None = None,
) -> tuple[Evidence, ...]:
    """One signal as evidence beside its threshold; nothing where it was not measured."""
    signal = signals.get(name)
    if not isinstance(signal.value, (bool, int, float, str)):
        return ()
    return (Evidence(name, signal.value, signal.unit, threshold, source),)


def summed_share(signals: Signals, phases: Iterable[str]) -> tuple[float, float] | None:
    """Share of the step in several phases, and a lower bound of it; None if none was measured.

    The sum of lower bounds lies below the lower bound of the sum, so it errs towards silence.
    """
    names = [f"step.{phase}_share" for phase in phases]
    values = [value for name in names if (value := number(signals, name)) is not None]
    if not values:
        return None
    lows = [bound for name in names if (bound := low(signals, name)) is not None]
    return min(sum(values), 1.0), min(sum(lows), 1.0)


def largest_phase(signals: Signals, besides: Iterable[str] = ()) -> str | None:
    """The phase with the largest share of the step, leaving some out; None if none was measured."""
    shares = {
        phase: share
        for phase in PHASES
        if phase not in besides
        and (share := number(signals, f"step.{phase}_share")) is not None
        and share > 0.0
    }
    return max(shares, key=lambda phase: shares[phase]) if shares else None


def has_workers(signals: Signals) -> bool:
    """False only where the training's loader is known to have no workers."""
    return number(signals, "loader.num_workers") != 0


def trains_on_cpu(signals: Signals) -> bool:
    """True where every parameter seen lives in host memory."""
    devices = signals.get("model.devices").value
    if isinstance(devices, Mapping):
        devices = list(devices)
    if isinstance(devices, str):
        devices = [devices]
    if isinstance(devices, (list, tuple)) and devices:
        return all(str(device).startswith("cpu") for device in devices)
    return text(signals, "flags.accelerator") is None


def uses_gpu(signals: Signals) -> bool:
    """True where the training is known to use a GPU that was sampled."""
    return text(signals, "gpu.devices") is not None


def amdahl(share: float, ratio: float = math.inf) -> float:
    """T_old / T_new when `share` of the time becomes `ratio` times faster (Amdahl 1967)."""
    share = min(max(share, 0.0), LARGEST_SHARE)
    return 1.0 / (1.0 - share * (1.0 - 1.0 / ratio))


def gain(
    share_low: float, share_high: float, ratio_low: float, ratio_high: float = math.inf
) -> Gain:
    """The speed-up when a share within two bounds becomes faster by a ratio within two bounds."""
    least, most = amdahl(share_low, ratio_low), amdahl(share_high, ratio_high)
    return Gain(min(least, most), max(least, most))


def percent(share: float) -> str:
    """0.416 as "42 %", 0.042 as "4.2 %"."""
    return f"{share * 100:.1f} %" if abs(share) < 0.0995 else f"{share * 100:.0f} %"


def duration(seconds: float) -> str:
    """A time with the unit that suits it: "3.5 h", "25 min", "1.2 s", "3.4 ms", "56 µs"."""
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:.3g} h"
    if seconds >= 120:
        return f"{seconds / 60:.0f} min"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns" if seconds else "0 s"


def size(count: float) -> str:
    """Bytes with the unit that suits them: "5.3 KiB", "1.2 GiB"."""
    for unit, scale in (("GiB", 2.0**30), ("MiB", 2.0**20), ("KiB", 2.0**10)):
        if abs(count) >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count:.0f} B"


def rate(per_step: float, noun: str = "call") -> str:
    """How often something happens: "3 calls a step", "one call a step", "one call in 50 steps"."""
    if per_step >= 1.5:
        return f"{per_step:.2g} {noun}s a step"
    if per_step >= 0.75:
        return f"one {noun} a step"
    return f"one {noun} in {1 / per_step:.0f} steps" if per_step > 0 else f"no {noun}"


def plural(count: int, noun: str) -> str:
    """1 worker, 2 workers."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def has_several_ranks(signals: Signals) -> bool:
    """Whether ranks train together, or may do so."""
    ranks = number(signals, "distributed.world_size")
    return ranks is None or ranks > 1
