# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fake libnvidia-ml: the call table that nvidia-ml-py uses through ctypes. The binding is the real one."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pynvml

NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
LOST = pynvml.NVML_ERROR_GPU_IS_LOST
NOT_FOUND = pynvml.NVML_ERROR_NOT_FOUND


class FakeGpu:
    """One board; None: the driver answers "not supported"; `error`: every call fails with that code."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.energy_millijoules: int | None = 5_000_000
        self.power_milliwatts: int | None = 70_000
        self.limit_milliwatts: int | None = 300_000
        self.error = 0


class FakeNvml:
    """Replaces CDLL("libnvidia-ml.so.1"): functions that take ctypes arguments and return a code."""

    def __init__(self, *gpus: FakeGpu) -> None:
        self.gpus = list(gpus)
        self.init_error = 0
        self.sessions = 0

    def nvmlInitWithFlags(self, _flags: int) -> int:
        if not self.init_error:
            self.sessions += 1
        return self.init_error

    def nvmlShutdown(self) -> int:
        if not self.sessions:
            return int(pynvml.NVML_ERROR_UNINITIALIZED)
        self.sessions -= 1
        return 0

    def nvmlErrorString(self, code: int) -> bytes:
        return f"error {code}".encode()

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = len(self.gpus)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:
        return self._handle(self.gpus[index.value], index.value, device)

    def nvmlDeviceGetHandleByPciBusId_v2(self, address: Any, device: Any) -> int:
        for index, gpu in enumerate(self.gpus):
            if gpu.address == address.value.decode():
                return self._handle(gpu, index, device)
        return int(NOT_FOUND)

    def nvmlDeviceGetPciInfo_v3(self, handle: Any, info: Any) -> int:
        gpu = self._gpu(handle)
        info._obj.busId = f"0000{gpu.address}".encode()
        return gpu.error

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, value: Any) -> int:
        return self._give(handle, value, "energy_millijoules")

    def nvmlDeviceGetPowerUsage(self, handle: Any, value: Any) -> int:
        return self._give(handle, value, "power_milliwatts")

    def nvmlDeviceGetPowerManagementLimitConstraints(self, handle: Any, least: Any, most: Any) -> int:
        least._obj.value = 0
        return self._give(handle, most, "limit_milliwatts")

    def _handle(self, gpu: FakeGpu, index: int, device: Any) -> int:
        if not self.sessions:
            return int(pynvml.NVML_ERROR_UNINITIALIZED)
        if gpu.error:
            return gpu.error
        ctypes.c_void_p.from_buffer(device._obj).value = index + 1  # an opaque pointer, as the driver's
        return 0

    def _gpu(self, handle: Any) -> FakeGpu:
        return self.gpus[(ctypes.cast(handle, ctypes.c_void_p).value or 0) - 1]

    def _give(self, handle: Any, value: Any, name: str) -> int:
        gpu = self._gpu(handle)
        number = getattr(gpu, name)
        if not self.sessions:
            return int(pynvml.NVML_ERROR_UNINITIALIZED)
        if gpu.error or number is None:
            return int(gpu.error or NOT_SUPPORTED)
        value._obj.value = number
        return 0


@contextmanager
def loaded(table: FakeNvml) -> Iterator[FakeNvml]:
    """Let the binding use this table in place of the driver's library while the block runs."""
    before = pynvml.nvmlLib, dict(pynvml._nvmlGetFunctionPointer_cache)
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlLib = table
    try:
        yield table
    finally:
        pynvml.nvmlLib = before[0]
        pynvml._nvmlGetFunctionPointer_cache.clear()
        pynvml._nvmlGetFunctionPointer_cache.update(before[1])
