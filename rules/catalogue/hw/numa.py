"""hw-numa."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, text, uses_gpu
from trainprof.rules.rule import Candidate, Case, Rule

_FAR = {
    "gpu.devices": "0",
    "numa.nodes": 2,
    "numa.processes": 1,
    "numa.remote_processes": 1,
    "numa.cpu_nodes": "1",
    "numa.gpu_node": 0,
    "numa.gpu": "GPU 0",
    "step.data_wait_share": (0.10, 0.09, 0.11),
    "step.h2d_share": (0.08, 0.07, 0.09),
}


class Numa(Rule):
    """The process runs on other sockets than the one of its GPU.

    ## What it finds
    A training process that may run on CPUs of other NUMA nodes only than the node that its GPU's
    slot belongs to.

    ## Why it costs time
    Batches, launches and copies then cross the link between the sockets, which has less bandwidth
    and more latency than a socket's own memory.

    ## Evidence needed
    - None of the CPUs that the process may use (its affinity, also by a cpuset of its container) is
      on the node of its GPU. A process that may run anywhere is no finding: the system places it.
    - The kernel tells the node of the GPU's slot; -1, as in most virtual machines, is not known.
    - Waits for batches and copies to the GPU take 10 % of the step or more together: who needs
      the CPU little hardly notices.

    It is a note: how much it costs is not measured. The gain is 1.0 to 1.1 (a starting value), and
    never above Amdahl's bound on that share. confirmed on: a fake NVML library only.

    ## Fix
    Start it on the node of its GPU: `numactl --cpunodebind=N --membind=N`, or `torchrun
    --numa-binding=node` with several ranks.

    ## Fix safety
    Safe: where the process runs changes no number.

    ## When it is wrong
    Where the node of the GPU has no CPU left for this process, or the cluster's scheduler has
    given the others to somebody else.

    ## References
    - PyTorch, performance tuning guide, non-uniform memory access:
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - Linux, numa_node of a PCI device:
      https://www.kernel.org/doc/Documentation/ABI/testing/sysfs-bus-pci
    """

    id = "hw-numa"
    title = "The process runs on another socket than its GPU"
    needs = ("numa.remote_processes", "numa.gpu_node", "numa.cpu_nodes")
    can_warn = False
    fires_on = (
        Case("a process on the other socket", _FAR, severity="info", gain=(1.0, 1.1)),
        Case("two of four ranks", {**_FAR, "numa.processes": 4, "numa.remote_processes": 2}),
    )
    silent_on = (
        Case("a process on the same socket", {**_FAR, "numa.remote_processes": 0}),
        Case(
            "one that hardly needs its CPU",
            {**_FAR, "step.data_wait_share": 0.01, "step.h2d_share": 0.02},
        ),
    )

    min_share = 0.10
    """Of the step, in waits for batches and copies (a starting value)."""
    most_gain = 1.1
    """At most (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """The training uses a GPU, and the machine is not known to have one node alone."""
        return uses_gpu(signals) and (number(signals, "numa.nodes") or 2) > 1

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the node of the GPU with those of the process's CPUs."""
        remote = int(needed(signals, "numa.remote_processes"))
        waits = number(signals, "step.data_wait_share") or 0.0
        copies = number(signals, "step.h2d_share") or 0.0
        share = waits + copies
        if not remote or share < self.min_share:
            return
        node = int(needed(signals, "numa.gpu_node"))
        gpu = text(signals, "numa.gpu") or "a GPU"
        cpus = text(signals, "numa.cpu_nodes")
        others = f", and so do {remote - 1} more" if remote > 2 else ""
        others = ", and so does 1 more" if remote == 2 else others
        yield Candidate(
            summary=f"A process runs on CPUs of node {cpus}, and {gpu} hangs on node {node}"
            f"{others}; waits for batches and copies take {percent(share)} of the step.",
            evidence=(
                *observed(signals, "numa.cpu_nodes"),
                *observed(signals, "numa.gpu_node"),
                *observed(signals, "numa.remote_processes"),
                *observed(signals, "numa.processes"),
                *observed(signals, "step.data_wait_share"),
                *observed(signals, "step.h2d_share"),
            ),
            share=share,
            gain=Gain(1.0, min(self.most_gain, amdahl(share))),
            severity="info",
            fixes=(
                FixAdvice(
                    fix="numa-binding",
                    params={"node": node},
                    safety="safe",
                    text="Start the process on the node of its GPU, with its memory.",
                    code=f"numactl --cpunodebind={node} --membind={node} python train.py",
                ),
            ),
            confidence="low",
        )
