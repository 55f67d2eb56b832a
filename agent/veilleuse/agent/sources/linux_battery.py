# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Batteries and mains under /sys/class/power_supply. Source: kernel Documentation/ABI/testing/sysfs-class-power; SENSORS.md.

Each battery is two points, out and in: on mains the flow charges it and is not consumption. Magnitude from `abs` (drivers
differ in sign), direction from `status`. energy_now (µWh) and charge_now (µAh) are different quantities: neither is read.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Point, PowerGauge, Reading, SupplyReading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.files import entries, int_or_none, text_or_none
from veilleuse.wire.limits import fact_text
from veilleuse.wire.units import MICROWATTS_PER_MILLIWATT
from veilleuse.wire.vocabulary import Boundary, PointKind, Supply

_MICROAMPERE_MICROVOLTS_PER_MILLIWATT: Final = 1_000_000_000
_RESTING: Final = ("Full", "Not charging")
_MAINS_TYPES: Final = ("Mains", "USB", "Wireless")


class _Battery(NamedTuple):
    folder: str
    out: Point
    into: Point


class LinuxBattery:
    """`ports.Source`: power out of and into each battery of the machine, and what feeds it."""

    name = "linux_battery"

    def __init__(self, context: SourceContext) -> None:
        self._root = f"{context.sysfs}/class/power_supply"
        self._batteries: tuple[_Battery, ...] = ()
        self._mains: tuple[str, ...] = ()

    def open(self) -> tuple[Point, ...]:
        """Find batteries and mains. Raises SourceUnavailable when there is neither."""
        batteries: list[_Battery] = []
        mains: list[str] = []
        for name in entries(self._root):
            folder = f"{self._root}/{name}"
            kind = text_or_none(f"{folder}/type")
            if (
                kind == "Battery" and text_or_none(f"{folder}/scope") != "Device"
            ):  # Device = a mouse, a headset
                domain = fact_text(name) or "battery"
                batteries.append(
                    _Battery(
                        folder, _point(PointKind.BATTERY_OUT, domain), _point(PointKind.BATTERY_IN, domain)
                    )
                )
            elif kind in _MAINS_TYPES and int_or_none(f"{folder}/online") is not None:
                mains.append(folder)
        if not batteries and not mains:
            raise SourceUnavailable("no_device", f"no battery and no mains adapter under {self._root}")
        self._batteries, self._mains = tuple(batteries), tuple(mains)
        return tuple(point for battery in batteries for point in (battery.out, battery.into))

    def read(self) -> tuple[Reading, ...]:
        """The supply, and two gauges per battery whose flow and direction are known. Raises ReadFailed when nothing is."""
        online = [value for folder in self._mains if (value := int_or_none(f"{folder}/online")) is not None]
        statuses = [text_or_none(f"{battery.folder}/status") for battery in self._batteries]
        supply = _supply(online, statuses)
        readings: list[Reading] = [SupplyReading(supply)]
        for battery, status in zip(self._batteries, statuses, strict=True):
            readings += _gauges(battery, status, supply)
        if supply is Supply.UNKNOWN and len(readings) == 1:
            raise ReadFailed(f"neither battery nor mains under {self._root} could be read")
        return tuple(readings)

    def close(self) -> None:
        """Nothing is held."""


def _point(kind: PointKind, domain: str) -> Point:
    return Point(kind, domain, Boundary.MACHINE_DC)


def _supply(online: list[int], statuses: list[str | None]) -> Supply:
    """From the mains' own word, else from what the batteries do."""
    if any(online):
        return Supply.AC
    if "Discharging" in statuses:
        return Supply.BATTERY
    if "Charging" in statuses or (not online and any(status in _RESTING for status in statuses)):
        return Supply.AC
    if online and statuses:
        return Supply.BATTERY  # every adapter says it is off
    return Supply.UNKNOWN


def _gauges(battery: _Battery, status: str | None, supply: Supply) -> list[Reading]:
    """What flows out and in; nothing when the size or the direction cannot be told."""
    power = _power_milliwatts(battery.folder)
    if power is None:
        return []
    if status == "Discharging":
        return [PowerGauge(battery.out, power), PowerGauge(battery.into, 0)]
    if status == "Charging" or (status in _RESTING and supply is Supply.AC):
        return [PowerGauge(battery.out, 0), PowerGauge(battery.into, power)]
    return []


def _power_milliwatts(folder: str) -> int | None:
    power = int_or_none(f"{folder}/power_now")
    if power is not None:
        return abs(power) // MICROWATTS_PER_MILLIWATT
    current, voltage = int_or_none(f"{folder}/current_now"), int_or_none(f"{folder}/voltage_now")
    if current is None or voltage is None:
        return None
    return abs(current) * voltage // _MICROAMPERE_MICROVOLTS_PER_MILLIWATT
