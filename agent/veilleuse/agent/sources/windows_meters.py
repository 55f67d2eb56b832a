# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The two ways to Windows' energy meters: the devices themselves, and the performance counters made of them.

Sources: Windows documentation, Energy Meter Interface and emi.h; pdh.h. The counters' raw value is the cumulative picowatt-hours
(type PERF_COUNTER_LARGE_RAWCOUNT), the same as the device's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from veilleuse.agent.errors import PointsChanged, ReadFailed
from veilleuse.agent.platforms.windows.calls import ERROR_ACCESS_DENIED, CallFailed, CounterCalls, DeviceCalls
from veilleuse.agent.platforms.windows.structures import (
    EMI_PICOWATT_HOURS,
    EnergyChannel,
    EnergyValue,
    emi_channels,
    emi_measurements,
    emi_metadata_size,
    emi_version,
    measurement_bytes,
)

METER_INTERFACE: Final = "{45BD8344-7ED6-49cf-A440-C276C933B053}"
"""GUID_DEVICE_ENERGY_METER."""
GET_VERSION, GET_METADATA_SIZE, GET_METADATA, GET_MEASUREMENT = 0x224000, 0x224004, 0x224008, 0x22400C
"""IOCTL_EMI_…: CTL_CODE(FILE_DEVICE_UNKNOWN, 0 to 3, METHOD_BUFFERED, FILE_READ_ACCESS)."""
COUNTER: Final = r"\Energy Meter(*)\Energy"
"""In English: PdhAddEnglishCounterW takes it on every Windows, whatever its language."""


class NothingThere(Exception):
    """This way leads to no channel."""

    def __init__(self, reason: str, *, denied: bool = False) -> None:
        """`denied`: there is something, and this user may not read it."""
        super().__init__(reason)
        self.denied = denied


class _Device:
    """One open device."""

    def __init__(self, calls: DeviceCalls, path: str) -> None:
        """Opens and asks what it meters. Raises CallFailed, or ValueError on what is not understood."""
        self._calls = calls
        self.handle = calls.open(path)
        try:
            self.channels = self._described()
        except (CallFailed, ValueError):
            self.close()
            raise

    def _described(self) -> tuple[EnergyChannel, ...]:
        ask = self._calls.control
        version = emi_version(ask(self.handle, GET_VERSION, b"", 2))
        size = emi_metadata_size(ask(self.handle, GET_METADATA_SIZE, b"", 4))
        return emi_channels(version, ask(self.handle, GET_METADATA, b"", size))

    def measured(self) -> tuple[EnergyValue, ...]:
        """A value for each channel. Raises CallFailed or ValueError."""
        size = measurement_bytes(len(self.channels))
        return emi_measurements(
            self._calls.control(self.handle, GET_MEASUREMENT, b"", size), len(self.channels)
        )

    def close(self) -> None:
        """Give the handle back."""
        self._calls.close(self.handle)


class Devices:
    """All energy meters of the machine. A device that fails is closed, and opened again at the next read."""

    def __init__(self, calls: DeviceCalls) -> None:
        self._calls = calls
        self._open: dict[str, _Device | None] = {}
        """None = it was there, and has to be opened again."""
        self._described: dict[str, tuple[EnergyChannel, ...]] = {}

    def open(self) -> tuple[tuple[object, str], ...]:
        """((path, index), name) of the channels that count in picowatt-hours. Raises NothingThere."""
        troubles: list[str] = []
        denied = False
        for path in self._paths():
            try:
                device = _Device(self._calls, path)
            except CallFailed as error:
                denied = denied or error.code == ERROR_ACCESS_DENIED
                troubles.append(str(error))
            except ValueError as error:
                troubles.append(str(error))
            else:
                self._open[path], self._described[path] = device, device.channels
        found = tuple(
            ((path, index), channel.name)
            for path, channels in sorted(self._described.items())
            for index, channel in enumerate(channels)
            if channel.unit == EMI_PICOWATT_HOURS
        )
        if not found:
            why = f": {troubles[0]}" if troubles else ""
            raise NothingThere(f"no energy meter device{why}", denied=denied)
        return found

    def read(self) -> Mapping[object, EnergyValue]:
        """What can be read now. Raises ReadFailed when nothing can; PointsChanged when a device is not what it was."""
        values: dict[object, EnergyValue] = {}
        trouble = ""
        for path, device in self._open.items():
            try:
                ready = device or self._again(path)
                measured = ready.measured()
            except (CallFailed, ValueError) as error:
                trouble = str(error)
                self._drop(path)
                continue
            values |= {(path, index): value for index, value in enumerate(measured)}
        if not values:
            if trouble and self._moved():
                raise PointsChanged("the energy meters are other devices now")
            raise ReadFailed(f"no energy meter answers: {trouble}")
        return values

    def keep(self, keys: Collection[object]) -> None:
        """Give back the devices that none of these channels is on: they would be read for nothing."""
        wanted = {key[0] for key in keys if isinstance(key, tuple)}
        for path in [path for path in self._open if path not in wanted]:
            self._drop(path)
            del self._open[path], self._described[path]

    def close(self) -> None:
        """Give all handles back."""
        for path in self._open:
            self._drop(path)
        self._open, self._described = {}, {}

    def _again(self, path: str) -> _Device:
        device = _Device(self._calls, path)
        if device.channels != self._described[path]:
            device.close()
            raise PointsChanged("an energy meter has other channels now")
        self._open[path] = device
        return device

    def _drop(self, path: str) -> None:
        device = self._open[path]
        if device is not None:
            device.close()
            self._open[path] = None

    def _moved(self) -> bool:
        """Whether meters are present, but none of those that were opened: a driver was installed anew."""
        try:
            present = set(self._calls.interfaces(METER_INTERFACE))
        except CallFailed:
            return False
        return bool(present) and present.isdisjoint(self._open)

    def _paths(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(set(self._calls.interfaces(METER_INTERFACE))))
        except CallFailed as error:
            raise NothingThere(f"no energy meter device: {error}") from error


class PerformanceCounters:
    """The same meters as Windows' performance counters. No time of measurement is told."""

    def __init__(self, calls: CounterCalls) -> None:
        self._calls = calls
        self._query: int | None = None

    def open(self) -> tuple[tuple[object, str], ...]:
        """(instance, instance). Raises NothingThere when there is none, or only `_Total`, which is always 0."""
        try:
            self._query = self._calls.counter_open(COUNTER)
            found = self._calls.counter_read(self._query)
        except CallFailed as error:
            raise NothingThere(
                f"no performance counter of energy: {error}", denied=error.code == ERROR_ACCESS_DENIED
            ) from error
        names = sorted({one.instance for one in found if one.instance and one.instance != "_Total"})
        if not names:
            raise NothingThere("the performance counter of energy has no instance")
        return tuple((name, name) for name in names)

    def read(self) -> Mapping[object, EnergyValue]:
        """What can be read now. Raises ReadFailed."""
        if self._query is None:
            raise ReadFailed("the performance counter is not open")
        try:
            found = self._calls.counter_read(self._query)
        except CallFailed as error:
            raise ReadFailed(f"no performance counter of energy: {error}") from error
        return {one.instance: EnergyValue(one.value, 0) for one in found if one.value >= 0}

    def keep(self, keys: Collection[object]) -> None:
        """One query reads them all."""

    def close(self) -> None:
        """Give the query back."""
        if self._query is not None:
            self._calls.counter_close(self._query)
            self._query = None
