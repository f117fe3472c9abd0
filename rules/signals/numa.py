"""Whether the processes of a training run near the GPUs that they use."""

from __future__ import annotations

from dataclasses import dataclass

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.own_gpus import OwnGpus, own_gpus
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

DESCRIPTIONS = (
    Description("numa.nodes", "count", "NUMA nodes of the machine that have CPUs."),
    Description(
        "numa.processes", "count", "Training processes whose CPUs' and GPUs' nodes are known."
    ),
    Description(
        "numa.remote_processes", "count", "Of these, such as have no CPU on the node of a GPU."
    ),
    Description("numa.cpu_nodes", "text", "Nodes of the CPUs of the first such process."),
    Description("numa.gpu_node", "count", "The node of its GPU, by number."),
    Description("numa.gpu", "text", "That GPU."),
)


@dataclass(frozen=True, slots=True)
class _Pair:
    """A process and one of its GPUs, with the nodes of both."""

    pid: int
    cpu_nodes: tuple[int, ...]
    gpu: int
    gpu_node: int

    @property
    def remote(self) -> bool:
        return self.gpu_node not in self.cpu_nodes


def measure(training: Training) -> dict[str, Signal]:
    """Signals numa.*."""
    sheet = Sheet(DESCRIPTIONS)
    told = {
        trainer.info.pid: fact.data
        for trainer in training.session.trainers
        if (fact := trainer.latest_facts("numa").get("cpus")) is not None
    }
    if not told:
        return sheet.finish("the system does not tell which CPUs belong to which node")
    sheet.put("numa.nodes", max(int(data.get("nodes") or 0) for data in told.values()) or None)
    own = own_gpus(training)
    if not own.indices:
        return sheet.finish(own.known_by)
    nodes = _gpu_nodes(training)
    used = _gpus_by_process(training, own)
    pairs = [
        _Pair(pid, tuple(data.get("cpu_nodes") or ()), gpu, nodes[gpu])
        for pid, data in told.items()
        for gpu in sorted(used.get(pid, ()))
        if gpu in nodes and data.get("cpu_nodes")
    ]
    if not pairs:
        return sheet.finish("the node of a GPU is not told, or not which process uses it")
    remote = [one for one in pairs if one.remote]
    sheet.put("numa.processes", len({one.pid for one in pairs}))
    sheet.put("numa.remote_processes", len({one.pid for one in remote}))
    first = (remote or pairs)[0]
    sheet.put("numa.cpu_nodes", ", ".join(map(str, first.cpu_nodes)))
    sheet.put("numa.gpu_node", first.gpu_node)
    sheet.put("numa.gpu", f"GPU {first.gpu}")
    return sheet.finish("the system does not tell")


def _gpu_nodes(training: Training) -> dict[int, int]:
    return {
        gpu.index: gpu.numa_node
        for sample in training.run.samples
        for gpu in sample.gpus
        if gpu.numa_node is not None
    }


def _gpus_by_process(training: Training, own: OwnGpus) -> dict[int, set[int]]:
    """By the processes that the driver names; of one process alone, all that are the training's."""
    trainers = [trainer.info.pid for trainer in training.session.trainers]
    if len(trainers) == 1:
        return {trainers[0]: set(own.indices)}
    found: dict[int, set[int]] = {}
    for sample in training.run.samples:
        for gpu in sample.gpus:
            for pid in own.pids.intersection(gpu.process_pids, trainers):
                found.setdefault(pid, set()).add(gpu.index)
    return found
