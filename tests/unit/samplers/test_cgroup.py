"""Control groups of versions 1 and 2, as trees of files that a container or a host would show."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.samplers.cgroup import Cgroup, Throttling, parse_groups

V2_MOUNT = "35 24 0:30 {root} /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
V1_MOUNT = (
    "36 31 0:31 {root} /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "37 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
V2_STAT = "usage_usec 900\nuser_usec 5\nnr_periods 100\nnr_throttled 40\nthrottled_usec 1234567\n"
V1_STAT = "nr_periods 100\nnr_throttled 40\nthrottled_time 1234567890\n"
COUNTED = Throttling(periods=100, throttled_periods=40, throttled_us=1_234_567)
PID = 42


@pytest.fixture
def machine(tmp_path):
    """Writes a tree: machine(mounts, groups, {"path below /": text}) gives the Cgroup."""

    def make(mounts, groups, files):
        write(tmp_path / "proc" / str(PID) / "mountinfo", mounts)
        write(tmp_path / "proc" / str(PID) / "cgroup", groups)
        for path, text in files.items():
            write(tmp_path / path, text)
        return Cgroup(PID, tmp_path / "proc", str(tmp_path))

    return make


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_version_2_in_a_container_with_its_own_namespace(machine):
    cgroup = machine(
        V2_MOUNT.format(root="/"),
        "0::/\n",
        {
            "sys/fs/cgroup/cpu.max": "250000 100000\n",
            "sys/fs/cgroup/cpu.stat": V2_STAT,
            "sys/fs/cgroup/memory.max": "8000000000\n",
            "sys/fs/cgroup/memory.current": "5000000000\n",
            "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 1000000000\nactive_file 5\n",
        },
    )
    assert cgroup.exists
    assert cgroup.quota_cores() == 2.5
    assert cgroup.throttling() == COUNTED
    assert cgroup.memory() == (8_000_000_000, 4_000_000_000)


def test_version_2_the_tightest_limit_above_the_process_holds(machine):
    top = "sys/fs/cgroup"
    cgroup = machine(
        V2_MOUNT.format(root="/"),
        "0::/user.slice/job-7.scope\n",
        {
            f"{top}/user.slice/job-7.scope/cpu.max": "max 100000\n",
            f"{top}/user.slice/job-7.scope/cpu.stat": V2_STAT.replace("100", "1"),
            f"{top}/user.slice/job-7.scope/memory.max": "max\n",
            f"{top}/user.slice/cpu.max": "400000 100000\n",
            f"{top}/user.slice/cpu.stat": V2_STAT,
            f"{top}/user.slice/memory.max": "4096\n",
            f"{top}/user.slice/memory.current": "8192\n",
        },
    )
    assert cgroup.quota_cores() == 4.0
    assert cgroup.throttling() == COUNTED
    assert cgroup.memory() == (4096, 0)


def test_version_2_without_limits(machine):
    cgroup = machine(
        V2_MOUNT.format(root="/"),
        "0::/job\n",
        {
            "sys/fs/cgroup/job/cpu.max": "max 100000\n",
            "sys/fs/cgroup/job/cpu.stat": "usage_usec 900\n",
            "sys/fs/cgroup/job/memory.max": "max\n",
        },
    )
    assert cgroup.exists
    assert cgroup.quota_cores() is None
    assert cgroup.throttling() == Throttling(None, None, None)
    assert cgroup.memory() is None


def test_version_1_in_a_container_that_sees_the_hosts_paths(machine):
    """Without a cgroup namespace the group is /docker/abc, and just that is mounted."""
    top = "sys/fs/cgroup"
    cgroup = machine(
        V1_MOUNT.format(root="/docker/abc"),
        "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n",
        {
            f"{top}/cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
            f"{top}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            f"{top}/cpu,cpuacct/cpu.stat": V1_STAT,
            f"{top}/memory/memory.limit_in_bytes": "1000000\n",
            f"{top}/memory/memory.usage_in_bytes": "900000\n",
            f"{top}/memory/memory.stat": "inactive_file 7\ntotal_inactive_file 300000\n",
        },
    )
    assert cgroup.quota_cores() == 1.5
    assert cgroup.throttling() == COUNTED
    assert cgroup.memory() == (1_000_000, 400_000)


def test_version_1_without_limits(machine):
    top = "sys/fs/cgroup"
    cgroup = machine(
        V1_MOUNT.format(root="/"),
        "4:memory:/a\n3:cpu,cpuacct:/a\n",
        {
            f"{top}/cpu,cpuacct/a/cpu.cfs_quota_us": "-1\n",
            f"{top}/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            f"{top}/cpu,cpuacct/a/cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n",
            f"{top}/memory/a/memory.limit_in_bytes": "9223372036854771712\n",
            f"{top}/memory/a/memory.usage_in_bytes": "5\n",
        },
    )
    assert cgroup.quota_cores() is None
    assert cgroup.throttling() == Throttling(0, 0, 0)
    assert cgroup.memory() is None


def test_both_versions_mounted_the_controller_is_in_version_1(machine):
    cgroup = machine(
        V2_MOUNT.format(root="/").replace("cgroup rw,nosuid", "cgroup/unified rw,nosuid")
        + V1_MOUNT.format(root="/"),
        "3:cpu,cpuacct:/\n0::/\n",
        {
            "sys/fs/cgroup/unified/cpu.stat": "nr_periods 1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.stat": V1_STAT,
        },
    )
    assert cgroup.throttling() == COUNTED


@pytest.mark.parametrize(
    ("mounts", "groups"),
    [
        ("", ""),
        (V2_MOUNT.format(root="/"), ""),
        ("", "0::/\n"),
        (V2_MOUNT.format(root="/somewhere/else"), "0::/../../outside\n"),
        ("nonsense - \n - cgroup2\n1 2 - cgroup2 x rw\n", "::\nnonsense\n0:\n"),
    ],
)
def test_what_is_not_there_is_missing(machine, mounts, groups):
    cgroup = machine(mounts, groups, {})
    assert not cgroup.exists
    assert cgroup.quota_cores() is None
    assert cgroup.throttling() == Throttling(None, None, None)
    assert cgroup.memory() is None


def test_a_process_that_has_ended_has_no_group(tmp_path):
    assert not Cgroup(PID, tmp_path).exists


@pytest.mark.parametrize("quota", ["", "0 100000", "-5 100000", "x y", "100000 0", "max"])
def test_a_quota_that_is_none(machine, quota):
    cgroup = machine(V2_MOUNT.format(root="/"), "0::/\n", {"sys/fs/cgroup/cpu.max": quota})
    assert cgroup.quota_cores() is None


controllers = st.lists(st.sampled_from(["cpu", "memory", "pids", "name=x"]), unique=True)
paths = st.from_regex(r"(/[a-z:][a-z:.-]{0,7}){1,3}", fullmatch=True)


@given(hierarchies=st.lists(st.tuples(st.integers(0, 30), controllers, paths), max_size=5))
def test_every_group_is_read(hierarchies):
    text = "".join(f"{number}:{','.join(names)}:{path}\n" for number, names, path in hierarchies)
    expected = {}
    for _, names, path in hierarchies:
        expected |= dict.fromkeys(names or [""], path)
    assert {name: str(path) for name, path in parse_groups(text).items()} == expected
