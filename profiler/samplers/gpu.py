"""Looks at the GPUs through NVML (`pynvml`, the module of nvidia-ml-py).

Each figure is asked for by itself: what a card, a driver or a permission does not allow is None.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.records import GpuSample
from trainprof.profiler.samplers.notes import CollectorNotes
from trainprof.profiler.samplers.procfs import read_text

NVLINKS_MAX = 36
"""NVML_NVLINK_MAX_LINKS; the first link that a card does not have ends the count."""

UNKNOWN = -1
"""Of a process: what the driver does not tell."""


class GpuSampler:
    """Samples every GPU the driver shows; without a driver there are none, and a reason says so.

    NVML is not shut down at the end: a call may still hang in a lost driver, and the process ends.

    Args:
        system: Where /sys is.
    """

    def __init__(self, system: Path = Path("/sys")) -> None:
        self._notes = CollectorNotes("gpu")
        self._gpus: list[_Gpu] = []
        self._turn = 0
        try:
            import pynvml
        except ImportError:
            self._notes.lack("library", "the package nvidia-ml-py is not installed")
            return
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            self._notes.lack("driver", _why_no_driver(pynvml, error))
            return
        for index in range(count):
            try:
                self._gpus.append(_Gpu(pynvml, index, self._notes, system))
            except pynvml.NVMLError as error:
                self._notes.lack(f"gpu {index}", f"GPU {index} cannot be looked at ({error})")
        if count == 0:
            self._notes.lack("driver", "the NVIDIA driver shows no GPU here")

    @property
    def names(self) -> tuple[str, ...]:
        """Model names of the GPUs, in the driver's order."""
        return tuple(gpu.name or "unknown GPU" for gpu in self._gpus)

    def sample(self, slow_figures: bool = True) -> tuple[GpuSample, ...]:
        """One look at each GPU; one that stopped answering is left out from then on.

        Args:
            slow_figures: Ask one GPU, another at each look, for its PCIe traffic, its NVLinks and
                what each process makes of it, too. NVML measures traffic over 20 ms in each
                direction, and the call waits meanwhile.
        """
        samples = []
        asked = self._gpus[self._turn % len(self._gpus)] if self._gpus and slow_figures else None
        self._turn += slow_figures
        for gpu in list(self._gpus):
            sample = gpu.sample(slow_figures=gpu is asked)
            if sample is None:
                self._gpus.remove(gpu)
            else:
                samples.append(sample)
                self._notes.deliver()
        return tuple(samples)

    def statuses(self) -> tuple[CollectorStatus, ...]:
        """What could be measured of the GPUs."""
        return (self._notes.status(),)


class _Gpu:
    """One card. What never changes is read once.

    Raises:
        NVMLError: the driver gives no access to it at all.
    """

    def __init__(self, nvml: Any, index: int, notes: CollectorNotes, system: Path) -> None:
        self._nvml = nvml
        self._index = index
        self._notes = notes
        self._answers = 0
        self._lost = False
        self._last_error = ""
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.name = self._text("name", "nvmlDeviceGetName")
        self._uuid = self._text("UUID", "nvmlDeviceGetUUID")
        self._sm_clock_max_mhz = self._ask(
            "highest SM clock", "nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM
        )
        self._reasons_function = self._reasons_known_as()
        self._pcie_generation_max = self._ask("PCIe limits", "nvmlDeviceGetMaxPcieLinkGeneration")
        self._pcie_width_max = self._ask("PCIe limits", "nvmlDeviceGetMaxPcieLinkWidth")
        self._temperature_slowdown_c = self._ask(
            "slowdown temperature",
            "nvmlDeviceGetTemperatureThreshold",
            nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN,
        )
        self._cuda_cores = self._ask("number of CUDA cores", "nvmlDeviceGetNumGpuCores")
        self._numa_node = self._nearest_node(system)
        self._uses_seen_us = 0

    def sample(self, slow_figures: bool) -> GpuSample | None:
        """All figures; None, and a failure noted, once the card answers nothing at all."""
        nvml, ask = self._nvml, self._ask
        self._answers = 0
        used = ask("utilisation", "nvmlDeviceGetUtilizationRates")
        memory = ask("memory", "nvmlDeviceGetMemoryInfo")
        processes = ask("processes", "nvmlDeviceGetComputeRunningProcesses") or ()
        remapped = ask("remapped rows", "nvmlDeviceGetRemappedRows")
        mig = ask("MIG", "nvmlDeviceGetMigMode")
        sample = GpuSample(
            index=self._index,
            uuid=self._uuid,
            name=self.name,
            utilization_share=used.gpu / 100 if used else None,
            memory_utilization_share=used.memory / 100 if used else None,
            memory_used_bytes=memory.used if memory else None,
            memory_total_bytes=memory.total if memory else None,
            power_w=_from_milli(ask("power", "nvmlDeviceGetPowerUsage")),
            power_limit_w=_from_milli(ask("power limit", "nvmlDeviceGetEnforcedPowerLimit")),
            energy_total_j=_from_milli(ask("energy", "nvmlDeviceGetTotalEnergyConsumption")),
            temperature_c=ask("temperature", "nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            sm_clock_mhz=ask("SM clock", "nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            sm_clock_max_mhz=self._sm_clock_max_mhz,
            memory_clock_mhz=ask("memory clock", "nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            clock_event_reasons=ask("clock event reasons", self._reasons_function),
            pcie_generation=ask("PCIe link", "nvmlDeviceGetCurrPcieLinkGeneration"),
            pcie_generation_max=self._pcie_generation_max,
            pcie_width=ask("PCIe link", "nvmlDeviceGetCurrPcieLinkWidth"),
            pcie_width_max=self._pcie_width_max,
            pcie_received_bytes_per_s=self._traffic("RX") if slow_figures else None,
            pcie_sent_bytes_per_s=self._traffic("TX") if slow_figures else None,
            nvlink_active=self._nvlinks() if slow_figures else None,
            ecc_errors_corrected_total=self._ecc("CORRECTED"),
            ecc_errors_uncorrected_total=self._ecc("UNCORRECTED"),
            process_pids=tuple(process.pid for process in processes),
            process_memory_bytes=_known(process.usedGpuMemory for process in processes),
            process_sm_shares=self._uses(processes) if slow_figures and processes else (),
            performance_state=self._state(),
            temperature_slowdown_c=self._temperature_slowdown_c,
            power_violation_total_ns=self._violation("POWER"),
            thermal_violation_total_ns=self._violation("THERMAL"),
            pcie_replays_total=ask("PCIe replays", "nvmlDeviceGetPcieReplayCounter"),
            rows_remapped_total=remapped[0] + remapped[1] if remapped else None,
            rows_remap_pending=bool(remapped[2]) if remapped else None,
            rows_remap_failed=bool(remapped[3]) if remapped else None,
            mig_enabled=bool(mig[0]) if mig else None,
            mig_uuids=self._instances() if mig and mig[0] else (),
            cuda_cores=self._cuda_cores,
            numa_node=self._numa_node,
        )
        if self._lost or not self._answers:
            self._notes.fail(f"GPU {self._index} answered no more in mid-run ({self._last_error})")
            return None
        return sample

    def _ask(self, figure: str, function: str, *arguments: Any) -> Any:
        """The answer of one NVML function, or None and a note."""
        try:
            answer = getattr(self._nvml, function)(self._handle, *arguments)
        except AttributeError:  # an older pynvml does not know the function
            self._notes.remark(figure, f"no {figure}")
            return None
        except self._nvml.NVMLError as error:
            self._note(figure, error)
            return None
        self._answers += 1
        return answer

    def _text(self, figure: str, function: str) -> str | None:
        answer = self._ask(figure, function)
        return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer

    def _reasons_known_as(self) -> str:
        """The function that tells why clocks are lowered: it has another name before driver 535."""
        name = "nvmlDeviceGetCurrentClocksEventReasons"
        try:
            getattr(self._nvml, name)(self._handle)
        except AttributeError:
            return "nvmlDeviceGetCurrentClocksThrottleReasons"
        except self._nvml.NVMLError as error:
            if error.value == self._nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                return "nvmlDeviceGetCurrentClocksThrottleReasons"
        return name

    def _traffic(self, direction: str) -> int | None:
        counter = getattr(self._nvml, f"NVML_PCIE_UTIL_{direction}_BYTES")
        kilobytes = self._ask("PCIe traffic", "nvmlDeviceGetPcieThroughput", counter)
        return None if kilobytes is None else kilobytes * 1000

    def _ecc(self, kind: str) -> int | None:
        """Errors since the driver was loaded."""
        counter = getattr(self._nvml, f"NVML_MEMORY_ERROR_TYPE_{kind}")
        count: int | None = self._ask(
            "ECC", "nvmlDeviceGetTotalEccErrors", counter, self._nvml.NVML_VOLATILE_ECC
        )
        return count

    def _state(self) -> int | None:
        """0 is the fastest performance state, 15 the slowest."""
        state = self._ask("performance state", "nvmlDeviceGetPerformanceState")
        return None if state is None or state == self._nvml.NVML_PSTATE_UNKNOWN else int(state)

    def _violation(self, policy: str) -> int | None:
        number = getattr(self._nvml, f"NVML_PERF_POLICY_{policy}")
        times = self._ask("time of lowered clocks", "nvmlDeviceGetViolationStatus", number)
        return None if times is None else int(times.violationTime)

    def _uses(self, processes: Any) -> tuple[float, ...]:
        """Part of the multiprocessors' time that each process took, since the last such look."""
        function = "nvmlDeviceGetProcessUtilization"
        uses = self._ask("use by process", function, self._uses_seen_us) or ()
        by_pid: dict[int, list[float]] = {}
        for use in uses:
            self._uses_seen_us = max(self._uses_seen_us, use.timeStamp)
            by_pid.setdefault(use.pid, []).append(use.smUtil / 100)
        means = {pid: sum(shares) / len(shares) for pid, shares in by_pid.items()}
        return _known(means.get(process.pid) for process in processes)

    def _instances(self) -> tuple[str, ...]:
        """UUIDs of the instances of a split GPU."""
        count = self._ask("MIG instances", "nvmlDeviceGetMaxMigDeviceCount") or 0
        found = []
        for index in range(count):
            try:
                instance = self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(self._handle, index)
                uuid = self._nvml.nvmlDeviceGetUUID(instance)
            except self._nvml.NVMLError as error:
                if error.value != self._nvml.NVML_ERROR_NOT_FOUND:
                    self._note("MIG instances", error)
                continue
            found.append(uuid.decode() if isinstance(uuid, bytes) else uuid)
        return tuple(found)

    def _nearest_node(self, system: Path) -> int | None:
        """NUMA node of the card's PCI slot, by Linux; None on a machine with one node."""
        pci = self._ask("PCI address", "nvmlDeviceGetPciInfo")
        if pci is None:
            return None
        address = pci.busId.decode() if isinstance(pci.busId, bytes) else str(pci.busId)
        domain, _, slot = address.lower().partition(":")
        folder = system / "bus" / "pci" / "devices" / f"{domain[-4:]}:{slot}"
        text = (read_text(folder / "numa_node") or "").strip()
        return int(text) if text.isdecimal() else None  # the kernel says -1 where there is one node

    def _nvlinks(self) -> int | None:
        """Number of active links; None for a card without any."""
        active = None
        for link in range(NVLINKS_MAX):
            try:
                state = self._nvml.nvmlDeviceGetNvLinkState(self._handle, link)
            except self._nvml.NVMLError as error:
                if active is None:
                    self._note("NVLink", error)
                return active
            active = (active or 0) + (state == self._nvml.NVML_FEATURE_ENABLED)
        return active

    def _note(self, figure: str, error: Any) -> None:
        """Sorts a refusal: the card is gone, has no such figure, or may not tell it."""
        nvml = self._nvml
        self._last_error = str(error)
        if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED):
            self._lost = True
        elif error.value == nvml.NVML_ERROR_NOT_FOUND:
            pass  # no process has used the card since the last look
        elif error.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
            self._notes.remark(figure, f"no {figure}")
        else:
            self._notes.lack(figure, f"no {figure} ({error})")


def _known(values: Iterable[Any]) -> tuple[Any, ...]:
    """The values with -1 for None; nothing where all are None."""
    found = tuple(values)
    if all(value is None for value in found):
        return ()
    return tuple(UNKNOWN if value is None else value for value in found)


def _from_milli(thousandths: int | None) -> float | None:
    return None if thousandths is None else thousandths / 1000


def _why_no_driver(nvml: Any, error: Any) -> str:
    if error.value == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return "no NVIDIA driver library (libnvidia-ml.so.1) on this machine"
    return f"the NVIDIA driver does not answer ({error})"
