"""The NUMA nodes of the CPUs that this process may run on, by trees of files."""

import os
import sys

import pytest

from trainprof.profiler.agent.describe.numa import read_numa

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux has")


def nodes(tmp_path, **cpus):
    for node, listed in cpus.items():
        (tmp_path / node).mkdir()
        (tmp_path / node / "cpulist").write_text(f"{listed}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("allowed", "own"),
    [({0, 1}, [0]), ({5}, [1]), ({1, 8}, [0]), ({3, 4}, [0, 1]), ({0, 7, 8, 11}, [0, 1])],
)
def test_nodes_of_the_allowed_cpus(allowed, own, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed)
    folder = nodes(tmp_path, node0="0-3,8", node1="4-7,11", node2="")
    assert read_numa(folder) == {"nodes": 2, "cpu_nodes": own}


@pytest.mark.parametrize("listed", ["0-1", "", "a-b", "0,,x"])
def test_what_cannot_be_told_is_none(listed, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 9})
    assert read_numa(nodes(tmp_path, node0=listed)) is None


def test_a_system_without_nodes(tmp_path):
    assert read_numa(tmp_path) is None
    assert read_numa(tmp_path / "none") is None


def test_the_main_thread_counts_and_not_the_one_that_asks(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: asked.append(pid) or {0})
    read_numa(nodes(tmp_path, node0="0"))
    assert asked == [os.getpid()]
