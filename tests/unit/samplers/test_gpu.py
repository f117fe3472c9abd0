"""GPUs by the real pynvml on a fake driver library: each figure, and each way to fail."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from trainprof.profiler.model.records import GpuSample
from trainprof.profiler.samplers.gpu import GpuSampler

HEALTHY = GpuSample(
    index=0,
    uuid="GPU-fake-0",
    name="Fake GPU 0",
    utilization_share=0.8,
    memory_utilization_share=0.3,
    memory_used_bytes=20_000_000_000,
    memory_total_bytes=80_000_000_000,
    power_w=250.5,
    power_limit_w=400.0,
    energy_total_j=7123.456,
    temperature_c=61,
    sm_clock_mhz=1980,
    sm_clock_max_mhz=1981,
    memory_clock_mhz=2619,
    clock_event_reasons=0,
    pcie_generation=5,
    pcie_generation_max=5,
    pcie_width=16,
    pcie_width_max=16,
    pcie_received_bytes_per_s=1_500_000_000,
    pcie_sent_bytes_per_s=40_000_000,
    nvlink_active=3,
    ecc_errors_corrected_total=3,
    ecc_errors_uncorrected_total=0,
    process_pids=(100, 200),
    process_memory_bytes=(10_000_000_000, 9_000_000_000),
    process_sm_shares=(0.4, 0.4),
    performance_state=0,
    temperature_slowdown_c=92,
    power_violation_total_ns=5000,
    thermal_violation_total_ns=0,
    pcie_replays_total=7,
    rows_remapped_total=1,
    rows_remap_pending=False,
    rows_remap_failed=False,
    mig_enabled=False,
    cuda_cores=16896,
)
NO_ECC = """
0 * ecc_corrected unsupported
0 * ecc_uncorrected unsupported
0 * rows_corrected unsupported
"""
HOT = """
0 * reasons 0x60
0 * sm_clock 600
0 * temperature 91
"""


def status_of(sampler):
    (status,) = sampler.statuses()
    assert status.name == "gpu"
    return status


def test_two_healthy_cards(driver):
    driver()
    sampler = GpuSampler()
    first, second = sampler.sample()
    assert first == HEALTHY
    assert (second.index, second.uuid, second.name) == (1, "GPU-fake-1", "Fake GPU 1")
    assert second.utilization_share == 0.81
    assert second.process_pids == (101, 201)
    assert sampler.names == ("Fake GPU 0", "Fake GPU 1")
    assert (status_of(sampler).status, status_of(sampler).reason) == ("ok", None)


def test_slow_figures_are_asked_of_one_card_after_the_other(driver):
    driver()
    sampler = GpuSampler()
    asked = [[gpu.pcie_sent_bytes_per_s is not None for gpu in sampler.sample()] for _ in range(3)]
    assert asked == [[True, False], [False, True], [True, False]]
    last = sampler.sample(slow_figures=False)
    assert [gpu.pcie_received_bytes_per_s for gpu in last] == [None, None]
    assert [gpu.nvlink_active for gpu in last] == [None, None]
    assert [gpu.process_sm_shares for gpu in last] == [(), ()]
    assert last[0].utilization_share == 0.8


def test_what_a_card_does_not_have_is_none_and_no_fault(driver):
    driver("0 * energy unsupported\n0 * nvlink unsupported\n" + NO_ECC)
    sampler = GpuSampler()
    assert sampler.sample()[0] == replace(
        HEALTHY,
        energy_total_j=None,
        nvlink_active=None,
        ecc_errors_corrected_total=None,
        ecc_errors_uncorrected_total=None,
        rows_remapped_total=None,
        rows_remap_pending=None,
        rows_remap_failed=None,
    )
    status = status_of(sampler)
    assert status.status == "ok"
    lacks = ["no ECC", "no NVLink", "no energy", "no remapped rows"]
    assert sorted(status.reason.split("; ")) == lacks


def test_what_is_forbidden_is_none_and_named(driver):
    driver("0 * reasons forbidden\n0 * processes forbidden")
    sampler = GpuSampler()
    assert sampler.sample()[0] == replace(
        HEALTHY,
        clock_event_reasons=None,
        process_pids=(),
        process_memory_bytes=(),
        process_sm_shares=(),
    )
    status = status_of(sampler)
    assert status.status == "partial"
    assert "no processes (Insufficient Permissions)" in status.reason
    assert "no clock event reasons" in status.reason


def test_a_throttled_card_with_a_narrow_link(driver):
    driver(f"{HOT}\n0 * width 4\n0 * generation 1")
    card = GpuSampler().sample()[0]
    assert card.clock_event_reasons == 0x60
    assert (card.sm_clock_mhz, card.sm_clock_max_mhz, card.temperature_c) == (600, 1981, 91)
    assert (card.pcie_width, card.pcie_width_max) == (4, 16)
    assert (card.pcie_generation, card.pcie_generation_max) == (1, 5)


def test_a_driver_from_before_535_names_the_reasons_otherwise(driver):
    driver(HOT, "-DOLD_DRIVER")
    sampler = GpuSampler()
    assert sampler.sample()[0].clock_event_reasons == 0x60
    assert status_of(sampler).status == "ok"


def test_a_scenario_goes_by_looks(driver):
    driver("1 0 temperature 85\n2 0 temperature 90")
    sampler = GpuSampler()
    looks = [[gpu.temperature_c for gpu in sampler.sample()] for _ in range(3)]
    assert looks == [[61, 61], [85, 61], [90, 61]]


def test_a_split_card_names_its_instances_and_tells_no_utilisation(driver):
    driver("0 0 mig 1\n0 0 utilization unsupported\n0 0 process_use unsupported")
    sampler = GpuSampler()
    split, whole = sampler.sample()
    assert (split.mig_enabled, split.utilization_share) == (True, None)
    assert split.mig_uuids == ("MIG-fake-0-0", "MIG-fake-0-1")
    assert split.process_sm_shares == ()
    assert (whole.mig_enabled, whole.mig_uuids) == (False, ())
    assert status_of(sampler).status == "ok"


def test_memory_rows_and_replays(driver):
    driver("0 0 rows_uncorrected 2\n0 0 rows_pending 1\n0 0 rows_failed 1\n0 0 replays 900")
    card = GpuSampler().sample()[0]
    assert (card.rows_remapped_total, card.pcie_replays_total) == (3, 900)
    assert (card.rows_remap_pending, card.rows_remap_failed) == (True, True)


def test_processes_whose_memory_or_use_is_not_told(driver):
    driver("0 * pid1_memory -1\n0 * pid1_use unsupported")
    card = GpuSampler().sample()[0]
    assert card.process_pids == (100, 200)
    assert card.process_memory_bytes == (10_000_000_000, -1)
    assert card.process_sm_shares == (0.4, -1)


def test_the_nearest_numa_node_is_that_of_the_slot(driver, tmp_path):
    driver()
    for slot, node in (("1a", "1"), ("1b", "-1")):
        folder = tmp_path / "bus" / "pci" / "devices" / f"0000:{slot}:00.0"
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(f"{node}\n")
    assert [gpu.numa_node for gpu in GpuSampler(tmp_path).sample()] == [1, None]


def test_one_card_is_lost_in_mid_run(driver):
    driver("1 1 any lost")
    sampler = GpuSampler()
    assert len(sampler.sample()) == 2
    assert [gpu.index for gpu in sampler.sample()] == [0]
    status = status_of(sampler)
    assert status.status == "failed"
    assert "GPU 1" in status.reason
    driver()
    assert [gpu.index for gpu in sampler.sample()] == [0]  # failed from then on
    assert status_of(sampler) == status


def test_the_driver_goes_in_mid_run(driver):
    driver("1 * any gone")
    sampler = GpuSampler()
    sampler.sample()
    assert sampler.sample() == ()
    assert sampler.sample() == ()
    assert status_of(sampler).status == "failed"
    assert "GPU 0 answered no more" in status_of(sampler).reason


def test_a_card_that_may_not_be_opened_hides_no_other(driver):
    driver("0 1 handle forbidden")
    sampler = GpuSampler()
    assert sampler.sample() == (HEALTHY,)
    assert status_of(sampler).status == "partial"
    assert "GPU 1 cannot be looked at" in status_of(sampler).reason


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("0 * driver missing", "the NVIDIA driver does not answer"),
        ("0 * count 0", "the NVIDIA driver shows no GPU"),
    ],
)
def test_no_card(driver, words, reason):
    driver(words)
    sampler = GpuSampler()
    assert sampler.sample() == ()
    assert sampler.names == ()
    assert status_of(sampler).status == "missing"
    assert reason in status_of(sampler).reason


def test_no_library(no_driver):
    sampler = GpuSampler()
    assert sampler.sample() == ()
    assert status_of(sampler).status == "missing"
    assert "libnvidia-ml.so.1" in status_of(sampler).reason


def test_an_old_pynvml_lacks_functions(driver, monkeypatch):
    import pynvml

    driver()
    monkeypatch.delattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption")
    monkeypatch.delattr(pynvml, "nvmlDeviceGetCurrentClocksEventReasons")
    assert GpuSampler().sample()[0] == replace(HEALTHY, energy_total_j=None)


def test_no_pynvml(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    sampler = GpuSampler()
    assert sampler.sample() == ()
    assert status_of(sampler).status == "missing"
    assert "nvidia-ml-py" in status_of(sampler).reason


UNTIL_SEEN = """
import os, time
until = time.monotonic() + 60
while time.monotonic() < until:
    if os.path.exists({path!r}) and "pcie_width" in open({path!r}).read():
        break
    time.sleep(0.05)
"""


def test_a_run_records_what_the_driver_says(nvml_library, tmp_path):
    """The library found by its own name, as on a machine with a GPU."""
    run, state = tmp_path / "run", tmp_path / "state"
    state.write_text("0 * width 4")
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(nvml_library().parent),
        "FAKE_NVML_STATE": str(state),
    }
    command = [sys.executable, "-m", "trainprof", "run", "--quiet", "--out", str(run)]
    script = [sys.executable, "-S", "-c", UNTIL_SEEN.format(path=str(run / "host.jsonl"))]
    subprocess.run([*command, "--", *script], check=True, env=environment, cwd=tmp_path)
    info = json.loads((run / "run.json").read_text())
    assert info["hardware"]["gpus"] == ["Fake GPU 0", "Fake GPU 1"]
    assert {c["name"]: c["status"] for c in info["collectors"]}["gpu"] == "ok"
    looks = map(json.loads, (run / "host.jsonl").read_text().splitlines()[1:])
    assert [4, 4] in [[gpu["pcie_width"] for gpu in look["gpus"]] for look in looks]
