"""GPUs that stand idle beside a training on the CPU, and whether it could use one."""

from __future__ import annotations

import re

from trainprof.profiler.model.records import GpuSample
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.own_gpus import trains_on_host
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

LEAST_LOOKS = 5
MOST_USE = 0.05
"""Mean utilisation of a GPU that counts as idle."""
MOST_MEMORY = 0.10
"""Part of its memory in use; more belongs to somebody."""

BACKWARD = 3.0
"""Operations of forward and backward, over those of the forward: a product has two gradients."""

HIDING = ("", "-1", "none", "void", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES that leave no GPU."""

_CHOSEN = re.compile(
    r"(device|accelerator)[= ]+['\"]?cpu(?![-\w])|--(no[-_](cuda|gpu)|(use[-_])?cpu)(?![-\w])"
    r"|--gpus?[= ]0(?![-\w])",
    re.IGNORECASE,
)
"""How a command says that the training shall stay on the CPU."""

DESCRIPTIONS = (
    Description("unused_gpu.count", "count", "GPUs that are idle and nobody's, beside the CPU."),
    Description("unused_gpu.name", "text", "Model of the first of them."),
    Description("unused_gpu.peak_flops", "flop/s", "Its CUDA cores times two times its clock."),
    Description("unused_gpu.step_flops", "flop", "Products of a step, forward and backward."),
    Description("unused_gpu.layer_flops", "flop", "The same for a layer's forward, on average."),
    Description("unused_gpu.kept_away", "text", "What says that the training shall use none."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals unused_gpu.*, missing unless all that is trained lies in host memory."""
    sheet = Sheet(DESCRIPTIONS)
    if not training.has_window:
        return sheet.finish("no step was completed")
    if not trains_on_host(training):
        return sheet.finish("the training is not known to be on the CPU")
    looks = _looks(training)
    if not looks:
        return sheet.finish(f"no GPU was looked at {LEAST_LOOKS} times in the steady steps")
    free = [seen for seen in looks.values() if _is_free(seen)]
    sheet.put("unused_gpu.count", len(free))
    sheet.put("unused_gpu.kept_away", _kept_away(training), reason="nothing says so")
    _work(training, sheet)
    if free:
        gpu = free[0][-1]
        sheet.put("unused_gpu.name", gpu.name)
        if gpu.cuda_cores and gpu.sm_clock_max_mhz:
            peak = 2.0 * gpu.cuda_cores * gpu.sm_clock_max_mhz * 1e6
            sheet.put("unused_gpu.peak_flops", peak, method="one fused product a core and clock")
    return sheet.finish("the driver does not tell" if free else "no GPU is idle and nobody's")


def _looks(training: Training) -> dict[int, list[GpuSample]]:
    """By GPU, those with enough looks in the steady steps."""
    start, end = training.span_ns
    looks: dict[int, list[GpuSample]] = {}
    for sample in training.run.samples:
        for gpu in sample.gpus if start <= sample.at_ns <= end else ():
            looks.setdefault(gpu.index, []).append(gpu)
    return {index: seen for index, seen in looks.items() if len(seen) >= LEAST_LOOKS}


def _is_free(looks: list[GpuSample]) -> bool:
    """Idle, without anybody's process or memory; what was not told counts against it."""
    uses = [gpu.utilization_share for gpu in looks]
    known = [use for use in uses if use is not None]
    if len(known) < len(uses) or sum(known) / len(known) >= MOST_USE:
        return False
    if any(gpu.process_pids or gpu.mig_enabled for gpu in looks):
        return False
    return all(
        gpu.memory_used_bytes is not None
        and gpu.memory_total_bytes
        and gpu.memory_used_bytes <= MOST_MEMORY * gpu.memory_total_bytes
        for gpu in looks
    )


def _kept_away(training: Training) -> str | None:
    visible = training.run.info.environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in HIDING:
        return "CUDA_VISIBLE_DEVICES"
    commands = (training.run.info.argv, *(one.info.argv for one in training.session.trainers))
    found = next((hit for argv in commands if (hit := _CHOSEN.search(" ".join(argv)))), None)
    return None if found is None else found.group(0)


def _work(training: Training, sheet: Sheet) -> None:
    """Operations of the layers that were watched: the whole step has at least these."""
    fact = training.trainer.latest_facts("units").get("all")
    layers = list(fact.data.get("layers") or ()) if fact is not None else []
    forwards = [flops for layer in layers if (flops := int(layer.get("flops") or 0)) > 0]
    reason = "no convolution or linear layer was seen running"
    count = BACKWARD * sum(forwards) if forwards else None
    sheet.put("unused_gpu.step_flops", count, reason=reason, samples=len(forwards))
    mean = sum(forwards) / len(forwards) if forwards else None
    sheet.put("unused_gpu.layer_flops", mean, reason=reason, samples=len(forwards))
