# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Make the messages of agents for the tests of the collector: records, streams, and hosts in a store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from veilleuse.collector.model.hosts import HostStatus, Site
from veilleuse.collector.model.records import AgentId, DecodedRecord, HostId, ValidPush
from veilleuse.collector.ports.registry import Registry
from veilleuse.collector.validate import MachineLimits, check_push
from veilleuse.collector.wire_codec import cells_from_measurement, record_period
from veilleuse.wire.bands import DEFAULT_CALENDAR, Calendar
from veilleuse.wire.chain import chain_next, chain_start, record_hash
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import DeviceClass, GapReason, Population

HOUR = 3_600_000
MONDAY_10H = 1_772_445_600_000
"""2026-03-02T10:00:00Z in Unix milliseconds."""
NOW = MONDAY_10H + 30 * 24 * HOUR
CALENDAR_SHA256 = bytes(range(32))
SERVER = MachineLimits(Population.SERVER, DeviceClass.SERVER, allow_fake=False)
WORKSTATION = MachineLimits(Population.WORKSTATION, DeviceClass.LAPTOP, allow_fake=False)


def rapl(domain: str = "package-0") -> pb.Point:
    """Return a RAPL point of the machine."""
    return pb.Point(kind=pb.POINT_KIND_RAPL, domain=domain, boundary=pb.BOUNDARY_COMPONENT, subject="machine")


def cell(
    milliseconds: int = 60_000,
    *,
    band: Any = pb.BAND_OPEN,
    state: Any = pb.STATE_ON_ACTIVE,
    supply: Any = pb.SUPPLY_AC,
    energies: Sequence[tuple[int, int, int]] = (),
    **fields: Any,
) -> pb.Cell:
    """Return a wire cell; `energies`: (point index, millijoules, covered milliseconds)."""
    return pb.Cell(
        band=band,
        state=state,
        supply=supply,
        milliseconds=milliseconds,
        energies=[
            pb.PointEnergy(point_index=index, energy_millijoules=energy, covered_milliseconds=covered)
            for index, energy, covered in energies
        ],
        **fields,
    )


def clock(start: int = MONDAY_10H, duration: int = 60_000) -> pb.Period:
    """Return a clock period; both values in (Unix) milliseconds."""
    return pb.Period(clock=pb.ClockPeriod(start_unix_milliseconds=start, duration_milliseconds=duration))


def day(when: date) -> pb.Period:
    """Return the period of a local date."""
    return pb.Period(date=pb.LocalDate(year=when.year, month=when.month, day=when.day))


def week(year: int, number: int) -> pb.Period:
    """Return the period of an ISO week."""
    return pb.Period(week=pb.IsoWeek(year=year, week=number))


def measurement(
    period: pb.Period | None = None,
    cells: Sequence[pb.Cell] = (),
    points: Sequence[pb.Point] = (),
    **fields: Any,
) -> pb.Record:
    """Return a measurement record; by default one cell over the minute of MONDAY_10H."""
    return pb.Record(
        measurement=pb.Measurement(
            period=clock() if period is None else period,
            calendar_sha256=fields.pop("calendar_sha256", CALENDAR_SHA256),
            idle_rule_version=fields.pop("idle_rule_version", 1),
            points=points,
            cells=cells or [cell()],
            **fields,
        )
    )


def gap(reason: Any = pb.GAP_REASON_SPOOL_CAP, records: int = 1, milliseconds: int = 0) -> pb.Record:
    """Return a gap without a period."""
    spans = [pb.GapSpan(milliseconds=milliseconds)] if milliseconds else []
    return pb.Record(gap=pb.Gap(reason=reason, records=records, spans=spans))


def realistic(start: int, duration: int = 300_000, milliwatts: int = 35_000) -> pb.Record:
    """Return the record of a server with RAPL, half active, half idle; `milliwatts` are of the package."""
    half = duration // 2
    buckets = [half, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    common: dict[str, Any] = {
        "cpu_covered_milliseconds": half,
        "cpu_bucket_milliseconds": buckets,
        "memory_bucket_milliseconds": [0, half, 0, 0, 0],
        "network_rate_milliseconds": [half, 0, 0, 0],
        "any_core_busy_milliseconds": 0,
    }
    energy = half * milliwatts // 1000
    points = [rapl("package-0"), rapl("dram")]
    energies = [(0, energy, half), (1, energy // 10, half)]
    return measurement(
        clock(start, duration),
        [
            cell(half, state=pb.STATE_ON_ACTIVE, energies=energies, cpu_busy_milliseconds=9, **common),
            cell(half, state=pb.STATE_ON_IDLE, energies=energies, cpu_busy_milliseconds=3, **common),
        ],
        points,
    )


@dataclass
class Stream:
    """One epoch of one agent: it numbers and chains records, and can send any run of them again."""

    host_id: HostId
    machine: MachineLimits = SERVER
    epoch: bytes = field(default_factory=lambda: os.urandom(8))
    wires: list[bytes] = field(default_factory=list)
    chains: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.chains:
            self.chains = [chain_start(self.epoch)]

    def add(self, *records: pb.Record | bytes) -> None:
        """Append records, or wire bytes, and chain them."""
        for record in records:
            wire = record if isinstance(record, bytes) else record.SerializeToString(deterministic=True)
            self.wires.append(wire)
            self.chains.append(chain_next(self.chains[-1], wire))

    def request(self, first: int = 1, last: int | None = None) -> pb.PushRequest:
        """Return the request that pushes the records `first` to `last` (counted from 1; all to the end)."""
        return pb.PushRequest(
            epoch=self.epoch,
            first_seq=first,
            chain_before=self.chains[first - 1],
            records=self.wires[first - 1 : last],
        )

    def push(self, first: int = 1, last: int | None = None) -> ValidPush:
        """Return the push of these records after validation, which must accept it."""
        checked = check_push(self.request(first, last), self.host_id, self.machine, NOW)
        assert isinstance(checked, ValidPush), checked
        return checked

    def send(self, *records: pb.Record | bytes) -> ValidPush:
        """Append records and return the validated push of these alone."""
        first = len(self.wires) + 1
        self.add(*records)
        return self.push(first)


def site(name: str = "lyon", time_zone: str = "Europe/Paris") -> Site:
    """Return a site of zone FR with the opening hours of the default timetable."""
    calendar = Calendar(time_zone, DEFAULT_CALENDAR.open_spans)
    return Site(name, "FR", time_zone, calendar.to_json())


def enrol(
    registry: Registry,
    population: Population = Population.SERVER,
    site_name: str = "lyon",
    *,
    entity: str = "DSI",
    agent_id: bytes | None = None,
    facts: pb.Facts | None = None,
    enrolled_on: date = date(2026, 3, 1),
    now_unix_milliseconds: int = NOW,
) -> HostId:
    """Insert a new token and an active host enrolled with it; return its number. Its site must exist."""
    token_id = registry.insert_token(
        token_sha256=os.urandom(32),
        created_unix_milliseconds=now_unix_milliseconds,
        expires_unix_milliseconds=now_unix_milliseconds + HOUR,
        max_uses=1,
        networks=(),
        org_entity=entity,
        site=site_name,
        population=population,
        approve=False,
    )
    return registry.insert_host(
        agent_id=AgentId(os.urandom(16) if agent_id is None else agent_id),
        token_id=token_id,
        org_entity=entity,
        site=site_name,
        population=population,
        status=HostStatus.ACTIVE,
        enrolled_on=enrolled_on,
        facts_wire=None if facts is None else facts.SerializeToString(),
    )


def accepted(
    host_id: HostId,
    stream: tuple[bytes, int, bytes],
    measurements: Iterable[pb.Measurement],
    sensor_gaps: tuple[tuple[GapReason, str, int], ...] = (),
) -> tuple[ValidPush, tuple[bytes, int, bytes]]:
    """Return a decoded push of these measurements, without validation, and the stream after it. A stream:
    (epoch, last sequence number, chain)."""
    epoch, seq, chain = stream
    decoded = []
    for measurement in measurements:
        wire = pb.Record(measurement=measurement).SerializeToString()
        seq, chain = seq + 1, chain_next(chain, wire)
        period = record_period(measurement.period, sum(one.milliseconds for one in measurement.cells))
        cells = cells_from_measurement(measurement)
        decoded.append(DecodedRecord(seq, wire, record_hash(wire), chain, period, cells, sensor_gaps))
    push = ValidPush(host_id, epoch, stream[1] + 1, stream[2], tuple(decoded))
    return push, (epoch, seq, chain)


def new_stream() -> tuple[bytes, int, bytes]:
    """Return (epoch, 0, chain) of a new epoch without records."""
    epoch = os.urandom(8)
    return epoch, 0, chain_start(epoch)
