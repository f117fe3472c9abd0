"""The hardware of this machine, and of trees of files."""

import os
import sys
from collections import namedtuple

import psutil
import pytest

from trainprof.profiler.samplers import hardware as hardware_module
from trainprof.profiler.samplers.hardware import read_hardware, read_mounts

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux has")
Partition = namedtuple("Partition", ["mountpoint", "fstype", "device"])


@linux_only
def test_this_machine(no_driver):
    hardware = read_hardware()
    assert 1 <= hardware.affinity_cores <= hardware.logical_cores
    assert hardware.affinity_cores == len(os.sched_getaffinity(0))
    assert 0 < hardware.usable_cores <= hardware.affinity_cores
    assert 0 < hardware.memory_total_bytes <= psutil.virtual_memory().total
    assert hardware.gpus == ()


@linux_only
def test_fewer_cores_by_affinity(no_driver):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert read_hardware().affinity_cores == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_machine_made_of_files(tmp_path, no_driver, monkeypatch):
    proc, system = tmp_path / "proc", tmp_path / "sys"
    proc.mkdir()
    (proc / "cpuinfo").write_text("model name : Some CPU\nflags : avx512_bf16 amx_bf16\n")
    for node in ("node0", "node1", "possible"):
        (system / "devices" / "system" / "node" / node).mkdir(parents=True)
    hardware = read_hardware(proc, system)
    assert hardware.cpu_model == "Some CPU"
    assert hardware.cpu_flags == ("avx512_bf16", "amx_bf16")
    assert hardware.numa_nodes == 2
    assert hardware.cgroup_quota_cores is None


def test_what_cannot_be_seen_is_none(tmp_path, no_driver, monkeypatch):
    def absent():
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", absent)
    monkeypatch.setattr(hardware_module, "SHM", tmp_path / "shm")
    hardware = read_hardware(tmp_path, tmp_path)
    assert hardware.cpu_model is None
    assert hardware.cpu_flags == ()
    assert hardware.numa_nodes is None
    assert hardware.memory_total_bytes is None
    assert hardware.shm_total_bytes is None


def test_gpus_by_name(driver):
    driver()
    assert read_hardware().gpus == ("Fake GPU 0", "Fake GPU 1")


def test_a_driver_that_hangs_does_not_hang_the_run(monkeypatch, driver):
    import threading

    import pynvml

    driver()
    release = threading.Event()
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: release.wait(20))
    monkeypatch.setattr(hardware_module, "GPU_WAIT_S", 0.05)
    try:
        assert read_hardware().gpus == ()
    finally:
        release.set()


@pytest.fixture
def mounted(monkeypatch):
    def use(*partitions):
        table = [Partition(str(point), kind, "a disk") for point, kind in partitions]
        monkeypatch.setattr(psutil, "disk_partitions", lambda all: table)

    return use


def test_the_innermost_mount_holds_a_path(mounted, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    mounted(("/", "overlay"), (data, "ext4"), (data, "nfs4"), (tmp_path / "dat", "tmpfs"))
    paths = [str(data / "train" / "0.tar"), str(tmp_path / "link" / "x"), str(tmp_path)]
    # Of two mounts on one point the later hides the earlier.
    assert read_mounts(paths) == dict(zip(paths, ("nfs4", "nfs4", "overlay"), strict=True))


def test_a_relative_path(mounted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mounted((tmp_path, "xfs"))
    assert read_mounts(["data"]) == {"data": "xfs"}


def test_what_cannot_be_told_is_left_out(mounted, tmp_path, monkeypatch):
    mounted((tmp_path / "elsewhere", "xfs"))
    assert read_mounts(["/data"]) == {}

    def absent(all):
        raise PermissionError("/proc/self/mounts")

    monkeypatch.setattr(psutil, "disk_partitions", absent)
    assert read_mounts(["/data"]) == {}


@linux_only
def test_mounts_of_this_machine():
    assert read_mounts(["/proc/self"]) == {"/proc/self": "proc"}


def test_the_compiler_is_the_one_that_the_environment_names(no_driver, monkeypatch):
    monkeypatch.setenv("CXX", sys.executable)
    assert read_hardware().cxx_compiler == sys.executable
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert read_hardware().cxx_compiler == ""
