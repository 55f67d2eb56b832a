# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads NVIDIA GPUs through NVML, the driver's own library; nvidia-ml-py is its binding.

Polled, because the library is large and may hang. Reads the energy counter in mJ since the driver was loaded
(Volta and newer), else the power in mW. Source: NVIDIA, NVML API reference, device queries.

A GPU that powers itself down when idle (runtime D3, laptops) is not read: a request would wake it. The
battery's discharge or a meter includes its power anyway.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, ClassVar, Final, NamedTuple, TypeVar

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, PowerGauge, Reading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources import SELF_DETECTING
from veilleuse.agent.sources.files import entries, text_or_none
from veilleuse.wire.limits import fact_text
from veilleuse.wire.units import MICROJOULES_PER_MILLIJOULE, MILLIWATTS_PER_WATT
from veilleuse.wire.vocabulary import Boundary, PointKind

T = TypeVar("T")

CEILING_WATTS: Final = 3_000.0
"""Ceiling of a GPU that reports no power limit. The largest modules of 2025 are limited to 1,400 W."""
LARGEST_MILLIJOULES: Final = 10**15
"""3 kW for ten years: a larger value is an error, not an energy."""
_TRANSIENT: Final = 2.0
"""A GPU exceeds its limit only for milliseconds; a counter read one tick late shows twice its power."""
_REMEDIES: Final = {
    "NVMLError_DriverNotLoaded": "load the driver: `nvidia-smi` must work",
    "NVMLError_LibRmVersionMismatch": "the driver was updated under the running kernel: restart the machine",
    "NVMLError_NoPermission": "let the agent's user read and write /dev/nvidiactl and /dev/nvidia*",
    "NVMLError_LibraryNotFound": "install the driver's library libnvidia-ml (Debian: libnvidia-ml1)",
}
_NEVER: Final = {"NVMLError_NotSupported", "NVMLError_FunctionNotFound"}
_NOT_OURS: Final = {"NVMLError_NotFound", "NVMLError_NoPermission"}
"""Errors of GPUs that are not this container's: procfs shows all GPUs of the machine to every container."""
_WORDS: Final = {"NVMLError_NoPermission": "no_permission", "NVMLError_LibraryNotFound": "missing_library"}


class _Gpu(NamedTuple):
    handle: Any
    """NVML handle; None when the GPU is lost: it is on the bus, but does not answer."""
    point: Point | None
    """The GPU's point; None when the driver gives neither energy nor power: a vGPU."""
    counts: bool
    """True when the GPU has the energy counter."""
    ceiling_watts: float


class NvidiaNvml:
    """`ports.Source`, polled: one point for each GPU board."""

    name = "nvidia_nvml"
    EVERY_SECONDS: ClassVar[int] = 10

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._nvml: Any = None
        self._gpus: tuple[_Gpu, ...] = ()

    def open(self) -> tuple[Point, ...]:
        """Load the library and ask every GPU once. Raises SourceUnavailable.

        Nothing is loaded when there is no driver.
        """
        devfs = self._context.devfs
        if not any(os.path.exists(os.path.join(devfs, name)) for name in SELF_DETECTING[self.name]):
            raise SourceUnavailable("no_device", "no NVIDIA driver is loaded", "")
        awake, asleep = self._addresses()
        if asleep and not awake:
            raise SourceUnavailable(
                "no_device",
                f"the GPU {asleep[0]} powers itself down when idle: reading it would keep it awake",
                "",
            )
        nvml = _import_library()
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise _unavailable("NVML does not start", error) from error
        self._nvml = nvml
        try:
            self._gpus = tuple(self._list_gpus(awake))
        except nvml.NVMLError as error:
            self.close()
            raise _unavailable("NVML shows no GPU", error) from error
        if not self._gpus:
            self.close()
            raise SourceUnavailable("no_device", "the NVIDIA driver has no GPU", "")
        if all(gpu.point is None for gpu in self._gpus):
            self.close()
            raise SourceUnavailable(
                "virtual_machine"
                if self._context.virtualisation not in ("none", "container")
                else "no_device",
                "the driver gives no energy of this GPU: a virtual GPU's is its host's",
                "",
            )
        return tuple(gpu.point for gpu in self._gpus if gpu.point is not None)

    def read(self) -> tuple[Reading, ...]:
        """Return energy or power of each GPU that answers. Raises ReadFailed."""
        readings: list[Reading] = []
        errors: list[str] = []
        for gpu in self._gpus:
            try:
                if gpu.point is not None:
                    readings.append(self._energy(gpu, gpu.point))
            except (self._nvml.NVMLError, ReadFailed) as error:
                errors.append(str(error))
        if not readings:
            raise ReadFailed("; ".join(errors) or "no GPU answers")
        return tuple(readings)

    def close(self) -> None:
        """End the library's session."""
        nvml, self._nvml, self._gpus = self._nvml, None, ()
        if nvml is not None:
            self._ask_or_none(nvml, nvml.nvmlShutdown)

    def _list_gpus(self, awake: tuple[str, ...]) -> Iterator[_Gpu]:
        """Yield the GPUs at these addresses, or all that NVML counts when procfs names none."""
        nvml = self._nvml
        if not awake:
            for index in range(nvml.nvmlDeviceGetCount()):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                yield self._describe_gpu(_text(nvml.nvmlDeviceGetPciInfo(handle).busId), handle)
        for address in awake:
            try:
                handle = nvml.nvmlDeviceGetHandleByPciBusId(address)
            except nvml.NVMLError as error:
                if type(error).__name__ in _NOT_OURS:
                    continue
                yield _Gpu(None, _point(address), False, CEILING_WATTS)
            else:
                yield self._describe_gpu(address, handle)

    def _describe_gpu(self, address: str, handle: Any) -> _Gpu:
        nvml = self._nvml
        counts = self._supports(nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
        powered = counts or self._supports(nvml.nvmlDeviceGetPowerUsage, handle)
        limits = self._ask_or_none(nvml, nvml.nvmlDeviceGetPowerManagementLimitConstraints, handle)
        limit = limits[1] / MILLIWATTS_PER_WATT if limits else 0.0
        ceiling = _TRANSIENT * limit if limit > 0 else CEILING_WATTS
        return _Gpu(handle, _point(address) if powered else None, counts, ceiling)

    def _supports(self, question: Callable[[Any], object], handle: Any) -> bool:
        """Tell whether this GPU supports the request, even when it is not readable now."""
        try:
            question(handle)
        except self._nvml.NVMLError as error:
            return type(error).__name__ not in _NEVER
        return True

    def _energy(self, gpu: _Gpu, point: Point) -> Reading:
        if gpu.handle is None:
            raise ReadFailed(f"{point.domain} does not answer")
        if gpu.counts:
            millijoules = int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle))
            if millijoules > LARGEST_MILLIJOULES:
                raise ReadFailed(f"{point.domain} shows {millijoules} mJ, more than it can ever have used")
            return EnergyCounter(point, millijoules * MICROJOULES_PER_MILLIJOULE, None, gpu.ceiling_watts)
        milliwatts = int(self._nvml.nvmlDeviceGetPowerUsage(gpu.handle))
        if milliwatts > gpu.ceiling_watts * MILLIWATTS_PER_WATT:
            raise ReadFailed(f"{point.domain} shows {milliwatts} mW, above what such a board can draw")
        return PowerGauge(point, milliwatts)

    @staticmethod
    def _ask_or_none(nvml: Any, question: Callable[..., T], *arguments: Any) -> T | None:
        try:
            return question(*arguments)
        except nvml.NVMLError:
            return None

    def _addresses(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return PCI addresses of the driver's GPUs: those always on, those that power themselves down."""
        folder = f"{self._context.procfs}/driver/nvidia/gpus"
        powers_down = {name: _powers_down(f"{folder}/{name}/power") for name in entries(folder)}
        awake = tuple(name for name, does in powers_down.items() if not does)
        return awake, tuple(name for name, does in powers_down.items() if does)


def _point(address: str) -> Point:
    """Name the point by the GPU's bus address: numbers change when a GPU is lost."""
    return Point(PointKind.GPU, fact_text(f"gpu-{_short(address)}") or "gpu", Boundary.COMPONENT)


def _powers_down(path: str) -> bool:
    """Tell whether runtime D3 is on.

    Source: NVIDIA driver README, PCI-Express Runtime D3 (RTD3) Power Management.
    """
    for line in (text_or_none(path) or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "Runtime D3 status":
            return value.strip().startswith("Enabled")
    return False


def _import_library() -> ModuleType:
    try:
        import pynvml  # large, so imported only when there is a driver
    except ImportError as error:
        raise SourceUnavailable(
            "missing_library", "nvidia-ml-py is not installed", "install veilleuse[gpu]"
        ) from error
    library: ModuleType = pynvml
    return library


def _unavailable(what: str, error: Exception) -> SourceUnavailable:
    kind = type(error).__name__
    return SourceUnavailable(_WORDS.get(kind, "no_device"), f"{what}: {error}", _REMEDIES.get(kind, ""))


def _text(name: str | bytes) -> str:
    return name.decode("ascii", "replace") if isinstance(name, bytes) else name


def _short(address: str) -> str:
    """Return `0000_41_00.0` for NVML's `00000000:41:00.0` or the kernel's `0000:41:00.0`."""
    domain, _, rest = address.lower().partition(":")
    return f"{domain[-4:]}_{rest.replace(':', '_')}"
