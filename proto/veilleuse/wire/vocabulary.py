# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The closed lists of words both sides use. Each class mirrors an enum of telemetry.proto, held equal by a test.

The proto name of `State.ON_IDLE` is `STATE_ON_IDLE`; UNSPECIFIED has no word: it is always refused.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

SOURCES_OF_SYSTEM: Final = {
    "linux": ("linux_rapl", "linux_hwmon", "linux_battery", "linux_displays", "linux_units"),
    "win32": ("windows_emi", "windows_battery"),
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
"""All sources that ship. The source's label on /metrics is this closed list, so that no agent can make series."""


class Word(StrEnum):
    """A word of one closed list: equal to its own text, never to the same text of another list.

    Plain StrEnum members are equal across enums when their texts are: State.UNKNOWN and Supply.UNKNOWN would share one
    entry of a dict, a set or a cache. Keep words or plain texts as keys, not both together.
    """

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Word) and type(other) is not type(self):
            return False
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:  # str has one of its own, which would win
        return not self == other

    __hash__ = str.__hash__


class Band(Word):
    """Where in the site's timetable."""

    OPEN = "open"
    NIGHT = "night"
    CLOSED = "closed"


class State(Word):
    """What the machine was doing; never derived from keyboard or pointer."""

    ON_ACTIVE = "on_active"
    ON_IDLE = "on_idle"
    ASLEEP = "asleep"
    OFF = "off"
    UNKNOWN = "unknown"


class Supply(Word):
    """What fed the machine."""

    AC = "ac"
    BATTERY = "battery"
    UNKNOWN = "unknown"


class PointKind(Word):
    """The physical kind of a measurement point."""

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
    """How much of the machine a point sees."""

    WALL = "wall"
    MACHINE_DC = "machine_dc"
    COMPONENT = "component"


class GapReason(Word):
    """Why something is not there."""

    REFUSED = "refused"
    SPOOL_CAP = "spool_cap"
    RING_EXPIRED = "ring_expired"
    SENSOR_LOST = "sensor_lost"
    CLOCK_UNKNOWN = "clock_unknown"
    DISABLED = "disabled"
    SPOOL_DAMAGED = "spool_damaged"


class Population(Word):
    """The kind of use, which sets the finest grain."""

    WORKSTATION = "workstation"
    CLASSROOM = "classroom"
    SERVER = "server"


class DeviceClass(Word):
    """The form of a machine an agent can run on."""

    LAPTOP = "laptop"
    MINI_PC = "mini_pc"
    SFF = "sff"
    TOWER = "tower"
    ALL_IN_ONE = "all_in_one"
    THIN_CLIENT = "thin_client"
    SERVER = "server"
    VIRTUAL_MACHINE = "virtual_machine"
    UNKNOWN = "unknown"
