"""Trials on a Ray cluster that is there already: `tune --engine ray`.

All trials of a tune run on one node, one at a time, with the whole node to themselves, so that the
two arms of a pair differ in nothing else. The nodes need trainprof and the project's folder under
the same paths. Ray comes as a module, so that tests can put another in its place.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainprof.errors import MissingExtraError, TrainprofError, UsageError
from trainprof.profiler.sandbox.watched import TIDY_S
from trainprof.profiler.sandbox.workplace import prepare_workplace

KNOCK_S = 5.0
NODE_IS_FREE_WITHIN_S = 300.0
"""Others may use the node; so long a trial waits for it."""
RAYS_OWN = ("OMP_NUM_THREADS",)
"""Variables that Ray sets for its tasks, which would make another training of it."""
NODES_OWN = ("CUDA_VISIBLE_DEVICES", "HOSTNAME", "LD_LIBRARY_PATH")
"""Variables in which the node knows better than the machine that tune was started on."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run on a node.

    Attributes:
        command: Arguments of a program. name: Of this run, short. output: File for its output.
        patience_s: Seconds that it may take. changes: Variables that differ from `environment`.
        environment: Of tune. cwd: Folder that it is started in.
        records: Where all that is written stays. shared: Below it, for what trials hand on.
        folders: That must be writable without a trace. unguarded: Go on where they cannot be.
    """

    command: tuple[str, ...]
    name: str
    output: str
    patience_s: float
    changes: Mapping[str, str]
    environment: Mapping[str, str]
    cwd: str
    records: str
    shared: str
    folders: tuple[str, ...]
    unguarded: bool


def run_job(job: Job) -> int | None:
    """On the node: the exit status, None where it took too long.

    Raises:
        UsageError: the node does not see the project, or cannot run trials without traces.
    """
    for name in RAYS_OWN:
        os.environ.pop(name, None)
    os.environ.update({k: v for k, v in job.environment.items() if k not in NODES_OWN})
    try:
        os.chdir(job.cwd)
    except OSError:
        raise UsageError(
            f"the node {os.uname().nodename} has no folder {job.cwd}; the project has to lie where "
            "all nodes see it."
        ) from None
    place = prepare_workplace(Path(job.records), job.folders, unguarded=job.unguarded)
    place.shared = Path(job.shared)
    try:
        return place.run(job.command, job.name, Path(job.output), job.patience_s, job.changes)
    finally:
        place.close()


class RayWorkplace:
    """Runs commands on one node of the cluster, as a workplace does here.

    Args:
        ray: The module, connected.
        records: Where all that is written stays; nodes see it too.
        folders: That must be writable without a trace. unguarded: Go on where they cannot be.

    Attributes:
        shared: A folder in which what a trial writes is there for the next one.
        cpus: Of the node. memory_bytes: Of the node.
    """

    def __init__(self, ray: Any, records: Path, folders: Sequence[str], *, unguarded: bool) -> None:
        self._ray = ray
        self._records = records
        self._folders = tuple(folders)
        self._unguarded = unguarded
        self.shared = records / "shared"
        node = _largest_node(ray.nodes())
        self.cpus = int(node["Resources"].get("CPU", 1))
        self.memory_bytes = int(node["Resources"].get("memory", 0)) or None
        self._task = ray.remote(run_job).options(
            num_cpus=node["Resources"].get("CPU", 1),
            num_gpus=node["Resources"].get("GPU", 0),
            max_retries=0,
            scheduling_strategy=ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                node["NodeID"], soft=False
            ),
        )

    def run(
        self,
        command: Sequence[str],
        name: str,
        output: Path,
        patience_s: float,
        environment: Mapping[str, str] = {},
    ) -> int | None:
        """The exit status of a command that leaves no traces; None where it took too long.

        Raises:
            TrainprofError: the node is not free, is lost, or cannot run it.
        """
        self.shared.mkdir(exist_ok=True)
        job = Job(
            tuple(command),
            name,
            str(output),
            patience_s,
            dict(environment),
            dict(os.environ),
            os.getcwd(),
            str(self._records),
            str(self.shared),
            self._folders,
            self._unguarded,
        )
        return self._result(self._task.remote(job), patience_s)

    def _result(self, running: Any, patience_s: float) -> int | None:
        ray = self._ray
        try:
            limit_s = patience_s + TIDY_S + NODE_IS_FREE_WITHIN_S
            done, _ = ray.wait([running], timeout=limit_s)
            if not done:
                raise UsageError("the node of the Ray cluster did not become free for a trial.")
            status: int | None = ray.get(running)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, TrainprofError):
                raise error.cause from None
            raise TrainprofError(_failed(error.cause)) from None
        except ray.exceptions.RayError as error:
            raise TrainprofError(_failed(error)) from None
        except BaseException:
            ray.cancel(running)  # an interrupt there, upon which the node tidies up
            ray.wait([running], timeout=TIDY_S)
            raise
        return status

    def falls_back(self, output: Path) -> bool:
        """No other way is tried on a node."""
        return False

    def close(self) -> None:
        """Leaves the cluster."""
        self._ray.shutdown()


def ray_workplace(records: Path, folders: Sequence[str], *, unguarded: bool) -> RayWorkplace:
    """A workplace on the cluster that RAY_ADDRESS names, else on the one that runs here.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: there is no cluster.
    """
    return RayWorkplace(connected_ray(), records, folders, unguarded=unguarded)


def connected_ray() -> Any:
    """Ray's module, connected to the cluster that RAY_ADDRESS names, else to the one here.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: there is no cluster.
    """
    try:
        import ray
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as missing:
        if missing.name != "ray":
            raise
        raise MissingExtraError(
            "--engine ray needs Ray, which is not installed: pip install 'trainprof[ray]'"
        ) from None
    address = os.environ.get("RAY_ADDRESS") or "auto"
    try:
        with _without_stderr():
            _knock(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError):
        where = "here" if address == "auto" else f"at {address}"
        raise UsageError(
            f"no Ray cluster answers {where}, or it does not let this user in; `ray start --head` "
            "starts one, RAY_ADDRESS names one."
        ) from None
    return ray


def _knock(address: str) -> None:
    """Whether anybody listens there; Ray itself would wait for many minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), KNOCK_S).close()


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Ray's native code warns there while it connects."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _largest_node(nodes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The living node with the most GPUs, then CPUs.

    Raises:
        UsageError: none lives.
    """
    alive = [node for node in nodes if node.get("Alive")]
    if not alive:
        raise UsageError("no node of the Ray cluster is alive.")

    def size(node: Mapping[str, Any]) -> tuple[float, float]:
        return node["Resources"].get("GPU", 0), node["Resources"].get("CPU", 0)

    return max(alive, key=size)


def _failed(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__
    return (
        f"a trial on the Ray cluster failed ({reason}); its nodes need trainprof and the project "
        "under the same paths as here."
    )
