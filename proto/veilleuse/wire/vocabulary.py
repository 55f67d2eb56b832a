# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The closed lists of words both sides use. Each mirrors an enum of telemetry.proto, held equal by a test.

The proto name of `State.ON_IDLE` is `STATE_ON_IDLE`; UNSPECIFIED has no word: it is always refused.
"""

from __future__ import annotations

from enum import StrEnum


class Band(StrEnum):
    """Where in the site's timetable."""

    OPEN = "open"
    NIGHT = "night"
    CLOSED = "closed"


class State(StrEnum):
    """What the machine was doing; never derived from keyboard or pointer."""

    ON_ACTIVE = "on_active"
    ON_IDLE = "on_idle"
    ASLEEP = "asleep"
    OFF = "off"
    UNKNOWN = "unknown"


class Supply(StrEnum):
    """What fed the machine."""

    AC = "ac"
    BATTERY = "battery"
    UNKNOWN = "unknown"


class PointKind(StrEnum):
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


class Boundary(StrEnum):
    """How much of the machine a point sees."""

    WALL = "wall"
    MACHINE_DC = "machine_dc"
    COMPONENT = "component"


class GapReason(StrEnum):
    """Why something is not there."""

    REFUSED = "refused"
    SPOOL_CAP = "spool_cap"
    RING_EXPIRED = "ring_expired"
    SENSOR_LOST = "sensor_lost"
    CLOCK_UNKNOWN = "clock_unknown"
    DISABLED = "disabled"
    SPOOL_DAMAGED = "spool_damaged"


class Population(StrEnum):
    """The kind of use, which sets the finest grain."""

    WORKSTATION = "workstation"
    CLASSROOM = "classroom"
    SERVER = "server"


class DeviceClass(StrEnum):
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
