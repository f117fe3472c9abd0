"""Whole runs on cards that fare well and ill: the real pynvml on the fake driver, sampler, rules.

The looks go through the sampler as they do in a run, a second apart by the built clock. The
training is built: that it uses a GPU, and how long its steps take, no CPU can show.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from builders import MS, SECOND, START_NS, build_run, build_samples, build_steps, build_trainer

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.records import Event, Fact
from trainprof.profiler.model.run import TraceRecord
from trainprof.profiler.samplers.gpu import GpuSampler
from trainprof.rules.costs import Costs
from trainprof.rules.diagnose import diagnose
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training

LOOKS = 40
PID = 100
"""Of the built trainer, and of the first process on the fake driver's first card."""

ALONE = """
0 0 pid1 -1
0 1 pid0 -1
0 1 pid1 -1
0 1 utilization 0
0 1 memory_used 500000000
0 1 reasons 1
"""
"""Card 0 is busy with this training, card 1 rests."""

THERMAL = "\n".join(
    f"{look} 0 {figure} {value}"
    for look, figures in (
        (5, {"temperature": 78}),
        (10, {"temperature": 86, "reasons": 0x20, "sm_clock": 1600}),
        (15, {"temperature": 90, "reasons": 0x60, "sm_clock": 990, "thermal_violation": 4 * 10**9}),
    )
    for figure, value in figures.items()
)
"""It heats up, the driver slows it down, then the hardware halves its clocks."""


def trainer(step_ms=100.0, devices=("cuda:0",), phases=None, uuids=None):
    facts = [
        ("model", "m0", {"devices": dict.fromkeys(devices, 1_000), "parameter_count": 1_000}),
        ("flags", "steady", {"accelerator": "cuda", "accelerator_uuids": uuids or []}),
    ]
    return build_trainer(
        build_steps(400, phases or {"forward": step_ms * 0.9, "optimizer": step_ms * 0.1}),
        facts=facts,
        pid=PID,
    )


def run_of(driver, scenario, process=None, **info):
    """A run of which each look asked the fake driver."""
    driver(scenario)
    sampler = GpuSampler()
    samples = [replace(one, gpus=sampler.sample()) for one in build_samples(LOOKS, pid=PID)]
    (status,) = sampler.statuses()
    collectors = (CollectorStatus("gpu", status.status, status.reason),)
    return build_run(process or trainer(), samples=samples, collectors=collectors, **info)


def hardware_findings(run, costs=None):
    found = diagnose(run, costs=costs or Costs())
    named = [one for one in found.findings if one.rule.startswith("hw-")]
    hidden = {rule for one in found.findings for rule in one.suppresses}
    assert not {rule for rule in hidden if rule.startswith("hw-")}
    return {one.rule: one for one in named}


def signals_of(run):
    return measure(Training(run, run.sessions[0]))


def slower_from(look, slow_ms):
    """Steps of 100 ms until a look, and longer ones after it."""
    limit = look * 10
    return lambda index: {"forward": slow_ms if index >= limit else 100.0}


def test_a_healthy_card_is_told_nothing(driver):
    assert hardware_findings(run_of(driver, ALONE)) == {}


def test_a_card_that_gets_too_hot(driver):
    process = trainer(phases=slower_from(15, 180.0))
    finding = hardware_findings(run_of(driver, ALONE + THERMAL, process))["hw-throttle"]

    assert finding.severity in ("warn", "critical")
    assert "because of heat (up to 90 °C)" in finding.summary
    assert finding.confidence == "high"  # steps at both clocks were timed
    signals = signals_of(run_of(driver, ALONE + THERMAL, process))
    assert signals.get("gpu.hardware_share").value == 1.0  # the steady steps are the slow ones
    assert signals.get("gpu.slow_step_ratio").value == pytest.approx(1.8, abs=0.01)
    assert signals.get("gpu.clock_full_share").value == pytest.approx(1980 / 1981)
    assert signals.get("gpu.thermal_time_share").value == pytest.approx(4 / 39, abs=0.01)


def test_heat_that_slows_nothing_down_is_no_finding(driver):
    """A training that waits for its data does not mind."""
    assert hardware_findings(run_of(driver, ALONE + THERMAL, trainer())) == {}


def test_a_power_limit_at_full_load_is_a_note(driver):
    capped = "\n0 0 reasons 0x4\n0 0 sm_clock 1500\n0 0 power 399000"
    finding = hardware_findings(run_of(driver, ALONE + capped))["hw-throttle"]
    assert (finding.severity, finding.gain) == ("info", None)
    assert "usual for large products" in finding.summary


def test_a_power_brake(driver):
    brake = "\n8 0 reasons 0x88\n8 0 sm_clock 800"
    process = trainer(phases=slower_from(8, 210.0))
    finding = hardware_findings(run_of(driver, ALONE + brake, process))["hw-throttle"]
    assert "an external power brake" in finding.summary
    assert "°C" not in finding.summary


def test_the_slowest_of_several_cards_is_named(driver):
    hot = "\n0 1 pid0 100\n0 1 pid1 -1\n0 1 reasons 0x60\n0 1 sm_clock 700\n0 1 temperature 93"
    process = trainer(devices=("cuda:0", "cuda:1"))
    found = hardware_findings(run_of(driver, "0 * pid1 -1" + hot, process))
    assert found["hw-throttle"].summary.startswith("GPU 1 had lowered clocks at 100 %")


def test_a_hot_card_without_a_process_of_this_run_is_somebody_elses(driver):
    hot = "\n0 1 pid0 101\n0 1 utilization 90\n0 1 reasons 0x60\n0 1 sm_clock 700"
    process = trainer(devices=("cuda:0", "cuda:1"))
    assert hardware_findings(run_of(driver, ALONE + hot, process)) == {}


COPIES = {"h2d": 30.0, "forward": 60.0, "backward": 10.0}


def test_a_narrow_link_under_load(driver):
    finding = hardware_findings(run_of(driver, ALONE + "\n0 0 width 4", trainer(phases=COPIES)))[
        "hw-pcie-width"
    ]
    assert "4 of 16 lanes, 25 % of its speed" in finding.summary
    assert finding.severity == "critical"
    assert finding.gain.high == pytest.approx(1 / (1 - 0.3 * 0.75), rel=0.01)


def traced_copies(tmp_path, run):
    """The run with a trace of one step: 4 MiB from page-locked memory in 1 ms, and less in more."""
    events = [("user_annotation", "ProfilerStep#7", 0, 9000, {})]
    for number, (size, length) in enumerate([(4 << 20, 1000), (1 << 10, 500)]):
        joined = {"correlation": number + 1}
        events.append(("cuda_runtime", "cudaMemcpyAsync", 10 + 2000 * number, 5, joined))
        told = {"device": 0, "stream": 7, "bytes": size, **joined}
        name = "Memcpy HtoD (Pinned -> Device)"
        events.append(("gpu_memcpy", name, 20 + 2000 * number, length, told))
    keys = ("cat", "name", "ts", "dur", "args")
    rows = [{"ph": "X", "pid": 1, "tid": 1, **dict(zip(keys, one, strict=True))} for one in events]
    path = tmp_path / "a-step-7.pt.trace.json"
    path.write_text(json.dumps({"traceEvents": rows}))
    process = Path(run.sessions[0].trainers[0].folder).name
    return replace(run, traces=(TraceRecord(process, 7, 1, str(path)),))


LINK_SPEED = "copies.h2d_pinned_bytes_per_s"


def test_what_copies_reached_stands_beside_what_a_narrow_link_can_carry(driver, tmp_path):
    run = run_of(driver, ALONE + "\n0 0 width 4", trainer(phases=COPIES))
    evidence = hardware_findings(traced_copies(tmp_path, run))["hw-pcie-width"].evidence
    told = {one.signal: one.value for one in evidence}
    assert told["gpu.pcie_bytes_per_s"] == pytest.approx(4 * 3.938e9)
    assert told[LINK_SPEED] == pytest.approx((4 << 20) / 1e-3)


def test_without_a_trace_a_narrow_link_is_told_without_what_copies_reached(driver):
    found = diagnose(run_of(driver, ALONE + "\n0 0 width 4", trainer(phases=COPIES)))
    signal = found.facts["signals"][LINK_SPEED]
    assert signal == {
        "value": None,
        "unit": "bytes/s",
        "reason": "no trace of a few steps was read",
    }
    finding = next(one for one in found.findings if one.rule == "hw-pcie-width")
    assert "gpu.pcie_bytes_per_s" in [one.signal for one in finding.evidence]
    assert LINK_SPEED not in [one.signal for one in finding.evidence]


def test_of_several_cards_nobody_knows_whose_copies_were_measured(driver, tmp_path):
    process = trainer(devices=("cuda:0", "cuda:1"), phases=COPIES)
    scenario = "0 * pid1 -1\n0 1 pid0 100\n0 1 pid1 -1\n0 0 width 4"
    found = diagnose(traced_copies(tmp_path, run_of(driver, scenario, process)))
    assert found.facts["signals"]["gpu.devices"]["value"] == "0, 1"
    signal = found.facts["signals"][LINK_SPEED]
    assert signal["value"] is None
    assert "several GPUs" in signal["reason"]


def test_a_link_that_rests_while_the_card_is_idle_is_no_fault(driver):
    rests = "".join(
        f"\n{look} 0 utilization {3 if look % 2 else 80}\n{look} 0 width {4 if look % 2 else 16}"
        f"\n{look} 0 generation {1 if look % 2 else 5}\n{look} 0 reasons {look % 2}"
        for look in range(LOOKS)
    )
    assert hardware_findings(run_of(driver, ALONE + rests, trainer(phases=COPIES))) == {}


def test_a_card_that_was_never_busy_has_no_narrow_link(driver):
    idle = "\n0 0 utilization 4\n0 0 width 1\n0 0 generation 1\n0 0 reasons 1"
    run = run_of(driver, ALONE + idle, trainer(phases=COPIES))
    assert "hw-pcie-width" not in hardware_findings(run)
    assert "busy looks" in signals_of(run).get("gpu.pcie_width").reason


def test_a_busy_neighbour(driver):
    neighbour = ALONE.replace("0 0 pid1 -1", "0 0 pid1 4711\n0 0 pid1_use 45")
    finding = hardware_findings(run_of(driver, neighbour))["hw-shared"]
    assert finding.severity == "warn"
    assert "1 process of others" in finding.summary
    assert "45 % of the multiprocessors' time" in finding.summary


def test_a_neighbour_that_only_holds_memory(driver):
    neighbour = ALONE.replace("0 0 pid1 -1", "0 0 pid1 4711\n0 0 process_use forbidden")
    finding = hardware_findings(run_of(driver, neighbour))["hw-shared"]
    assert finding.severity == "info"
    assert "what they computed is not told" in finding.summary


def test_processes_under_the_numbers_of_the_host_prove_no_neighbour(driver):
    container = ALONE.replace("0 0 pid1 -1", "0 0 pid0 90001\n0 0 pid1 90002")
    run = run_of(driver, container, environment={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert "hw-shared" not in hardware_findings(run)
    signals = signals_of(run)
    assert "a container?" in signals.get("gpu.other_processes").reason
    assert signals.get("gpu.known_by").value == "number of torch's device"


def test_a_split_card(driver):
    split = "\n0 0 mig 1\n0 0 utilization unsupported\n0 0 process_use unsupported"
    run = run_of(driver, ALONE + split, environment={"CUDA_VISIBLE_DEVICES": "MIG-fake-0-1"})
    assert hardware_findings(run) == {}
    signals = signals_of(run)
    assert signals.get("gpu.mig").value is True
    assert "split" in signals.get("gpu.utilization_share").reason
    assert (
        signals.get("gpu.busy_looks").value == signals.get("gpu.looks").value
    )  # by the driver's mark of idleness


def test_a_split_card_that_gets_too_hot(driver):
    split = "\n0 0 mig 1\n0 0 utilization unsupported\n"
    process = trainer(phases=slower_from(15, 180.0))
    assert set(hardware_findings(run_of(driver, ALONE + split + THERMAL, process))) == {
        "hw-throttle"
    }


def test_without_permission_nothing_is_guessed(driver):
    forbidden = "\n0 * reasons forbidden\n0 * processes forbidden\n0 * sm_clock forbidden"
    run = run_of(driver, ALONE + forbidden, environment={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert hardware_findings(run) == {}
    skipped = {one.rule: one.reason for one in diagnose(run).skipped_rules}
    assert skipped["hw-throttle"] == "the driver does not tell"
    assert "container" in skipped["hw-shared"]


def test_a_driver_that_goes_in_mid_run(driver):
    run = run_of(driver, ALONE + THERMAL + "\n34 * any gone", trainer(phases=slower_from(15, 180)))
    assert "hw-throttle" in hardware_findings(run)  # what was seen before counts
    (status,) = [one for one in diagnose(run).collectors if one.name == "gpu"]
    assert (status.status, "answered no more" in status.reason) == ("failed", True)


def test_a_driver_that_is_gone_before_the_steady_steps(driver):
    run = run_of(driver, ALONE + "\n1 * any gone")
    assert hardware_findings(run) == {}
    assert signals_of(run).get("gpu.clock_share").lost


@pytest.mark.parametrize(
    ("trouble", "severity"),
    [
        ("20 0 ecc_uncorrected 1", "critical"),
        ("20 0 rows_uncorrected 1", "warn"),
        ("20 0 rows_pending 1", "warn"),
        ("20 0 rows_failed 1", "critical"),
    ],
)
def test_memory_that_fails(driver, trouble, severity):
    found = hardware_findings(run_of(driver, f"{ALONE}\n{trouble}"))
    assert found["hw-ecc"].severity == severity


def test_errors_of_earlier_days_are_none_of_this_run(driver):
    old = "\n0 0 ecc_uncorrected 12\n0 0 rows_uncorrected 3\n20 0 ecc_corrected 40"
    assert hardware_findings(run_of(driver, ALONE + old)) == {}


TROUBLE = ALONE + THERMAL + "\n0 0 width 4\n20 0 ecc_uncorrected 3\n0 0 pid0 4711\n0 0 pid1 4712"


def test_a_training_on_the_cpu_is_told_nothing_of_a_neighbours_card(driver):
    process = trainer(devices=("cpu",), phases=slower_from(15, 180.0))
    run = run_of(driver, TROUBLE, process)
    assert hardware_findings(run) == {}
    skipped = {one.rule for one in diagnose(run).skipped_rules}
    assert not skipped & {"hw-throttle", "hw-pcie-width", "hw-ecc", "hw-shared"}
    assert "no NVIDIA GPU" in signals_of(run).get("gpu.clock_share").reason
    assert signals_of(run).get("cost.gpu_energy_per_step_j").value is None


LITTLE = ALONE + "\n0 0 utilization 12\n0 0 memory_used 4000000000"


def test_a_card_with_little_to_do_and_its_price(driver):
    run = run_of(driver, LITTLE)
    finding = hardware_findings(run, Costs(price_per_hour=3.6, currency="EUR"))["hw-gpu-underused"]
    assert (finding.severity, finding.gain) == ("info", None)
    assert "Kernels ran 12 % of the time, and at most 5.0 % of" in finding.summary
    assert "of 1,000 steps, 0.088 EUR pay for idle time" in finding.summary
    assert "EUR" not in hardware_findings(run)["hw-gpu-underused"].summary


def test_a_card_that_waits_for_data_is_not_called_too_large(driver):
    process = trainer(phases={"data_wait": 70.0, "forward": 30.0})
    assert "hw-gpu-underused" not in hardware_findings(run_of(driver, LITTLE, process))


def test_what_promises_time_hides_that_a_card_has_little_to_do(driver):
    """The collector's pauses are mended first."""
    collections = [
        Event("gc", START_NS + i * 10**9, 500 * MS, {"generation": 2}) for i in range(38)
    ]
    phases = {"forward": 91.0, "gc": 9.0}
    process = replace(trainer(phases=phases), events=tuple(collections))
    found = diagnose(run_of(driver, LITTLE, process))
    promised = [one for one in found.findings if one.gain is not None]
    listed = {one.rule for one in found.findings}
    if not promised:
        pytest.fail("the built run promises no time, and proves nothing")
    assert "hw-gpu-underused" not in listed
    assert any("hw-gpu-underused" in one.suppresses for one in promised)


LAYERS = {"layers": [{"name": f"l{i}", "flops": 4 * 10**9} for i in range(10)]}
FREE = """
0 * pid0 -1
0 * pid1 -1
0 * utilization 0
0 * memory_used 500000000
0 * reasons 1
"""


def on_cpu(argv=("python", "train.py"), **flags):
    process = trainer(
        devices=("cpu",), phases={"forward": 30.0, "backward": 60.0, "optimizer": 10.0}
    )
    facts = tuple(
        replace(fact, data=flags | {"num_threads": 4}) if fact.kind == "flags" else fact
        for fact in process.facts
    )
    units = Fact("units", "all", START_NS, LAYERS)
    return replace(process, facts=(*facts, units), info=replace(process.info, argv=argv))


def test_an_idle_card_beside_a_training_on_the_cpu(driver):
    finding = hardware_findings(run_of(driver, FREE, on_cpu()))["hw-no-accel"]
    assert finding.severity == "warn"
    assert "this torch was built without CUDA" in finding.summary
    rate = 3 * 10 * 4e9 / 0.09
    assert f"{rate / 1e9:.3g} GFLOP/s" in finding.summary
    ratio = 0.3 * 2 * 16896 * 1981e6 / rate
    assert finding.gain.high == pytest.approx(1 / (1 - 0.9 * (1 - 1 / ratio)))
    built = hardware_findings(run_of(driver, FREE, on_cpu(torch_cuda_build="12.8")))["hw-no-accel"]
    assert "the model was not moved to it" in built.summary


@pytest.mark.parametrize(
    ("scenario", "argv", "info"),
    [
        (FREE, ("python", "train.py", "--device", "cpu"), {}),
        (FREE, ("python", "train.py", "--device=cpu"), {}),
        (FREE, ("python", "train.py", "trainer.accelerator=cpu"), {}),
        (FREE, ("python", "train.py", "--no-cuda"), {}),
        (FREE, ("python", "train.py", "--no_cuda"), {}),
        (FREE, ("python", "train.py", "--use_cpu"), {}),
        (FREE, ("python", "train.py", "--cpu"), {}),
        (FREE, ("python", "train.py", "--gpus", "0"), {}),
        (FREE, ("python", "train.py"), {"environment": {"CUDA_VISIBLE_DEVICES": ""}}),
        (FREE, ("python", "train.py"), {"environment": {"CUDA_VISIBLE_DEVICES": "-1"}}),
        (FREE + "0 * utilization 40", ("python", "train.py"), {}),
        (FREE + "0 * pid0 4711", ("python", "train.py"), {}),
        (FREE + "0 * memory_used 30000000000", ("python", "train.py"), {}),
        (FREE + "0 * utilization unsupported", ("python", "train.py"), {}),
        (FREE + "0 * cores unsupported", ("python", "train.py"), {}),
    ],
)
def test_a_card_that_the_training_shall_not_or_cannot_use(driver, scenario, argv, info):
    assert hardware_findings(run_of(driver, scenario, on_cpu(argv), **info)) == {}


@pytest.mark.parametrize(
    "argv", [("train.py", "--cpu-threads", "4"), ("train.py", "--data=cpu_db")]
)
def test_words_that_keep_no_card_away(driver, argv):
    assert "hw-no-accel" in hardware_findings(run_of(driver, FREE, on_cpu(argv)))


def test_cards_that_take_turns(driver):
    turns = "".join(
        f"\n{look} {card} utilization {100 if look % 2 == card else 0}"
        for look in range(LOOKS)
        for card in (0, 1)
    )
    both = "\n0 0 pid0 100\n0 0 pid1 -1\n0 1 pid0 100\n0 1 pid1 -1"
    process = trainer(devices=("cuda:0", "cuda:1"))
    process = replace(process, info=replace(process.info, world_size=1))
    run = run_of(driver, both + turns, process)
    assert signals_of(run).get("gpu.devices").value == "0, 1"
    (finding,) = [one for one in diagnose(run).findings if one.rule == "dist-naive-mp"]
    assert "on 2 GPUs, of which 1 are busy at a time" in finding.summary
    assert finding.gain.high == 2.0


@pytest.mark.parametrize(
    ("info", "uuids", "indices", "known_by"),
    [
        ({}, ["fake-1"], "1", "UUID of torch's device"),
        ({"environment": {"CUDA_VISIBLE_DEVICES": "1"}}, None, "0", "processes on it"),
    ],
)
def test_which_card_is_this_trainings(driver, info, uuids, indices, known_by):
    signals = signals_of(run_of(driver, ALONE, trainer(uuids=uuids), **info))
    assert signals.get("gpu.devices").value == indices
    assert signals.get("gpu.known_by").value == known_by


STRANGERS = "\n0 0 pid0 90001\n0 1 pid0 90002"


@pytest.mark.parametrize(
    ("environment", "scenario", "indices", "known_by"),
    [
        ({"CUDA_VISIBLE_DEVICES": "GPU-fake-1"}, "", "1", "CUDA_VISIBLE_DEVICES"),
        ({"CUDA_VISIBLE_DEVICES": "1,0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "", "1", None),
        ({"CUDA_VISIBLE_DEVICES": "1"}, "", None, "could not be told"),  # fastest first?
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, "", "0", "number of torch's device"),
        ({}, "\n0 * count 1", "0", "the only GPU here"),
    ],
)
def test_by_what_a_card_is_known(driver, environment, scenario, indices, known_by):
    run = run_of(driver, ALONE + STRANGERS + scenario, environment=environment)
    signal = signals_of(run).get("gpu.devices")
    assert signal.value == indices
    if indices is None:
        assert known_by in signal.reason
    elif known_by is not None:
        assert signals_of(run).get("gpu.known_by").value == known_by


def test_looks_lie_within_the_built_steps(driver):
    run = run_of(driver, ALONE)
    first, last = run.samples[0].at_ns, run.samples[-1].at_ns
    assert START_NS <= first < last <= START_NS + 400 * 100 * MS
    assert last - first == (LOOKS - 1) * SECOND
