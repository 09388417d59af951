"""Memory of the GPUs, by NVIDIA's management library; no other file imports it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


class GpuMemory(NamedTuple):
    """Memory of one GPU, whoever uses it.

    Attributes:
        number: Its number in NVIDIA's order.
        used: Bytes.
        total: Bytes.
    """

    number: int
    used: int
    total: int


def gpu_memory() -> Iterator[GpuMemory]:
    """Of each GPU of the machine; nothing without `nvidia-ml-py`, a driver or a GPU."""
    nvml = _nvml()
    if nvml is None:
        return
    for index in range(nvml.nvmlDeviceGetCount()):
        memory = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByIndex(index))
        yield GpuMemory(index, memory.used, memory.total)


@cache
def _nvml() -> ModuleType | None:
    try:
        # Not everybody who serves needs it.
        import pynvml
    except ModuleNotFoundError:
        return None
    nvml: ModuleType = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        # No driver.
        return None
    return nvml
