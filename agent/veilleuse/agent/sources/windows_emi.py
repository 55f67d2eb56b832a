# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Windows' Energy Meter Interface: energy counters of the processor, without a driver of ours and without administrator's rights.

The devices themselves where they can be opened, else the performance counters that Windows makes of them. Which of their
channels count is decided over all devices together: SENSORS.md, Windows; codecarbon 1263 (265 W for 154 W).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from itertools import combinations
from typing import Final, NamedTuple, Protocol

from veilleuse.agent.errors import PointsChanged, ReadFailed, SourceUnavailable
from veilleuse.agent.model import EnergyCounter, Point, Reading
from veilleuse.agent.platforms.windows.calls import Calls
from veilleuse.agent.platforms.windows.structures import EnergyValue
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.windows_meters import Devices, NothingThere, PerformanceCounters
from veilleuse.wire.limits import fact_text
from veilleuse.wire.units import microjoules_from_picowatt_hours
from veilleuse.wire.vocabulary import Boundary, PointKind

PACKAGE_CEILING_WATTS: Final = 1_000.0
"""As for RAPL on Linux: twice the largest processor package of 2025."""
CLUSTER_CEILING_WATTS: Final = 400.0
MACHINE_CEILING_WATTS: Final = 1_000.0
"""Only portable machines meter themselves like this; USB Power Delivery 3.1 brings 240 W."""

MIRROR_TOLERANCE_PICOWATT_HOURS: Final = 138_888_889
"""0.5 J, as for RAPL on Linux: 500 W for a millisecond."""
MIRROR_LOOKS: Final = 5
MIRROR_PAUSE_SECONDS: Final = 0.2

_PACKAGE: Final = re.compile(r"(.+_)?PKG")
_CLUSTER: Final = re.compile(r"CPU_CLUSTER_\d+")
_SOCKET: Final = "CURRENT SOCKET POWER"
"""AMD's management unit on some laptops, whose VDDCR rails lie inside it: seen on a Ryzen 9 6900HS, documented nowhere."""
_MACHINE: Final = "SYS"
"""Snapdragon: what the machine draws."""
_USB: Final = "PSU_USB"
"""Snapdragon: what comes in by USB, charging included; nothing on battery."""


class Meters(Protocol):
    """Where channels are read: devices or performance counters."""

    def open(self) -> tuple[tuple[object, str], ...]:
        """(key, name) of every channel. Raises NothingThere with what doctor shall say."""

    def read(self) -> Mapping[object, EnergyValue]:
        """What can be read now. Raises ReadFailed; PointsChanged when `open` would find others."""

    def keep(self, keys: Collection[object]) -> None:
        """Read no more than these."""

    def close(self) -> None:
        """Give back."""


class _Channel(NamedTuple):
    key: object
    point: Point
    ceiling_watts: float
    may_rest: bool
    """A cluster of cores may be switched off, a plug pulled; a package and a machine that run cannot draw nothing."""


class WindowsEmi:
    """`ports.Source`: cumulative microjoules per package, or per cluster of cores and for the machine."""

    name = "windows_emi"

    def __init__(
        self,
        context: SourceContext,
        calls: Calls | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`calls`: Windows'; another table in tests."""
        self._virtualisation = context.virtualisation
        self._calls = calls
        self._pause = pause
        self._meters: Meters | None = None
        self._channels: tuple[_Channel, ...] = ()
        self._last: dict[object, EnergyValue] = {}

    def open(self) -> tuple[Point, ...]:
        """Find the channels that count. Raises SourceUnavailable: virtual_machine, no_device or no_permission."""
        self.close()
        if self._virtualisation not in ("none", "container"):
            raise SourceUnavailable(
                "virtual_machine", "virtual machine: energy is its host's", "measure the host"
            )
        if self._calls is None:
            from veilleuse.agent.platforms.windows.api import WindowsCalls  # heavy, and of no use elsewhere

            self._calls = WindowsCalls()
        said: list[NothingThere] = []
        for meters in (Devices(self._calls), PerformanceCounters(self._calls)):
            try:
                self._channels = self._chosen(meters)
            except NothingThere as reason:
                said.append(reason)
                meters.close()
                continue
            meters.keep([channel.key for channel in self._channels])
            self._meters = meters
            return tuple(channel.point for channel in self._channels)
        denied = next((one for one in said if one.denied), None)
        raise SourceUnavailable(
            "no_permission" if denied else "no_device",
            "; ".join(str(one) for one in said),
            "Windows 11 on real hardware offers it; else firmware or Windows is older, or the processor is not metered",
        )

    def read(self) -> tuple[Reading, ...]:
        """One counter per channel that has a new value. Raises ReadFailed when none has; PointsChanged."""
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
        """Give the handles back."""
        if self._meters is not None:
            self._meters.close()
        self._meters = None
        self._channels = ()
        self._last = {}

    def _is_old(self, channel: _Channel, value: EnergyValue) -> bool:
        """A value at exactly 0, one that was given before, or a package that stands still: not read."""
        before = self._last.get(channel.key)
        if before is None:
            return value.energy_picowatt_hours == 0 and not channel.may_rest
        if value.time_100ns and value.time_100ns == before.time_100ns:
            return True
        return value.energy_picowatt_hours == before.energy_picowatt_hours and not channel.may_rest

    def _chosen(self, meters: Meters) -> tuple[_Channel, ...]:
        """The channels that count, of all that are there. Raises NothingThere."""
        named = [(key, fact_text(name.upper()) or "") for key, name in meters.open()]
        packages = [one for one in named if _PACKAGE.fullmatch(one[1])]
        if not packages:
            packages = [(key, "SOCKET_PKG") for key, name in named if name == _SOCKET]
        if packages:
            found = _offered(
                self._without_mirrors(meters, packages), Boundary.COMPONENT, PACKAGE_CEILING_WATTS
            )
        else:
            clusters = [one for one in named if _CLUSTER.fullmatch(one[1])]
            machine, usb = ([one for one in named if one[1] == name] for name in (_MACHINE, _USB))
            found = _offered(clusters, Boundary.COMPONENT, CLUSTER_CEILING_WATTS, may_rest=True)
            found += _offered(machine, Boundary.MACHINE_DC, MACHINE_CEILING_WATTS)
            found += _offered(usb, Boundary.MACHINE_DC, MACHINE_CEILING_WATTS, may_rest=True)
        if not found:
            seen = ", ".join(sorted({name for _, name in named if name})[:8])
            raise NothingThere(f"the energy meters tell no whole processor and no whole machine, only {seen}")
        return tuple(found)

    def _without_mirrors(
        self, meters: Meters, packages: list[tuple[object, str]]
    ) -> list[tuple[object, str]]:
        """Processors of several dies show one counter once per die: keep the first of those that agree at every look."""
        pairs = list(combinations([key for key, _ in packages], 2))
        for look in range(MIRROR_LOOKS):
            if look and pairs:
                self._pause(MIRROR_PAUSE_SECONDS)
            pairs = [pair for pair in pairs if _agree(meters, *pair)]
        mirrors = {other for _, other in pairs}
        return [one for one in packages if one[0] not in mirrors]


def _offered(
    channels: list[tuple[object, str]], boundary: Boundary, ceiling_watts: float, *, may_rest: bool = False
) -> list[_Channel]:
    """Points of their own: a name that comes twice is numbered in front, since its end says what it is."""
    found: list[_Channel] = []
    seen: dict[str, int] = {}
    for key, name in channels:
        seen[name] = seen.get(name, 0) + 1
        domain = name if seen[name] == 1 else f"{seen[name]}-{name}"[:64]
        found.append(_Channel(key, Point(PointKind.EMI, domain, boundary), ceiling_watts, may_rest))
    return found


def _agree(meters: Meters, one: object, other: object) -> bool:
    """Whether the other counter, read between two reads of the first, lies between them. A counter at 0 tells nothing."""
    try:
        before, between, after = (meters.read().get(key) for key in (one, other, one))
    except (ReadFailed, PointsChanged):
        return False
    if before is None or between is None or after is None or not between.energy_picowatt_hours:
        return False
    low = before.energy_picowatt_hours - MIRROR_TOLERANCE_PICOWATT_HOURS
    high = after.energy_picowatt_hours + MIRROR_TOLERANCE_PICOWATT_HOURS
    return low <= between.energy_picowatt_hours <= high
