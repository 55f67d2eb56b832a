# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the processor's energy counters through Windows' Energy Meter Interface.

It needs neither a driver of ours nor administrator rights. The devices are read when they can be opened, else
the performance counters that Windows derives from them. The channels that count are chosen over all devices
together (emi_channels.py): docs/sources.md, windows_emi; codecarbon 1263 (265 W for 154 W).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import ClassVar, Final, Protocol

from veilleuse.agent.errors import PointsChanged, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, Reading
from veilleuse.agent.platforms.windows.calls import (
    ERROR_ACCESS_DENIED,
    CounterCalls,
    DeviceCalls,
    WindowsCallError,
    WindowsCallTable,
)
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
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.emi_channels import Channel, choose_channels
from veilleuse.wire.units import microjoules_from_picowatt_hours
from veilleuse.wire.vocabulary import PointKind

METER_INTERFACE: Final = "{45BD8344-7ED6-49cf-A440-C276C933B053}"
"""GUID_DEVICE_ENERGY_METER."""
GET_VERSION, GET_METADATA_SIZE, GET_METADATA, GET_MEASUREMENT = 0x224000, 0x224004, 0x224008, 0x22400C
"""IOCTL_EMI_…: CTL_CODE(FILE_DEVICE_UNKNOWN, 0 to 3, METHOD_BUFFERED, FILE_READ_ACCESS)."""
COUNTER: Final = r"\Energy Meter(*)\Energy"
"""English path: PdhAddEnglishCounterW accepts it on every Windows, whatever its language."""


class NothingThere(Exception):
    """This way gives no channel."""

    def __init__(self, reason: str, *, denied: bool = False) -> None:
        """Take the `reason`; `denied`: a meter exists, but this user may not read it."""
        super().__init__(reason)
        self.denied = denied


class _Device:
    """One open device."""

    def __init__(self, calls: DeviceCalls, path: str) -> None:
        """Open the device and read its channels.

        Raises WindowsCallError, or ValueError on an unknown format.
        """
        self._calls = calls
        self.handle = calls.open(path)
        try:
            self.channels = self._describe_channels()
        except (WindowsCallError, ValueError):
            self.close()
            raise

    def _describe_channels(self) -> tuple[EnergyChannel, ...]:
        ask = self._calls.control
        version = emi_version(ask(self.handle, GET_VERSION, b"", 2))
        size = emi_metadata_size(ask(self.handle, GET_METADATA_SIZE, b"", 4))
        return emi_channels(version, ask(self.handle, GET_METADATA, b"", size))

    def read_values(self) -> tuple[EnergyValue, ...]:
        """Return a value for each channel. Raises WindowsCallError or ValueError."""
        size = measurement_bytes(len(self.channels))
        return emi_measurements(
            self._calls.control(self.handle, GET_MEASUREMENT, b"", size), len(self.channels)
        )

    def close(self) -> None:
        """Close the handle."""
        self._calls.close(self.handle)


class Devices:
    """All energy meters of the machine. A device that fails is closed, and opened again at the next read."""

    def __init__(self, calls: DeviceCalls) -> None:
        self._calls = calls
        self._open: dict[str, _Device | None] = {}
        """Path → device; None = the device must be opened again."""
        self._channels_of: dict[str, tuple[EnergyChannel, ...]] = {}

    def open(self) -> tuple[tuple[object, str], ...]:
        """Return ((path, index), name) of the channels that count in picowatt-hours. Raises NothingThere."""
        troubles: list[str] = []
        denied = False
        for path in self._paths():
            try:
                device = _Device(self._calls, path)
            except WindowsCallError as error:
                denied = denied or error.code == ERROR_ACCESS_DENIED
                troubles.append(str(error))
            except ValueError as error:
                troubles.append(str(error))
            else:
                self._open[path], self._channels_of[path] = device, device.channels
        found = tuple(
            ((path, index), channel.name)
            for path, channels in sorted(self._channels_of.items())
            for index, channel in enumerate(channels)
            if channel.unit == EMI_PICOWATT_HOURS
        )
        if not found:
            why = f": {troubles[0]}" if troubles else ""
            raise NothingThere(f"no energy meter device{why}", denied=denied)
        return found

    def read(self) -> Mapping[object, EnergyValue]:
        """Return the values that can be read now.

        Raises ReadFailed when none can; PointsChanged when a device has other channels, or all are other
        devices.
        """
        values: dict[object, EnergyValue] = {}
        trouble = ""
        for path, device in self._open.items():
            try:
                ready = device or self._reopen(path)
                read_values = ready.read_values()
            except (WindowsCallError, ValueError) as error:
                trouble = str(error)
                self._drop(path)
                continue
            values |= {(path, index): value for index, value in enumerate(read_values)}
        if not values:
            if trouble and self._has_moved():
                raise PointsChanged("the energy meters are other devices now")
            raise ReadFailed(f"no energy meter answers: {trouble}")
        return values

    def keep(self, keys: Collection[object]) -> None:
        """Close the devices without any of these channels: reading them would be useless."""
        wanted = {key[0] for key in keys if isinstance(key, tuple)}
        for path in [path for path in self._open if path not in wanted]:
            self._drop(path)
            del self._open[path], self._channels_of[path]

    def close(self) -> None:
        """Close all handles."""
        for path in self._open:
            self._drop(path)
        self._open, self._channels_of = {}, {}

    def _reopen(self, path: str) -> _Device:
        device = _Device(self._calls, path)
        if device.channels != self._channels_of[path]:
            device.close()
            raise PointsChanged("an energy meter has other channels now")
        self._open[path] = device
        return device

    def _drop(self, path: str) -> None:
        device = self._open[path]
        if device is not None:
            device.close()
            self._open[path] = None

    def _has_moved(self) -> bool:
        """Tell whether meters are present, but none of the opened ones: a driver was installed again."""
        try:
            present = set(self._calls.interfaces(METER_INTERFACE))
        except WindowsCallError:
            return False
        return bool(present) and present.isdisjoint(self._open)

    def _paths(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(set(self._calls.interfaces(METER_INTERFACE))))
        except WindowsCallError as error:
            raise NothingThere(f"no energy meter device: {error}") from error


class PerformanceCounters:
    """The same meters as Windows' performance counters. They give no time of measurement."""

    def __init__(self, calls: CounterCalls) -> None:
        self._calls = calls
        self._query: int | None = None

    def open(self) -> tuple[tuple[object, str], ...]:
        """Return (instance, instance).

        Raises NothingThere when there is none but `_Total`, which is always 0.
        """
        try:
            self._query = self._calls.counter_open(COUNTER)
            found = self._calls.counter_read(self._query)
        except WindowsCallError as error:
            raise NothingThere(
                f"no performance counter of energy: {error}", denied=error.code == ERROR_ACCESS_DENIED
            ) from error
        names = sorted({one.instance for one in found if one.instance and one.instance != "_Total"})
        if not names:
            raise NothingThere("the performance counter of energy has no instance")
        return tuple((name, name) for name in names)

    def read(self) -> Mapping[object, EnergyValue]:
        """Return the values that can be read now. Raises ReadFailed."""
        if self._query is None:
            raise ReadFailed("the performance counter is not open")
        try:
            found = self._calls.counter_read(self._query)
        except WindowsCallError as error:
            raise ReadFailed(f"no performance counter of energy: {error}") from error
        return {one.instance: EnergyValue(one.value, 0) for one in found if one.value >= 0}

    def keep(self, keys: Collection[object]) -> None:
        """Do nothing: one query reads all channels."""

    def close(self) -> None:
        """Close the query."""
        if self._query is not None:
            self._calls.counter_close(self._query)
            self._query = None


class Meters(Protocol):
    """Interface of the devices and of the performance counters."""

    def open(self) -> tuple[tuple[object, str], ...]:
        """Return (key, name) of every channel. Raises NothingThere with the reason that doctor shows."""

    def read(self) -> Mapping[object, EnergyValue]:
        """Return the values that can be read now.

        Raises ReadFailed; PointsChanged when `open` would find others.
        """

    def keep(self, keys: Collection[object]) -> None:
        """Read only these channels from now on."""

    def close(self) -> None:
        """Close all handles."""


class WindowsEmi:
    """`ports.Source`: cumulative microjoules of packages or clusters of cores, memory and the machine."""

    name = "windows_emi"
    KINDS: ClassVar = (PointKind.EMI,)

    def __init__(
        self,
        context: SourceContext,
        calls: WindowsCallTable | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take `calls`, Windows' own by default; tests pass another table."""
        self._virtualisation = context.virtualisation
        self._calls = calls
        self._pause = pause
        self._meters: Meters | None = None
        self._channels: tuple[Channel, ...] = ()
        self._not_counted: tuple[tuple[str, str], ...] = ()
        self._last: dict[object, EnergyValue] = {}

    def open(self) -> tuple[Point, ...]:
        """Find the channels that count.

        Raises SourceUnavailable: virtual_machine, no_device or no_permission.
        """
        self.close()
        if self._virtualisation not in ("none", "container"):
            raise SourceUnavailable(
                "virtual_machine", "virtual machine: energy is its host's", "measure the host"
            )
        if self._calls is None:
            from veilleuse.agent.platforms.windows.api import WindowsCalls  # large, and not used elsewhere

            self._calls = WindowsCalls()
        reasons: list[NothingThere] = []
        for meters in (Devices(self._calls), PerformanceCounters(self._calls)):
            try:
                self._channels = self._choose_channels(meters)
            except NothingThere as reason:
                reasons.append(reason)
                meters.close()
                continue
            meters.keep([channel.key for channel in self._channels])
            self._meters = meters
            return tuple(channel.point for channel in self._channels)
        denied = next((one for one in reasons if one.denied), None)
        raise SourceUnavailable(
            "no_permission" if denied else "no_device",
            "; ".join(str(one) for one in reasons),
            "Windows 11 on real hardware offers it;"
            " else firmware or Windows is older, or the processor is not metered",
        )

    def read(self) -> tuple[Reading, ...]:
        """Return one counter per channel that has a new value.

        Raises ReadFailed when none has; PointsChanged.
        """
        if self._meters is None:
            raise PointsChanged("it could not be opened again")
        values = self._meters.read()
        readings: list[Reading] = []
        for channel in self._channels:
            value = values.get(channel.key)
            if value is None or self._is_old(channel, value):
                continue
            self._last[channel.key] = value
            energy = microjoules_from_picowatt_hours(value.energy_picowatt_hours)
            readings.append(EnergyCounter(channel.point, energy, None, channel.ceiling_watts))
        if not readings:
            raise ReadFailed("no energy meter has a new value")
        return tuple(readings)

    def close(self) -> None:
        """Close the handles."""
        if self._meters is not None:
            self._meters.close()
        self._meters = None
        self._channels = ()
        self._last = {}

    def not_counted(self) -> tuple[tuple[str, str], ...]:
        """`ports.SeesMore`: channels that are not counted, as (their name, why)."""
        return self._not_counted

    def _is_old(self, channel: Channel, value: EnergyValue) -> bool:
        """Tell whether a value is unread: exactly 0, already returned, or a package that stands still."""
        before = self._last.get(channel.key)
        if before is None:
            return value.energy_picowatt_hours == 0 and not channel.may_rest
        if value.time_100ns and value.time_100ns == before.time_100ns:
            return True
        return value.energy_picowatt_hours == before.energy_picowatt_hours and not channel.may_rest

    def _choose_channels(self, meters: Meters) -> tuple[Channel, ...]:
        """Choose the channels that count. Raises NothingThere."""
        found = meters.open()
        channels, self._not_counted = choose_channels(found, meters.read, self._pause)
        if not channels:
            seen = ", ".join([name for name, _ in self._not_counted][:8])
            raise NothingThere(
                f"the energy meters measure no whole processor and no whole machine, only {seen}"
            )
        return channels
