# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads batteries and supply on Windows, from the battery devices themselves.

Sources: Windows documentation, IOCTL_BATTERY_…, poclass.h. WMI's BatteryStatus is not used: it has the same
values, but would load COM in the resident process. The rules of direction are those of linux_battery: the
size is the absolute value, the direction comes from flags.
"""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar, Final

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Point, PowerGauge, Reading, SupplyReading
from veilleuse.agent.platforms.windows.calls import WindowsCallError, WindowsCallTable
from veilleuse.agent.platforms.windows.structures import (
    BATTERY_CHARGING,
    BATTERY_DISCHARGING,
    BATTERY_INFORMATION_BYTES,
    BATTERY_RELATIVE,
    BATTERY_SHORT_TERM,
    BATTERY_STATUS_BYTES,
    BATTERY_SYSTEM,
    BATTERY_TAG_BYTES,
    BatteryStatus,
    battery_capabilities,
    battery_status,
    battery_tag,
    information_request,
    power_status,
    status_request,
)
from veilleuse.agent.ports import SourceContext
from veilleuse.wire.vocabulary import Boundary, PointKind, Supply

BATTERY_INTERFACE: Final = "{72631E54-78A4-11D0-BCF7-00AA00B7B32A}"
"""GUID_DEVICE_BATTERY."""
QUERY_TAG, QUERY_INFORMATION, QUERY_STATUS = 0x294040, 0x294044, 0x29404C
BATTERY_CEILING_MILLIWATTS: Final = 500_000
"""Same ceiling as on Linux: twice the most of USB Power Delivery 3.1."""
MAX_BATTERIES: Final = 8
_AT_ONCE: Final = b"\0\0\0\0"


class _Slot:
    """One battery device; the battery in it may be exchanged."""

    __slots__ = ("handle", "into", "out", "path", "tag")

    def __init__(self, path: str, number: int) -> None:
        self.path = path
        self.handle: int | None = None
        self.tag = 0
        self.out, self.into = (
            Point(kind, f"battery-{number}", Boundary.MACHINE_DC)
            for kind in (PointKind.BATTERY_OUT, PointKind.BATTERY_IN)
        )


class WindowsBattery:
    """`ports.Source`: power out of and into each battery of the machine, and the supply."""

    name = "windows_battery"
    KINDS: ClassVar = (PointKind.BATTERY_OUT,)

    def __init__(self, context: SourceContext, calls: WindowsCallTable | None = None) -> None:
        """Take `calls`, Windows' own by default; tests pass another table."""
        self._virtualisation = context.virtualisation
        self._calls = calls
        self._slots: tuple[_Slot, ...] = ()

    def open(self) -> tuple[Point, ...]:
        """Find the batteries that feed the machine.

        Raises SourceUnavailable when there is none: such a PC is always on mains.
        """
        self.close()
        if self._virtualisation not in ("none", "container"):
            raise SourceUnavailable("virtual_machine", "virtual machine: a battery it shows is its host's")
        if self._calls is None:
            from veilleuse.agent.platforms.windows.api import WindowsCalls  # large, and not used elsewhere

            self._calls = WindowsCalls()
        try:
            paths = sorted(set(self._calls.interfaces(BATTERY_INTERFACE)))[:MAX_BATTERIES]
        except WindowsCallError as error:
            raise SourceUnavailable("no_device", f"no battery device: {error}") from error
        found = [path for path in paths if self._feeds(path)]
        if not found:
            raise SourceUnavailable("no_device", "no battery that feeds the machine")
        self._slots = tuple(_Slot(path, number) for number, path in enumerate(found))
        return tuple(point for slot in self._slots for point in (slot.out, slot.into))

    def read(self) -> tuple[Reading, ...]:
        """Return the supply, and two gauges per battery whose flow and direction are known.

        Raises ReadFailed when nothing is known.
        """
        supply = self._supply()
        gauges: list[PowerGauge] = []
        for slot in self._slots:
            if (status := self._status(slot)) is not None:
                gauges += _gauges(slot, status, supply)
        if supply is Supply.BATTERY and not any(gauge.power_milliwatts for gauge in gauges):
            # A machine does not run on 0 W: just after unplugging, some batteries report 0 for a value not
            # yet known.
            gauges = []
        if supply is Supply.UNKNOWN and not gauges:
            raise ReadFailed("neither supply nor battery could be read")
        return SupplyReading(supply), *gauges

    def close(self) -> None:
        """Close the handles."""
        for slot in self._slots:
            self._drop(slot)
        self._slots = ()

    # -------------------------------------------------------------------------------------- asking

    def _table(self) -> WindowsCallTable:
        assert self._calls is not None  # set by `open`
        return self._calls

    def _feeds(self, path: str) -> bool:
        """Tell whether the battery feeds the machine and counts in milliwatts.

        Excludes a UPS, a battery in arbitrary units, and a mouse's battery.
        """
        calls, slot = self._table(), _Slot(path, 0)
        try:
            tag = self._read_tag(slot)
            assert slot.handle is not None  # opened by `_read_tag`
            answer = calls.control(
                slot.handle, QUERY_INFORMATION, information_request(tag), BATTERY_INFORMATION_BYTES
            )
            capabilities = battery_capabilities(answer)
        except (WindowsCallError, ValueError):
            return False
        finally:
            self._drop(slot)
        return bool(capabilities & BATTERY_SYSTEM) and not capabilities & (
            BATTERY_RELATIVE | BATTERY_SHORT_TERM
        )

    def _read_tag(self, slot: _Slot) -> int:
        """Return the tag of the battery in an open slot.

        Raises WindowsCallError, or ValueError when the slot is empty.
        """
        if slot.handle is None:
            slot.handle = self._table().open(slot.path)
        if not slot.tag:
            slot.tag = battery_tag(self._table().control(slot.handle, QUERY_TAG, _AT_ONCE, BATTERY_TAG_BYTES))
        if not slot.tag:
            raise ValueError("no battery in its slot")
        return slot.tag

    def _status(self, slot: _Slot) -> BatteryStatus | None:
        """Return the battery's status; None when it cannot be read now.

        A battery that was exchanged has another tag at the next read.
        """
        try:
            request = status_request(self._read_tag(slot))
            assert slot.handle is not None  # opened by `_read_tag`
            answer = self._table().control(slot.handle, QUERY_STATUS, request, BATTERY_STATUS_BYTES)
            return battery_status(answer)
        except (WindowsCallError, ValueError):
            self._drop(slot)
            return None

    def _drop(self, slot: _Slot) -> None:
        if slot.handle is not None:
            self._table().close(slot.handle)
        slot.handle, slot.tag = None, 0

    def _supply(self) -> Supply:
        with suppress(WindowsCallError, ValueError):
            on_line = power_status(self._table().power_status()).on_line
            if on_line is not None:
                return Supply.AC if on_line else Supply.BATTERY
        return Supply.UNKNOWN


def _gauges(slot: _Slot, status: BatteryStatus, supply: Supply) -> list[PowerGauge]:
    """Return the flow out and in; nothing when its size or direction is unknown or not plausible."""
    if status.rate_milliwatts is None or abs(status.rate_milliwatts) > BATTERY_CEILING_MILLIWATTS:
        return []
    power = abs(status.rate_milliwatts)
    discharging, charging = status.flags & BATTERY_DISCHARGING, status.flags & BATTERY_CHARGING
    if discharging and charging:
        return []
    if discharging or (not charging and supply is Supply.BATTERY):
        # A machine does not run on 0 W: just after unplugging, 0 is reported for a value not yet known.
        if power == 0 and discharging and supply is not Supply.AC:
            return []
        return [PowerGauge(slot.out, power), PowerGauge(slot.into, 0)]
    if charging:
        return [PowerGauge(slot.out, 0), PowerGauge(slot.into, power)]
    # At rest on mains 0 is a measured value; a rate without a direction is not.
    at_rest = supply is Supply.AC and power == 0
    return [PowerGauge(slot.out, 0), PowerGauge(slot.into, 0)] if at_rest else []
