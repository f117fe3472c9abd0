"""The machine: real figures that cannot be nonsense, and trees of files for what is rare."""

import sys
from collections import namedtuple

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.samplers.machine import MachineSampler, busy_share

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux has")

Times = namedtuple("Times", ["user", "nice", "system", "idle", "iowait", "guest"])
Disk = namedtuple("Disk", ["read_bytes", "write_bytes"])
Interface = namedtuple("Interface", ["bytes_recv", "bytes_sent"])
seconds = st.floats(0, 1e6)


def times(user, idle, iowait=0.0, guest=0.0):
    return Times(user, 0.0, 0.0, idle, iowait, guest)


def statuses(sampler):
    return {status.name: status for status in sampler.statuses()}


@linux_only
def test_this_machine(start):
    child = start("print(flush=True); input()")
    sampler = MachineSampler(child.pid)
    sample = sampler.sample()
    assert 0 < sample.memory_available_bytes <= sample.memory_total_bytes
    assert sample.memory_total_bytes <= psutil.virtual_memory().total
    assert sample.swap_in_total_bytes % 4096 == 0
    assert sample.shm_free_bytes > 0
    assert statuses(sampler)["machine"].status == "ok"


@pytest.fixture
def cpu_times(monkeypatch):
    """Fake CPU times: cpu_times(core, core, ...) is what psutil tells from then on."""

    def tell(*cores):
        monkeypatch.setattr(psutil, "cpu_times", lambda percpu: list(cores))

    return tell


def test_busy_shares_are_of_the_time_between_two_looks(cpu_times):
    cpu_times(times(10.0, 100.0), times(20.0, 50.0))
    sampler = MachineSampler(1)
    cpu_times(times(10.5, 100.5), times(21.0, 50.0))
    sample = sampler.sample()
    assert sample.cpu_busy_per_core == (0.5, 1.0)
    assert sample.cpu_busy_share == 0.75


def test_too_short_a_span_gives_no_share_but_counts_later(cpu_times):
    cpu_times(times(10.0, 100.0))
    sampler = MachineSampler(1)
    cpu_times(times(10.02, 100.0))
    sample = sampler.sample()
    assert (sample.cpu_busy_share, sample.cpu_busy_per_core) == (None, ())
    cpu_times(times(10.1, 100.3))
    assert sampler.sample().cpu_busy_per_core == (0.25,)


def test_a_core_that_comes_or_goes(cpu_times):
    cpu_times(times(10.0, 100.0), times(10.0, 100.0))
    sampler = MachineSampler(1)
    cpu_times(times(11.0, 100.0))
    assert sampler.sample().cpu_busy_share is None
    cpu_times(times(11.0, 101.0))
    assert sampler.sample().cpu_busy_share == 0.0


def test_waiting_for_a_disk_is_not_busy_and_guests_count_once():
    before = times(0.0, 0.0)
    assert busy_share(before, times(1.0, 2.0, iowait=1.0, guest=1.0)) == 0.25


@given(st.lists(seconds, min_size=6, max_size=6), st.lists(seconds, min_size=6, max_size=6))
def test_a_share_is_a_share_even_where_the_kernel_counts_backwards(before, after):
    share = busy_share(Times(*before), Times(*after))
    assert share is None or 0 <= share <= 1


def test_no_proc_at_all(tmp_path, monkeypatch):
    def absent(*arguments, **options):
        raise FileNotFoundError("/proc/stat")

    for name in ("cpu_times", "virtual_memory", "disk_io_counters", "net_io_counters"):
        monkeypatch.setattr(psutil, name, absent)
    sampler = MachineSampler(1, tmp_path, tmp_path, tmp_path / "shm")
    sample = sampler.sample()
    assert {getattr(sample, name) for name in sample.__slots__} == {None, ()}
    found = statuses(sampler)
    assert {name: status.status for name, status in found.items()} == {
        "machine": "missing",
        "pressure": "missing",
        "cgroup": "missing",
    }
    assert all(status.reason for status in found.values())


def test_pressure_and_swap(tmp_path):
    pressure = tmp_path / "pressure"
    pressure.mkdir()
    (pressure / "cpu").write_text("some avg10=1.00 avg60=0.00 avg300=0.00 total=11\n")
    (pressure / "io").write_text("some avg10=1.00 total=22\nfull avg10=0.00 total=33\n")
    (tmp_path / "vmstat").write_text("nr_free_pages 9\npswpin 2\npswpout 3\n")
    sampler = MachineSampler(1, tmp_path)
    sampler._page_bytes = 4096
    sample = sampler.sample()
    assert sample.psi_cpu_some_total_us == 11
    assert (sample.psi_io_some_total_us, sample.psi_io_full_total_us) == (22, 33)
    assert sample.psi_memory_some_total_us is None
    assert (sample.swap_in_total_bytes, sample.swap_out_total_bytes) == (8192, 12288)
    assert statuses(sampler)["pressure"].status == "partial"


def test_disks_count_once(tmp_path, monkeypatch):
    """A volume, a partition and a file mounted as a disk move no bytes of their own."""
    for name in ("nvme0n1", "sda", "loop0"):
        (tmp_path / "block" / name).mkdir(parents=True)
    (tmp_path / "block" / "md0" / "slaves" / "sda").mkdir(parents=True)
    counters = {
        "nvme0n1": Disk(1, 10),
        "nvme0n1p1": Disk(1, 10),
        "sda": Disk(2, 20),
        "md0": Disk(2, 20),
        "loop0": Disk(1, 0),
    }
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: counters)
    sample = MachineSampler(1, system=tmp_path).sample()
    assert (sample.disk_read_total_bytes, sample.disk_write_total_bytes) == (3, 30)


def test_the_loopback_is_no_network(monkeypatch):
    interfaces = {"lo": Interface(100, 100), "eth0": Interface(1, 2), "ib0": Interface(3, 4)}
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: interfaces)
    sampler = MachineSampler(1)
    sample = sampler.sample()
    assert (sample.net_received_total_bytes, sample.net_sent_total_bytes) == (4, 6)
    interfaces.clear()
    interfaces["lo"] = Interface(100, 100)
    assert sampler.sample().net_sent_total_bytes is None


def test_a_memory_limit_counts_as_the_machines_memory(monkeypatch):
    sampler = MachineSampler(1)
    monkeypatch.setattr(sampler._cgroup, "memory", lambda: (1000, 10))
    sample = sampler.sample()
    assert (sample.memory_total_bytes, sample.memory_available_bytes) == (1000, 10)
    monkeypatch.setattr(sampler._cgroup, "memory", lambda: (1 << 59, 1 << 58))
    assert sampler.sample().memory_total_bytes == psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("stat", "status", "words"),
    [
        ("nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n", "ok", None),
        ("usage_usec 5\n", "ok", "no CPU quota can be set"),  # no CPU controller, so no loss
        (None, "missing", "no control group"),
    ],
)
def test_a_group_without_a_quota(tmp_path, stat, status, words):
    top = tmp_path / "top"
    top.mkdir()
    process = tmp_path / "7"
    process.mkdir()
    (process / "cgroup").write_text("0::/\n")
    (process / "mountinfo").write_text(f"35 24 0:30 / {top} rw - cgroup2 cgroup2 rw\n")
    if stat is not None:
        (top / "cpu.stat").write_text(stat)
    sampler = MachineSampler(7, tmp_path)
    sampler.sample()
    found = statuses(sampler)["cgroup"]
    assert found.status == status
    assert (found.reason is None) if words is None else (words in found.reason)
