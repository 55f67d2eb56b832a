# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The closed lists of words both sides use.

Each class mirrors an enum of telemetry.proto, held equal by a test.

The proto name of `State.ON_IDLE` is `STATE_ON_IDLE`. UNSPECIFIED has no word and is always refused.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

SOURCES_OF_SYSTEM: Final = {
    "linux": ("linux_rapl", "linux_hwmon", "linux_battery", "linux_displays", "linux_units"),
    "win32": ("windows_emi", "windows_battery", "windows_displays"),
    "darwin": ("macos_power", "macos_battery"),
}
"""sys.platform → names of the sources that read that system."""
POLLED_SOURCES: Final = (
    "nvidia_nvml",
    "ipmi_dcmi",
    "redfish",
    "nut_ups",
    "snmp_meter",
    "shelly_plug",
    "tasmota_plug",
)
"""Slow or heavy sources, of every system: the polling process reads them."""
SOURCES: Final = frozenset(
    {"utilisation", "polled", "fake", *POLLED_SOURCES}.union(*SOURCES_OF_SYSTEM.values())
)
"""All sources that ship.

The source's label on /metrics is this closed list, so that no agent can make series.
"""


class Word(StrEnum):
    """Word of one closed list: equal to its own text, never to the same text in another list.

    Members of plain StrEnums with equal texts are equal: State.UNKNOWN and Supply.UNKNOWN would share one
    entry of a dict, a set or a cache. Use either words or plain texts as keys, not both together.
    """

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Word) and type(other) is not type(self):
            return False
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:  # str defines its own, which would be used
        return not self == other

    __hash__ = str.__hash__


class Band(Word):
    """Position in the timetable of the site."""

    OPEN = "open"
    NIGHT = "night"
    CLOSED = "closed"


class State(Word):
    """Activity of the machine; never derived from keyboard or pointer."""

    ON_ACTIVE = "on_active"
    ON_IDLE = "on_idle"
    ASLEEP = "asleep"
    OFF = "off"
    UNKNOWN = "unknown"


class Supply(Word):
    """Supply of the machine."""

    AC = "ac"
    BATTERY = "battery"
    UNKNOWN = "unknown"


class PointKind(Word):
    """Physical kind of a measurement point."""

    RAPL = "rapl"
    HWMON = "hwmon"
    BATTERY_OUT = "battery_out"
    BATTERY_IN = "battery_in"
    GPU = "gpu"
    BMC = "bmc"
    UPS = "ups"
    PDU = "pdu"
    PLUG = "plug"
    EMI = "emi"
    POWERMETRICS = "powermetrics"
    FAKE = "fake"


class Boundary(Word):
    """Part of the machine that a point measures."""

    WALL = "wall"
    MACHINE_DC = "machine_dc"
    COMPONENT = "component"


class GapReason(Word):
    """Reason why data is missing."""

    REFUSED = "refused"
    SPOOL_CAP = "spool_cap"
    RING_EXPIRED = "ring_expired"
    SENSOR_LOST = "sensor_lost"
    CLOCK_UNKNOWN = "clock_unknown"
    DISABLED = "disabled"
    SPOOL_DAMAGED = "spool_damaged"


class Population(Word):
    """Kind of use, which sets the finest grain."""

    WORKSTATION = "workstation"
    CLASSROOM = "classroom"
    SERVER = "server"


class DeviceClass(Word):
    """Form of a machine on which an agent can run."""

    LAPTOP = "laptop"
    MINI_PC = "mini_pc"
    SFF = "sff"
    TOWER = "tower"
    ALL_IN_ONE = "all_in_one"
    THIN_CLIENT = "thin_client"
    SERVER = "server"
    VIRTUAL_MACHINE = "virtual_machine"
    UNKNOWN = "unknown"
