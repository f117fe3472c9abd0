"""Processes beside their GPU and far from it: the fake driver, a made-up /sys, built trainings."""

from dataclasses import replace

import pytest
from builders import START_NS, build_run, build_samples, build_steps, build_trainer

from trainprof.profiler.model.records import Fact
from trainprof.profiler.model.run import Session
from trainprof.profiler.samplers.gpu import GpuSampler
from trainprof.rules.diagnose import diagnose
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training

PID = 100
ALONE = "0 0 pid1 -1\n0 1 pid0 -1\n0 1 pid1 -1"
LOADING = {"data_wait": 20.0, "forward": 70.0, "h2d": 10.0}


def slots(tmp_path, *nodes):
    """A /sys in which the fake driver's cards hang on these nodes."""
    for slot, node in zip(("1a", "1b"), nodes, strict=False):
        folder = tmp_path / "bus" / "pci" / "devices" / f"0000:{slot}:00.0"
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(f"{node}\n")
    return tmp_path


def trainer(cpu_nodes, phases=LOADING, pid=PID, **rank):
    facts = [
        ("model", "m0", {"devices": {"cuda:0": 1_000}, "parameter_count": 1_000}),
        ("flags", "steady", {"accelerator": "cuda"}),
    ]
    built = build_trainer(build_steps(400, phases), facts=facts, pid=pid, **rank)
    if cpu_nodes is None:
        return built
    fact = Fact("numa", "cpus", START_NS, {"nodes": 2, "cpu_nodes": cpu_nodes})
    return replace(built, facts=(*built.facts, fact))


def run_of(driver, system, *trainers, scenario=ALONE):
    driver(scenario)
    sampler = GpuSampler(system)
    samples = [replace(one, gpus=sampler.sample()) for one in build_samples(10, pid=PID)]
    return build_run(Session(trainers, ()), samples=samples)


def findings(run):
    return [one for one in diagnose(run).findings if one.rule == "hw-numa"]


def signals_of(run):
    return measure(Training(run, run.sessions[0]))


def test_a_process_on_the_other_socket(driver, tmp_path):
    run = run_of(driver, slots(tmp_path, 0, 1), trainer([1]))
    (finding,) = findings(run)
    assert "runs on CPUs of node 1, and GPU 0 hangs on node 0" in finding.summary
    assert "30 % of the step" in finding.summary
    assert (finding.severity, finding.gain.low, finding.gain.high) == ("info", 1.0, 1.1)
    assert "--cpunodebind=0" in finding.fixes[0].code


@pytest.mark.parametrize("cpu_nodes", [[0], [0, 1]])
def test_a_process_that_may_run_beside_its_gpu(cpu_nodes, driver, tmp_path):
    run = run_of(driver, slots(tmp_path, 0, 1), trainer(cpu_nodes))
    assert findings(run) == []
    assert signals_of(run).get("numa.remote_processes").value == 0


def test_one_that_hardly_needs_its_cpu(driver, tmp_path):
    busy = {"data_wait": 1.0, "forward": 99.0}
    assert findings(run_of(driver, slots(tmp_path, 0, 1), trainer([1], busy))) == []


@pytest.mark.parametrize(("cpu_nodes", "gpu_node"), [([1], -1), (None, 0), ([], 0)])
def test_a_node_that_is_not_told_is_missing_and_not_node_zero(
    cpu_nodes, gpu_node, driver, tmp_path
):
    run = run_of(driver, slots(tmp_path, gpu_node, gpu_node), trainer(cpu_nodes))
    assert findings(run) == []
    signal = signals_of(run).get("numa.remote_processes")
    assert signal.value is None
    assert signal.reason
    assert "hw-numa" in {one.rule for one in diagnose(run).skipped_rules}


def test_of_several_ranks_each_is_held_against_its_own_gpu(driver, tmp_path):
    """Rank 0 beside GPU 0, rank 1 of GPU 1 on the first socket too."""
    both = "0 0 pid0 100\n0 0 pid1 -1\n0 1 pid0 101\n0 1 pid1 -1"
    ranks = [trainer([0], pid=PID + rank, rank=rank, world_size=2) for rank in range(2)]
    run = run_of(driver, slots(tmp_path, 0, 1), *ranks, scenario=both)
    signals = signals_of(run)
    assert signals.get("numa.processes").value == 2
    assert signals.get("numa.remote_processes").value == 1
    assert signals.get("numa.gpu").value == "GPU 1"
    assert (signals.get("numa.cpu_nodes").value, signals.get("numa.gpu_node").value) == ("0", 1)
