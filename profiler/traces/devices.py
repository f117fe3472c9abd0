"""What devices can do at most, from their makers' datasheets; a device that is not here has none.

import msgspec


Dense rates, without the doubling that structured sparsity gives. The sheets:

- V100: https://images.nvidia.com/content/technologies/volta/pdf/volta-v100-datasheet-update-us-1165301-r5.pdf
- T4: https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/tesla-t4/t4-tensor-core-datasheet-951643.pdf
- A100: https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf
- A10: https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a10/pdf/a10-datasheet.pdf
- L4: https://www.nvidia.com/en-us/data-center/l4/
- RTX 3090: https://images.nvidia.com/aem-dam/en-zz/Solutions/geforce/ampere/pdf/NVIDIA-ampere-GA102-GPU-Architecture-Whitepaper-V1.pdf
- RTX 4090: https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf
- RTX A6000: https://www.nvidia.com/en-us/design-visualization/rtx-a6000/
- H100: https://resources.nvidia.com/en-us-tensor-core/nvidia-tensor-core-gpu-datasheet
- H200: https://www.nvidia.com/en-us/data-center/h200/
- B200: https://www.nvidia.com/en-us/data-center/hgx/ (an eighth of the board)
- MI210: https://www.amd.com/en/products/accelerators/instinct/mi200/mi210.html
- MI250X: https://www.amd.com/en/products/accelerators/instinct/mi200/mi250x.html (torch sees each
  of its two dies as a device: half of the sheet)
- MI300X: https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html
"""

from __future__ import annotations

import re

import msgspec


class Device(msgspec.Struct, frozen=True):
    """One model of a device.

    Attributes:
        name: As its maker calls it. tflops: Most dense 10^12 FLOP/s (for int8 operations) by
            precision; of tensor or matrix cores where they take it.
        bandwidth_gbps: Of its memory, 10^9 bytes/s. processors: Streaming multiprocessors or
            compute units. capability: NVIDIA's compute capability; None for AMD.
    """

    name: str
    tflops: dict[str, float]
    bandwidth_gbps: float
    processors: int
    capability: tuple[int, int] | None

    def ridge(self, precision: str) -> float | None:
        """FLOP per byte from which computing takes longer than memory; None if unknown."""
        most = self.tflops.get(precision)
        return None if most is None else most * 1e3 / self.bandwidth_gbps


def _rates(
    fp64: float, fp32: float, tf32: float, half: float, fp8: float = 0.0
) -> dict[str, float]:
    """By precision; 0 for what the device does not have."""
    rates = {"fp64": fp64, "fp32": fp32, "tf32": tf32, "fp16": half, "bf16": half, "fp8": fp8}
    return {precision: rate for precision, rate in rates.items() if rate}


def _before_bf16(fp64: float, fp32: float, fp16: float) -> dict[str, float]:
    return {"fp64": fp64, "fp32": fp32, "fp16": fp16}


_A100 = _rates(19.5, 19.5, 156, 312)
_H100 = _rates(67, 67, 494.5, 989.5, 1979)
_SHEET = (
    ("V100S", Device("V100S PCIe", _before_bf16(8.2, 16.4, 130), 1134, 80, (7, 0))),
    ("V100-PCIE", Device("V100 PCIe", _before_bf16(7.0, 14.0, 112), 900, 80, (7, 0))),
    ("V100-(SXM|DGXS)", Device("V100 SXM", _before_bf16(7.8, 15.7, 125), 900, 80, (7, 0))),
    (r"\bT4$", Device("T4", {"fp32": 8.1, "fp16": 65, "int8": 130}, 320, 40, (7, 5))),
    ("A100 80GB PCIe", Device("A100 PCIe 80 GB", _A100, 1935, 108, (8, 0))),
    ("A100-SXM4-80GB", Device("A100 SXM 80 GB", _A100, 2039, 108, (8, 0))),
    ("A100-(SXM4|PCIE)-40GB", Device("A100 40 GB", _A100, 1555, 108, (8, 0))),
    (r"\bA10$", Device("A10", _rates(0, 31.2, 62.5, 125), 600, 72, (8, 6))),
    ("RTX A6000", Device("RTX A6000", _rates(0, 38.7, 77.4, 154.8), 768, 84, (8, 6))),
    ("RTX 3090$", Device("RTX 3090", _rates(0, 35.6, 35.6, 71), 936, 82, (8, 6))),
    (r"\bL4$", Device("L4", _rates(0, 30.3, 60, 121, 242.5), 300, 58, (8, 9))),
    ("RTX 4090$", Device("RTX 4090", _rates(0, 82.6, 82.6, 165.2, 330.3), 1008, 128, (8, 9))),
    ("H100 PCIe", Device("H100 PCIe", _rates(51, 51, 378, 756, 1513), 2000, 114, (9, 0))),
    ("H100 (80GB HBM3|SXM)", Device("H100 SXM", _H100, 3350, 132, (9, 0))),
    ("H200$", Device("H200", _H100, 4800, 132, (9, 0))),
    (r"\bB200\b", Device("B200", _rates(37, 75, 1125, 2250, 4500), 8000, 148, (10, 0))),
    ("MI210", Device("MI210", _rates(45.3, 45.3, 0, 181), 1638, 104, None)),
    ("MI250X", Device("a die of MI250X", _rates(47.9, 47.9, 0, 191.5), 1638, 110, None)),
    ("MI300X", Device("MI300X", _rates(163.4, 163.4, 653.7, 1307.4, 2614.9), 5300, 304, None)),
)
"""By what the driver's name for the device holds."""
_KNOWN = tuple((re.compile(pattern), device) for pattern, device in _SHEET)


def find_device(name: str | None) -> Device | None:
    """The sheet of a device by the name that its driver gives it; None for one that is not here."""
    if not name:
        return None
    return next((device for pattern, device in _KNOWN if pattern.search(name)), None)
