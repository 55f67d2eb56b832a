# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""List records that the contract allows, with the machines that may send them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from tests.support.pushes import (
    HOUR,
    MONDAY_10H,
    NOW,
    SERVER,
    WORKSTATION,
    cell,
    clock,
    day,
    gap,
    measurement,
    rapl,
    realistic,
    week,
)
from veilleuse.collector.errors import RecordRefused
from veilleuse.collector.model.records import DecodedRecord
from veilleuse.collector.validate import MachineLimits
from veilleuse.collector.validate.push import check_record
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import (
    DeviceClass,
    Population,
)

CLASSROOM = MachineLimits(Population.CLASSROOM, DeviceClass.TOWER, allow_fake=False)
LAPTOP = MachineLimits(Population.CLASSROOM, DeviceClass.LAPTOP, allow_fake=False)
FAKE_ALLOWED = MachineLimits(Population.SERVER, DeviceClass.SERVER, allow_fake=True)
DATE = day(date(2026, 3, 4))
NIGHT = cell(band=pb.BAND_NIGHT)


def decoded(record: pb.Record | bytes, machine: MachineLimits = SERVER) -> DecodedRecord:
    """Validate a record and return it decoded. Raises RecordRefused."""
    wire = record if isinstance(record, bytes) else record.SerializeToString()
    return check_record(7, wire, bytes(32), machine, NOW)


def refused(record: pb.Record | bytes, machine: MachineLimits = SERVER) -> str:
    """Validate a record that must be refused; return the reason."""
    with pytest.raises(RecordRefused) as caught:
        decoded(record, machine)
    return caught.value.reason


def with_cell(**fields: Any) -> pb.Record:
    """Return a measurement of one minute with one cell of these fields."""
    return measurement(cells=[cell(**fields)], points=[rapl(), rapl("dram")])


def altered(change: Callable[[Any], None]) -> pb.Record:
    """Return a valid measurement, changed by `change`."""
    record = realistic(MONDAY_10H)
    change(record.measurement)
    return record


def meter(kind: Any = pb.POINT_KIND_PDU, subject: str = "meter:rack-1") -> pb.Point:
    """Return the point of a shared meter."""
    return pb.Point(kind=kind, domain="outlet 1", boundary=pb.BOUNDARY_WALL, subject=subject)


FAKE = pb.Point(kind=pb.POINT_KIND_FAKE, domain="wall", boundary=pb.BOUNDARY_WALL, subject="machine")
BATTERY = pb.Point(
    kind=pb.POINT_KIND_BATTERY_IN, domain="BAT0", boundary=pb.BOUNDARY_MACHINE_DC, subject="machine"
)
PDU_ASLEEP = measurement(cells=[cell(state=pb.STATE_OFF, energies=[(0, 900_000, 60_000)])], points=[meter()])
BATTERY_ASLEEP = measurement(
    clock(duration=HOUR),
    [cell(state=pb.STATE_ASLEEP, energies=[(0, 900_000, 60_000)])],
    [BATTERY],
)

ACCEPTED: dict[str, tuple[Any, MachineLimits]] = {
    "a server's five minutes": (realistic(MONDAY_10H), SERVER),
    "ten seconds": (measurement(clock(duration=10_000), [cell(10_000)]), SERVER),
    "twelve seconds": (measurement(clock(MONDAY_10H + 12_000, 12_000), [cell(12_000)]), SERVER),
    "periods joined while asleep": (measurement(clock(MONDAY_10H + 600_000, 3_000_000)), SERVER),
    "a piece of 1 ms": (with_cell(milliseconds=1, energies=[(0, 3, 0), (1, 0, 0)]), SERVER),
    "a classroom's hour": (measurement(clock(duration=HOUR)), CLASSROOM),
    "a workstation's day": (measurement(DATE, [NIGHT]), WORKSTATION),
    "a server's day": (measurement(DATE, [NIGHT]), SERVER),
    "a classroom's week": (measurement(week(2026, 10)), CLASSROOM),
    "a workstation's week": (measurement(week(2026, 10)), WORKSTATION),
    "a week of 53": (measurement(week(2020, 53)), WORKSTATION),
    "a 25 hour day": (measurement(DATE, [cell(25 * HOUR, band=pb.BAND_CLOSED)]), WORKSTATION),
    "a meter while off": (PDU_ASLEEP, SERVER),
    "a battery while asleep": (BATTERY_ASLEEP, LAPTOP),
    "a fake source where it may": (measurement(points=[FAKE]), FAKE_ALLOWED),
    "energy at the ceiling": (with_cell(energies=[(0, 5000 * 60_000, 60_000)]), SERVER),
    "a measured zero": (with_cell(energies=[(0, 0, 60_000)], any_core_busy_milliseconds=0), SERVER),
    "a gap": (gap(milliseconds=5), SERVER),
    "a gap without anything known": (gap(records=40), WORKSTATION),
    "two days ahead": (measurement(clock(NOW + 47 * HOUR)), SERVER),
    "a unit of a server": (
        with_cell(units=[pb.UnitTime(name="unit:nginx.service", cpu_milliseconds=5)]),
        SERVER,
    ),
    "displays": (
        measurement(
            clock(duration=HOUR),
            [cell(displays=[pb.DisplayTime(size=pb.DISPLAY_SIZE_22_TO_27, milliseconds=120_000)])],
        ),
        LAPTOP,
    ),
}
