"""Traces of many ranks on a cluster: what goes there, what comes back, and what is lost there."""

from __future__ import annotations

import pickle
import sys
from types import SimpleNamespace

import pytest
from trace_builder import TraceBuilder

from trainprof.cli.main import main
from trainprof.errors import TrainprofError
from trainprof.rules.rank_cluster import cluster_briefs
from trainprof.rules.rank_traces import diagnose_traces, local_briefs


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__("Traceback (most recent call last):\n ...")
        self.cause = cause


class FakeRay:
    """A cluster in this process, which finishes the last task first; results are pickled."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, lost=(), broken=False, interrupted=False):
        self.lost, self.broken, self.interrupted = lost, broken, interrupted
        self.cancelled, self.is_up = [], True

    def remote(self, function):
        def run(task):
            return SimpleNamespace(task=pickle.loads(pickle.dumps(task)), function=function)

        def options(num_cpus, max_retries):
            assert num_cpus == 1
            return SimpleNamespace(remote=lambda task: _Reference(run(task)))

        return SimpleNamespace(options=options)

    def wait(self, waiting, num_returns, timeout=None):
        if self.interrupted and not self.cancelled:
            raise KeyboardInterrupt
        return waiting[-1:], waiting[:-1]

    def get(self, reference):
        call = reference.call
        if self.broken:
            raise RayTaskError(ModuleNotFoundError("No module named 'trainprof'"))
        if call.task.path.name in self.lost:
            raise RayError("The worker died.\nIt used too much memory")
        return pickle.loads(pickle.dumps(call.function(call.task)))

    def cancel(self, reference, force):
        self.cancelled.append(reference)

    def shutdown(self):
        self.is_up = False


class _Reference:
    def __init__(self, call):
        self.call = call


def ranks(tmp_path, count):
    paths = []
    for number in range(count):
        arrives = 590 if number == 1 else 100 + number
        builder = TraceBuilder().step(1, 0, 1000).kernel("gemm", 0, arrives)
        builder.kernel("ncclDevKernel_AllReduce", arrives, 600 - arrives)
        said = {"distributedInfo": {"rank": number, "world_size": count}}
        paths.append(builder.write(tmp_path / f"rank{number}.json", **said))
    return paths


def test_a_cluster_finds_what_this_machine_finds(tmp_path):
    paths, ray, counts = ranks(tmp_path, 5), FakeRay(), []
    found = diagnose_traces(paths, briefs=cluster_briefs(ray), told=counts.append)
    assert found == diagnose_traces(paths, briefs=local_briefs(1))
    assert counts == [1, 2, 3, 4, 5]
    assert not ray.is_up


def test_a_task_that_is_lost_costs_one_rank(tmp_path):
    paths = ranks(tmp_path, 3)
    (found,) = diagnose_traces(paths, briefs=cluster_briefs(FakeRay(lost=["rank2.json"])))
    assert [one.rank for one in found.ranks] == [0, 1]
    lost = f"left out: {paths[2]}: the task that read it was lost (The worker died.)."
    assert lost in found.problems


def test_nodes_without_trainprof_are_told(tmp_path):
    with pytest.raises(TrainprofError, match="its nodes need the same trainprof as here"):
        diagnose_traces(ranks(tmp_path, 2), briefs=cluster_briefs(FakeRay(broken=True)))


def test_a_stop_cancels_what_runs(tmp_path):
    ray = FakeRay(interrupted=True)
    with pytest.raises(KeyboardInterrupt):
        diagnose_traces(ranks(tmp_path, 3), briefs=cluster_briefs(ray))
    assert len(ray.cancelled) == 3
    assert not ray.is_up


def test_without_ray_it_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    paths = map(str, ranks(tmp_path, 2))
    assert main(["diagnose", "--engine", "ray", *paths]) == 2
    said = "--engine ray needs Ray, which is not installed: pip install 'trainprof[ray]'"
    assert capsys.readouterr().err == f"trainprof: {said}\n"
