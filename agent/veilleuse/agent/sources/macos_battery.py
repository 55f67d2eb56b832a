# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads a Mac's battery and supply from the registry of its drivers: `ioreg`, node AppleSmartBattery.

The units are those of ioreg(8): `Voltage` in mV, `InstantAmperage` in mA. The current is negative while the
battery discharges; some versions write it as an unsigned number that has wrapped. The serial numbers beside
these values are not read.
"""

from __future__ import annotations

import plistlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, NamedTuple
from xml.parsers.expat import ExpatError

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Instant, Point, PowerGauge, Reading, SupplyReading
from veilleuse.agent.platforms import instant_now
from veilleuse.agent.ports import SourceContext
from veilleuse.agent.sources.run_program import Program
from veilleuse.wire.units import MICROWATTS_PER_MILLIWATT
from veilleuse.wire.vocabulary import Boundary, PointKind, Supply

COMMAND: Final = ("/usr/sbin/ioreg", "-r", "-n", "AppleSmartBattery", "-d", "1", "-a")
EVERY_MILLISECONDS: Final = 60_000
"""Time between two runs of ioreg: one at each tick would use the agent's whole budget.

The battery itself changes its values about once a minute.
"""
_SECONDS: Final = 3.0
BATTERY_CEILING_MILLIWATTS: Final = 500_000
"""Same ceiling as on Linux."""
_MAX_MILLIAMPERES: Final = 30_000
_MAX_MILLIVOLTS: Final = 30_000
_WIDTHS: Final = (16, 32, 64)

OUT: Final = Point(PointKind.BATTERY_OUT, "battery-0", Boundary.MACHINE_DC)
INTO: Final = Point(PointKind.BATTERY_IN, "battery-0", Boundary.MACHINE_DC)


class Battery(NamedTuple):
    """Values of the node; None = missing, or not plausible."""

    external: bool | None
    charging: bool | None
    current_milliamperes: int | None
    """Negative while the battery discharges."""
    voltage_millivolts: int | None


class MacosBattery:
    """`ports.Source`: power out of and into the battery, and the supply."""

    name = "macos_battery"
    KINDS: ClassVar = (PointKind.BATTERY_OUT,)

    def __init__(
        self,
        context: SourceContext,
        now: Callable[[], Instant] = instant_now,
        ask: Callable[[], bytes] | None = None,
    ) -> None:
        """Take `ask`, which returns ioreg's output; tests pass another one."""
        self._virtualisation = context.virtualisation
        self._now = now
        self._ask = ask or _Ioreg()
        self._battery: Battery | None = None
        self._asked_at = 0

    def open(self) -> tuple[Point, ...]:
        """Find the battery. Raises SourceUnavailable when there is none: such a Mac is always on mains."""
        if self._virtualisation not in ("none", "container"):
            raise SourceUnavailable("virtual_machine", "virtual machine: a battery it shows is its host's")
        try:
            found = battery(self._ask())
        except ReadFailed as error:
            raise SourceUnavailable("no_device", f"no battery: {error}") from error
        if found is None:
            raise SourceUnavailable("no_device", "no battery")
        return OUT, INTO

    def read(self) -> tuple[Reading, ...]:
        """Return the supply, and two gauges when flow and direction are known.

        Raises ReadFailed when nothing is known.
        """
        now = self._now().boottime_milliseconds
        if self._battery is None or not 0 <= now - self._asked_at < EVERY_MILLISECONDS:
            self._battery = battery(self._ask())  # raises: asked again at the next read
            self._asked_at = now
        if self._battery is None:
            raise ReadFailed("ioreg shows no battery any more")
        readings = _readings(self._battery)
        if not readings:
            raise ReadFailed("ioreg shows neither supply nor flow of the battery")
        return readings

    def close(self) -> None:
        """Do nothing: nothing stays open."""


def battery_here() -> Battery | None:
    """Ask this Mac once for its battery; None when there is none. Raises ReadFailed."""
    return battery(_Ioreg()())


class _Ioreg:
    def __init__(self) -> None:
        self._program = Program()

    def __call__(self) -> bytes:
        """Run ioreg and return its output. Raises ReadFailed."""
        return self._program.run(COMMAND, {}, _SECONDS).output.encode()


def battery(text: bytes) -> Battery | None:
    """Parse ioreg's output; None when it contains no battery.

    Raises ReadFailed when it is no property list.
    """
    if not text.strip():
        return None
    try:
        state = plistlib.loads(text, fmt=plistlib.FMT_XML)
    except (ExpatError, ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise ReadFailed(f"ioreg prints no property list: {error or type(error).__name__}") from error
    nodes = [node for node in state if isinstance(node, dict)] if isinstance(state, list) else []
    if not nodes or nodes[0].get("BatteryInstalled") is False:
        return None
    node = nodes[0]
    current = _current(node.get("InstantAmperage"))
    return Battery(
        external=_flag(node, "ExternalConnected"),
        charging=_flag(node, "IsCharging"),
        current_milliamperes=_current(node.get("Amperage")) if current is None else current,
        voltage_millivolts=_voltage(node.get("Voltage")),
    )


def _readings(state: Battery) -> tuple[Reading, ...]:
    if state.external is None:
        return tuple(_gauges(state))
    supply = Supply.AC if state.external else Supply.BATTERY
    return SupplyReading(supply), *_gauges(state)


def _gauges(state: Battery) -> list[Reading]:
    """Return the flow out and in; nothing when it is not known, or contradicts itself."""
    current, voltage = state.current_milliamperes, state.voltage_millivolts
    if current is None or voltage is None:
        return []
    power = abs(current) * voltage // MICROWATTS_PER_MILLIWATT
    if power > BATTERY_CEILING_MILLIWATTS:
        return []
    if state.external is False and current >= 0:
        return []  # off the mains a machine cannot draw nothing
    if state.charging and current < 0:
        return []
    out, into = (power, 0) if current < 0 else (0, power)
    return [PowerGauge(OUT, out), PowerGauge(INTO, into)]


def _flag(node: Mapping[Any, Any], name: str) -> bool | None:
    value = node.get(name)
    return value if isinstance(value, bool) else None


def _current(value: object) -> int | None:
    """Return milliamperes from a signed number of 16, 32 or 64 bits that may be written unsigned."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    for width in (0, *_WIDTHS):
        signed = value - (1 << width) if width and value >= 1 << (width - 1) else value
        if abs(signed) <= _MAX_MILLIAMPERES:
            return signed
    return None


def _voltage(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and isinstance(value, int) and 0 < value <= _MAX_MILLIVOLTS else None
