# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads batteries and mains under /sys/class/power_supply.

Source: kernel Documentation/ABI/testing/sysfs-class-power; docs/sources.md. Each battery has two points, out
and in: on mains the flow charges the battery and is not consumption. The magnitude is `abs`, because drivers
differ in sign. The direction comes from `status`. energy_now (µWh) and charge_now (µAh) are different
quantities; neither is read, docs/sources.md.
"""

from __future__ import annotations

from typing import ClassVar, Final, NamedTuple

from veilleuse.agent.errors import PointsChanged, ReadFailed, SourceUnavailable
from veilleuse.agent.model import Point, PowerGauge, Reading, SupplyReading
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.files import entries, int_or_none, text_or_none
from veilleuse.wire.limits import fact_text
from veilleuse.wire.units import MICROAMPERE_MICROVOLTS_PER_MILLIWATT, MICROWATTS_PER_MILLIWATT
from veilleuse.wire.vocabulary import Boundary, PointKind, Supply

BATTERY_CEILING_MILLIWATTS: Final = 500_000
"""Twice the most of USB Power Delivery 3.1 (240 W); a laptop's battery gives less.

A larger value is a defect.
"""
_RESTING: Final = ("Full", "Not charging")
"""States without flow. A charge threshold on mains also gives `Not charging`."""
_WORDS: Final = ("Charging", "Discharging", *_RESTING, "Unknown")
_ONLINE: Final = {0: False, 1: True, 2: True}
"""Values of `online`. 2: a charger whose voltage the machine sets."""
_MAINS: Final = "Mains"
_MAINS_TYPES: Final = (_MAINS, "USB", "Wireless")
_PERIPHERAL: Final = "Device"
"""`scope` of a supply that feeds a mouse, a headset or a pen, not this machine."""


class _Battery(NamedTuple):
    folder: str
    out: Point
    into: Point


class _Adapter(NamedTuple):
    folder: str
    kind: str


class LinuxBattery:
    """`ports.Source`: power out of and into each battery of the machine, and the supply."""

    name = "linux_battery"
    KINDS: ClassVar = (PointKind.BATTERY_OUT,)

    def __init__(self, context: SourceContext) -> None:
        self._root = f"{context.sysfs}/class/power_supply"
        self._batteries: tuple[_Battery, ...] = ()
        self._adapters: tuple[_Adapter, ...] = ()
        self._names: list[str] = []
        """Names of the folders at `open`; other names mean that a device was plugged in or out."""

    def open(self) -> tuple[Point, ...]:
        """Find batteries and mains. Raises SourceUnavailable.

        A battery found before stays in the list and counts as missing. USB ports alone are no evidence: on a
        desktop they report off while it runs on mains.
        """
        batteries = list(self._batteries)
        known = {battery.folder for battery in batteries}
        adapters: list[_Adapter] = []
        self._names = entries(self._root)
        for name in self._names:
            folder = f"{self._root}/{name}"
            kind = text_or_none(f"{folder}/type") or ""
            if text_or_none(f"{folder}/scope") == _PERIPHERAL:
                continue
            if kind == "Battery" and folder not in known:
                domain = fact_text(name) or "battery"
                out, into = (_point(flow, domain) for flow in (PointKind.BATTERY_OUT, PointKind.BATTERY_IN))
                batteries.append(_Battery(folder, out, into))
            elif kind in _MAINS_TYPES and int_or_none(f"{folder}/online") is not None:
                adapters.append(_Adapter(folder, kind))
        if not batteries and not any(adapter.kind == _MAINS for adapter in adapters):
            raise SourceUnavailable("no_device", f"no battery and no mains adapter under {self._root}")
        self._batteries, self._adapters = tuple(batteries), tuple(adapters)
        return tuple(point for battery in batteries for point in (battery.out, battery.into))

    def read(self) -> tuple[Reading, ...]:
        """Return the supply, and two gauges per battery whose flow and direction are known.

        Raises ReadFailed when nothing is known; PointsChanged when a battery or an adapter came or went.
        """
        names = entries(self._root)
        if names and names != self._names:
            raise PointsChanged(f"{self._root} has other entries now")
        values = {adapter: int_or_none(f"{adapter.folder}/online") for adapter in self._adapters}
        online = {adapter: _ONLINE[value] for adapter, value in values.items() if value in _ONLINE}
        statuses = [_status(battery.folder) for battery in self._batteries]
        supply = _supply(online, [status for status in statuses if status is not None])
        gauges: list[PowerGauge] = []
        for battery, status in zip(self._batteries, statuses, strict=True):
            gauges += _gauges(battery, status, supply)
        if supply is Supply.BATTERY and not any(gauge.power_milliwatts for gauge in gauges):
            # A machine does not run on 0 W: just after unplugging, some drivers report 0 for a value not yet
            # known.
            gauges = []
        if supply is Supply.UNKNOWN and not gauges:
            raise ReadFailed(f"neither battery nor mains under {self._root} could be read")
        return SupplyReading(supply), *gauges

    def close(self) -> None:
        """Do nothing: no file stays open."""


def _point(kind: PointKind, domain: str) -> Point:
    return Point(kind, domain, Boundary.MACHINE_DC)


def _status(folder: str) -> str | None:
    """Return the kernel's word; None when the battery is not in its bay, or the word is unknown."""
    if int_or_none(f"{folder}/present") == 0:
        return None
    word = text_or_none(f"{folder}/status")
    return word if word in _WORDS else None


def _supply(online: dict[_Adapter, bool], statuses: list[str]) -> Supply:
    """Derive the supply from the adapters, else from the batteries.

    On mains a battery may still discharge (a weak USB-C charger, a firmware that cycles it): the supply is
    ac. There is one exception: a mains adapter is off, a USB port is on, and a battery discharges. Then the
    port was left on at the last suspend, or feeds a telephone, and the supply is the battery.
    """
    discharging = "Discharging" in statuses
    unplugged = any(not on for adapter, on in online.items() if adapter.kind == _MAINS)
    plugged = any(on for adapter, on in online.items() if adapter.kind == _MAINS)
    if plugged or (any(online.values()) and not (unplugged and discharging)):
        return Supply.AC
    if discharging:
        return Supply.BATTERY
    if "Charging" in statuses or (not online and any(status in _RESTING for status in statuses)):
        return Supply.AC
    if online and statuses:
        return Supply.BATTERY  # every adapter reports off
    return Supply.UNKNOWN


def _gauges(battery: _Battery, status: str | None, supply: Supply) -> list[PowerGauge]:
    """Return the flow out and in; nothing when its size or direction is not known.

    Of two batteries one may rest while the other feeds the machine: off the mains nothing can flow into it.
    """
    power = None if status is None else _power_milliwatts(battery.folder)
    if power is None or status is None:
        return []
    out, into = PowerGauge(battery.out, power), PowerGauge(battery.into, power)
    if status == "Discharging":
        return [] if power == 0 and supply is Supply.BATTERY else [out, _none(battery.into)]
    if status == "Charging":
        return [_none(battery.out), into]
    if supply is Supply.BATTERY:
        return [out, _none(battery.into)]
    return [_none(battery.out), into] if status in _RESTING and supply is Supply.AC else []


def _none(point: Point) -> PowerGauge:
    """Return a measured 0: the flow is known to go the other way."""
    return PowerGauge(point, 0)


def _power_milliwatts(folder: str) -> int | None:
    """Return the size of the flow in mW; None when it cannot be read, or is not plausible.

    A nominal voltage is not used: the result would be an estimate.
    """
    power = int_or_none(f"{folder}/power_now")
    if power is not None:
        milliwatts = abs(power) // MICROWATTS_PER_MILLIWATT
    else:
        current, voltage = int_or_none(f"{folder}/current_now"), int_or_none(f"{folder}/voltage_now")
        if current is None or voltage is None or voltage <= 0:
            return None
        milliwatts = abs(current) * voltage // MICROAMPERE_MICROVOLTS_PER_MILLIWATT
    return milliwatts if milliwatts <= BATTERY_CEILING_MILLIWATTS else None
