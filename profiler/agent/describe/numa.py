"""NUMA nodes of the CPUs that the process may run on."""

from __future__ import annotations

import os
from pathlib import Path

from ...model.facts import NumaFact

NODES = Path("/sys/devices/system/node")


def read_numa(nodes: Path = NODES) -> NumaFact | None:
    """The payload of Fact "numa"; None where the system does not tell.

    Of the main thread, by whose CPUs the others go unless they are told otherwise. Reads one small
    file a node, on the agent's thread.
    """
    if not hasattr(os, "sched_getaffinity"):  # macOS has none
        return None
    try:
        allowed = os.sched_getaffinity(os.getpid())
        cpus = {
            int(folder.name[len("node") :]): _cpus((folder / "cpulist").read_text())
            for folder in nodes.glob("node[0-9]*")
        }
    except (OSError, ValueError):
        return None
    if not allowed <= set().union(*cpus.values()):
        return None  # some CPU is of a node that is not told
    own = sorted(node for node, there in cpus.items() if there & allowed)
    return {"nodes": sum(map(bool, cpus.values())), "cpu_nodes": own}


def _cpus(listed: str) -> set[int]:
    """Of "0-3,8", as the kernel writes it; an empty list is a node of memory alone.

    Raises:
        ValueError: it is no such list.
    """
    found: set[int] = set()
    for part in filter(None, listed.strip().split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found
