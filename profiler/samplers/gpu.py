"""Looks at the GPUs through NVML (`pynvml`, the library of nvidia-ml-py).

Each figure is asked for by itself: what a card, a driver or a permission does not allow is None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainprof.profiler.model.records import CollectorStatus, GpuSample
from trainprof.profiler.samplers.notes import CollectorNotes

NVLINKS_MAX = 36
"""NVML_NVLINK_MAX_LINKS; the first link that a card does not have ends the count."""


class GpuSampler:
    """Samples every GPU the driver shows; without a driver there are none, and a reason says so.

    NVML measures PCIe traffic over 20 ms for each direction, and the call waits meanwhile: one GPU
    is asked per look, in turn, and only that one's count of NVLinks too.
    """

    def __init__(self) -> None:
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
            for index in range(pynvml.nvmlDeviceGetCount()):
                self._gpus.append(_Gpu(pynvml, index, self._notes))
        except pynvml.NVMLError as error:
            self._notes.lack("driver", _why_no_driver(pynvml, error))
            return
        if not self._gpus:
            self._notes.lack("driver", "the NVIDIA driver shows no GPU here")

    @property
    def names(self) -> tuple[str, ...]:
        """Model names of the GPUs, in the driver's order."""
        return tuple(gpu.name or "unknown GPU" for gpu in self._gpus)

    def sample(self, slow_figures: bool = True) -> tuple[GpuSample, ...]:
        """One look at each GPU; a GPU that stopped answering is left out from then on.

        Args:
            slow_figures: Ask one GPU for its PCIe traffic and NVLinks too, which takes 40 ms.
        """
        samples = []
        asked = self._gpus[self._turn % len(self._gpus)] if self._gpus else None
        self._turn += slow_figures
        for gpu in list(self._gpus):
            sample = gpu.sample(slow_figures and gpu is asked)
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
    """One card. What never changes is read once."""

    def __init__(self, nvml: Any, index: int, notes: CollectorNotes) -> None:
        self._nvml = nvml
        self._index = index
        self._notes = notes
        self._answers = 0
        self._last_error: str | None = None
        self._lost = False
        self._unsupported: list[str] = []
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.name = self._text("name", nvml.nvmlDeviceGetName)
        self._uuid = self._text("uuid", nvml.nvmlDeviceGetUUID)
        self._sm_clock_max_mhz = self._ask(
            "sm_clock_max", nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM
        )
        self._pcie_generation_max = self._ask(
            "pcie_generation_max", nvml.nvmlDeviceGetMaxPcieLinkGeneration
        )
        self._pcie_width_max = self._ask("pcie_width_max", nvml.nvmlDeviceGetMaxPcieLinkWidth)

    def sample(self, slow_figures: bool) -> GpuSample | None:
        """All figures; None, and a failure noted, once the card answers nothing at all."""
        nvml, ask = self._nvml, self._ask
        self._answers = 0
        utilization = ask("utilization", nvml.nvmlDeviceGetUtilizationRates)
        memory = ask("memory", nvml.nvmlDeviceGetMemoryInfo)
        processes = ask("processes", nvml.nvmlDeviceGetComputeRunningProcesses)
        sample = GpuSample(
            index=self._index,
            uuid=self._uuid,
            name=self.name,
            utilization_share=utilization.gpu / 100 if utilization else None,
            memory_utilization_share=utilization.memory / 100 if utilization else None,
            memory_used_bytes=memory.used if memory else None,
            memory_total_bytes=memory.total if memory else None,
            power_w=_thousandth(ask("power", nvml.nvmlDeviceGetPowerUsage)),
            power_limit_w=_thousandth(ask("power_limit", nvml.nvmlDeviceGetEnforcedPowerLimit)),
            energy_total_j=_thousandth(ask("energy", nvml.nvmlDeviceGetTotalEnergyConsumption)),
            temperature_c=ask(
                "temperature", nvml.nvmlDeviceGetTemperature, nvml.NVML_TEMPERATURE_GPU
            ),
            sm_clock_mhz=ask("sm_clock", nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            sm_clock_max_mhz=self._sm_clock_max_mhz,
            memory_clock_mhz=ask("memory_clock", nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
            clock_event_reasons=self._clock_event_reasons(),
            pcie_generation=ask("pcie_generation", nvml.nvmlDeviceGetCurrPcieLinkGeneration),
            pcie_generation_max=self._pcie_generation_max,
            pcie_width=ask("pcie_width", nvml.nvmlDeviceGetCurrPcieLinkWidth),
            pcie_width_max=self._pcie_width_max,
            pcie_received_bytes_per_s=(
                self._pcie_traffic("pcie_received", nvml.NVML_PCIE_UTIL_RX_BYTES)
                if slow_figures
                else None
            ),
            pcie_sent_bytes_per_s=(
                self._pcie_traffic("pcie_sent", nvml.NVML_PCIE_UTIL_TX_BYTES)
                if slow_figures
                else None
            ),
            nvlink_active=self._nvlinks() if slow_figures else None,
            ecc_errors_corrected_total=self._ecc("ecc", nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
            ecc_errors_uncorrected_total=self._ecc("ecc", nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
            process_pids=tuple(process.pid for process in processes or ()),
        )
        if self._lost or not self._answers:
            self._notes.fail(
                f"GPU {self._index} stopped answering in mid-run ({self._last_error}): its figures "
                "end there"
            )
            return None
        return sample

    def _ask(self, figure: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """The answer of one NVML function, or None."""
        try:
            answer = function(self._handle, *arguments)
        except self._nvml.NVMLError as error:
            self._note(figure, error)
            return None
        self._answers += 1
        return answer

    def _text(self, figure: str, function: Callable[..., Any]) -> str | None:
        answer = self._ask(figure, function)
        return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer

    def _clock_event_reasons(self) -> int | None:
        """The bit mask by its newer name, which drivers before 535 do not know."""
        nvml = self._nvml
        try:
            mask: int = nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle)
        except nvml.NVMLError:
            reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons
            older: int | None = self._ask("clock_event_reasons", reasons)
            return older
        self._answers += 1
        return mask

    def _pcie_traffic(self, figure: str, counter: int) -> int | None:
        kilobytes = self._ask(figure, self._nvml.nvmlDeviceGetPcieThroughput, counter)
        return None if kilobytes is None else kilobytes * 1000

    def _ecc(self, figure: str, kind: int) -> int | None:
        """Errors since the driver was loaded."""
        nvml = self._nvml
        count: int | None = self._ask(
            figure, nvml.nvmlDeviceGetTotalEccErrors, kind, nvml.NVML_VOLATILE_ECC
        )
        return count

    def _nvlinks(self) -> int | None:
        """Active links; None for a card without any."""
        active = None
        for link in range(NVLINKS_MAX):
            try:
                state = self._nvml.nvmlDeviceGetNvLinkState(self._handle, link)
            except self._nvml.NVMLError as error:
                if active is None:
                    self._note("nvlink", error)
                return active
            active = (active or 0) + (state == self._nvml.NVML_FEATURE_ENABLED)
        return active

    def _note(self, figure: str, error: Any) -> None:
        """Sorts one refusal: no such figure, not allowed, or the card is gone."""
        nvml = self._nvml
        self._last_error = str(error)
        if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_UNINITIALIZED):
            self._lost = True
        elif error.value in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
            self._notes.remark(f"{self._index}:{figure}", f"GPU {self._index} has no {figure}")
        else:
            self._notes.lack(f"{self._index}:{figure}", f"GPU {self._index}: no {figure} ({error})")


def _thousandth(milli: int | None) -> float | None:
    return None if milli is None else milli / 1000


def _why_no_driver(nvml: Any, error: Any) -> str:
    if error.value == nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        return "no NVIDIA driver library (libnvidia-ml.so.1) on this machine"
    return f"the NVIDIA driver does not answer ({error})"
