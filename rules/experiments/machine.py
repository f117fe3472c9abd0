"""What a measured ratio holds for: the kind of machine."""

from __future__ import annotations

from trainprof.profiler.model.records import Hardware


def machine_class(hardware: Hardware) -> str:
    """Model of the CPU, cores that may be used, and GPUs, in one line."""
    cores = hardware.usable_cores
    parts = [hardware.cpu_model or "a CPU", "" if cores is None else f"{cores:g} cores"]
    return ", ".join(part for part in [*parts, *hardware.gpus] if part)
