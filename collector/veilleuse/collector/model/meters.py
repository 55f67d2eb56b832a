# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Defines declarations and readings of meters that several machines share. No I/O. docs/decisions/0026."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from difflib import get_close_matches
from enum import StrEnum
from typing import Final

from veilleuse.collector.model.records import HostId
from veilleuse.wire.vocabulary import PointKind

WHOLE_PPM: Final = 1_000_000
SUBJECT_PREFIX: Final = "meter:"
"""Prefix of the subject of a point on a shared meter; the meter's name follows."""
EVERY_OTHER: Final = "*"
"""Replaces a host in a declaration: all servers of the site that no other declaration places."""
FOR_EVER: Final = date.max
"""`valid_to` of a declaration without an end."""
_NEAR: Final = 0.8
"""Similarity, 0 to 1, from which two room names may be one misspelt name."""


class MeterBoundary(StrEnum):
    """Metering boundary: the part of a room that a meter measures. Declared, never guessed."""

    FACILITY = "facility"
    """The room's machines and their cooling: energy that no child measures is overhead."""
    ROOM = "room"
    """Supply of the room's machines, UPS included."""
    UPS_INPUT = "ups_input"
    UPS_OUTPUT = "ups_output"
    """Boundary of a UPS's own readings, unless declared otherwise."""
    OUTLET = "outlet"
    """A PDU, one of its outlets, or a plug."""
    OVERHEAD = "overhead"
    """Cooling and lighting alone."""


class SharePart(StrEnum):
    """Devices of a machine that a share is for."""

    MACHINE = "machine"
    MONITOR = "monitor"
    """Its external screens: they are then not modelled."""


@dataclass(frozen=True, slots=True)
class DeclaredMeter:
    """One shared meter and its place in the tree."""

    meter: str
    site: str
    """Site, whose time zone dates the shares."""
    room: str
    boundary: MeterBoundary
    parent: str | None = None
    """Meter above it; None = it is the highest."""
    efficiency_ppm: int | None = None
    """Output ÷ input of a UPS, declared; None = not known."""


@dataclass(frozen=True, slots=True)
class MeterShare:
    """One machine's share of a meter's energy."""

    meter: str
    host_id: HostId
    part: SharePart
    share_ppm: int
    """1 to 1,000,000; the sum over a meter is at most 1,000,000 on any day."""
    valid_from: date
    valid_to: date
    """Inclusive."""


@dataclass(frozen=True, slots=True)
class RoomServer:
    """A server in a room, by declaration; no share gives its part of the room's meters."""

    room: str
    site: str
    host_id: HostId | None
    asset_id: int | None
    """Asset of the inventory, for a server without an agent.

    None, without `host_id`: every server of the site that no other declaration places.
    """
    valid_from: date
    valid_to: date
    """Inclusive."""

    @property
    def is_default(self) -> bool:
        """True for the room of all other servers of its site."""
        return self.host_id is None and self.asset_id is None


@dataclass(frozen=True, slots=True)
class Pue:
    """Power usage effectiveness of a room over a period, as its operator declares it."""

    room: str
    valid_from: date
    valid_to: date
    """Inclusive."""
    pue_ppm: int
    """≥ 1,000,000."""
    point: MeterBoundary
    """Metering point of the machines' energy: ups_input, ups_output or outlet."""


@dataclass(frozen=True, slots=True)
class MeterReading:
    """One agent's reading of one meter over one UTC hour."""

    meter: str
    kind: PointKind
    energy_millijoules: int
    covered_milliseconds: int


@dataclass(frozen=True, slots=True)
class SharedEnergy:
    """Energy of one machine (or its screens) from its shared meters, over one UTC hour."""

    kind: PointKind
    energy_millijoules: int
    covered_milliseconds: int
    """Covered part of the hour."""
    whole: bool
    """True when it is the only one on its meters: no declared share is in the figure."""


@dataclass(frozen=True, slots=True)
class SharedReadings:
    """Shared energy of one machine over one hour; None = nothing."""

    machine: SharedEnergy | None = None
    monitor: SharedEnergy | None = None
    monitor_declared: bool = False
    """True when its screens are on a meter: they are not modelled, with or without readings."""


NOT_SHARED: Final = SharedReadings()


@dataclass(frozen=True, slots=True)
class PsysCheck:
    """psys and the battery's discharge, over the same milliseconds on battery."""

    psys_millijoules: int = 0
    discharge_millijoules: int = 0
    milliseconds: int = 0
    base_millijoules: int = 0
    """Energy beyond the other counters × the wall model's slope, at the wall; < 0 where less."""
    base_milliseconds: int = 0


@dataclass(frozen=True, slots=True)
class MeterDeclarations:
    """All meter declarations."""

    meters: tuple[DeclaredMeter, ...] = ()
    shares: tuple[MeterShare, ...] = ()
    pues: tuple[Pue, ...] = ()
    servers: tuple[RoomServer, ...] = ()


def rooms_without_meter(declared: MeterDeclarations, day: date) -> Iterator[tuple[str, bool]]:
    """Yield (warning, name is probably misspelt) for each room without a meter that has servers on `day` or
    later.
    """
    metered = {(meter.site, meter.room) for meter in declared.meters}
    placed = {(one.site, one.room) for one in declared.servers if one.valid_to >= day}
    for site, room in sorted(placed - metered):
        likely = _nearest(room, (other for where, other in metered if where == site))
        hint = f" ('{likely}' of {site} has one: is it meant?)" if likely else ""
        yield (
            f"room '{room}' of {site} has no meter: servers placed there are behind none{hint}",
            likely is not None,
        )


def _nearest(room: str, others: Iterable[str]) -> str | None:
    """Return the room whose name has nearly the same spelling; another number is another room."""
    names = {other.casefold(): other for other in others if _numbers(other) == _numbers(room)}
    found = get_close_matches(room.casefold(), names, 1, _NEAR)
    return names[found[0]] if found else None


def _numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall("[0-9]+", text)]


class ServerRooms:
    """Finds the room of a server on a day: by a share of a meter there, else as declared,
    else its site's default room.
    """

    def __init__(self, declared: MeterDeclarations) -> None:
        rooms = {meter.meter: meter.room for meter in declared.meters}
        self._shares: defaultdict[HostId, list[tuple[int, int, str]]] = defaultdict(list)
        self._hosts: defaultdict[HostId, list[tuple[int, int, str]]] = defaultdict(list)
        self._assets: defaultdict[int, list[tuple[int, int, str]]] = defaultdict(list)
        self._sites: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for share in declared.shares:
            if share.part is SharePart.MACHINE and share.meter in rooms:
                self._shares[share.host_id].append(_span(share, rooms[share.meter]))
        for one in declared.servers:
            if one.host_id is not None:
                self._hosts[one.host_id].append(_span(one, one.room))
            elif one.asset_id is not None:
                self._assets[one.asset_id].append(_span(one, one.room))
            else:
                self._sites[one.site].append(_span(one, one.room))

    def room(self, site: str, host_ids: Iterable[HostId], asset_id: int | None, day: int) -> str | None:
        """Return the room; None: nothing places the server.

        `host_ids`: its current and earlier enrolled machines; `day`: date.toordinal().
        """
        hosts = tuple(host_ids)
        spans = (
            *(span for host_id in hosts for span in self._shares.get(host_id, ())),
            *(span for host_id in hosts for span in self._hosts.get(host_id, ())),
            *(self._assets.get(asset_id, ()) if asset_id is not None else ()),
            *self._sites.get(site, ()),
        )
        return next((room for first, last, room in spans if first <= day <= last), None)

    def has_share(self, host_id: HostId, room: str, day: int) -> bool:
        """Return whether a share gives its part of this room's meters."""
        return any(
            first <= day <= last and room == there for first, last, there in self._shares.get(host_id, ())
        )


def _span(one: MeterShare | RoomServer, room: str) -> tuple[int, int, str]:
    return one.valid_from.toordinal(), one.valid_to.toordinal(), room
