# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Holds what was measured of servers and server rooms in a month, and makes the fleet's rows of them (pure).

docs/methodology.md §6, *Released months*. It is stored once: readings are deleted later. Energies are integer
millijoules, times integer milliseconds.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any, Final

from veilleuse.collector.account.server_rooms import METERED_U, MOST_UNREAD, OTHER_ROOM, energy_of, parts_of
from veilleuse.collector.calendars.periods import Slice
from veilleuse.collector.fleet.census import at_default_context
from veilleuse.collector.fleet.estimate import Representativeness
from veilleuse.collector.fleet.observations import Place
from veilleuse.collector.fleet.rooms import RoomFigure, RoomServers, Silent, settle_rooms
from veilleuse.collector.fleet.samples import Stratum
from veilleuse.collector.model.inventory import PowerContext
from veilleuse.collector.model.publications import FigureFormat, PublicationKind
from veilleuse.collector.model.query import GroupKey
from veilleuse.collector.model.sums import Group
from veilleuse.collector.quantiles import Z95
from veilleuse.collector.release.cells import PublishedCell
from veilleuse.collector.release.format import decode_sums, encode_sums
from veilleuse.collector.release.rows import MILLION, FleetRow, MeasuredParts, Source, is_ruled
from veilleuse.wire.ladder import Method
from veilleuse.wire.units import MILLISECONDS_PER_DAY
from veilleuse.wire.vocabulary import Population

U_UNREAD: Final = math.log(2.0) / Z95
"""Relative standard uncertainty of the energy of time that was not read, at the mean of what was: GSD² 2.0.
Our choice.
"""

MOST_IMPUTED: Final = 0.25
"""Greatest share of the time in service without an energy for machines to be a census. Our choice."""


@dataclass(frozen=True, slots=True)
class ServerMonth:
    """What was measured of one month outside the rule of disclosure."""

    part: Slice
    cells: tuple[Group, ...]
    """Servers by place, with their site and power context, and class."""
    rooms: tuple[RoomFigure, ...]
    """Rooms with meter readings, before they are settled with the estimate of their servers."""


def encode_servers(month: ServerMonth) -> dict[str, Any]:
    """Encode a month for JSON."""
    return {
        "cells": [{"key": _key_words(group.key), **encode_sums(group.sums)} for group in month.cells],
        "rooms": [asdict(room) for room in month.rooms],
    }


def decode_servers(content: Mapping[str, Any], first: date, end: date) -> ServerMonth:
    """Decode what `encode_servers` returned. Raises ValueError, KeyError, TypeError."""
    cells = tuple(Group(_key_of(one["key"], first, end), decode_sums(one)) for one in content["cells"])
    return ServerMonth(Slice(first, end), cells, tuple(map(_room, content["rooms"])))


def _key_words(key: GroupKey) -> list[Any]:
    named = key.zone, key.population, key.entity, key.site, key.device_class, key.power_context
    return [*named, int(key.memo)]


def _key_of(words: Sequence[Any], first: date, end: date) -> GroupKey:
    zone, population, entity, site, device_class, context, memo = words
    place = GroupKey(first, end, zone, Population(population), bool(memo), entity, site, device_class)
    return place._replace(power_context=PowerContext(context))


def _room(document: Mapping[str, Any]) -> RoomFigure:
    servers = document["servers"]
    if servers is None:
        return RoomFigure(**document)
    silent = tuple((Stratum(*stratum), time) for stratum, time in servers["silent"])
    return RoomFigure(**{**document, "servers": RoomServers(**{**servers, "silent": silent})})


SERVERS: Final = FigureFormat(
    PublicationKind.SERVERS, 1, encode_servers, decode_servers, lambda month: not (month.cells or month.rooms)
)


@dataclass(slots=True)
class _Known:
    """What is known of one row of the fleet: the cells of its place and class at all sites."""

    hosts: int = 0
    observed_milliseconds: int = 0
    derived_milliseconds: int = 0
    uncertain_millijoules: int = 0
    methods: Counter[Method] = field(default_factory=Counter)
    apportioned: bool = False

    def add(self, group: Group) -> None:
        """Add one cell."""
        sums = group.sums
        self.hosts += sums.hosts
        self.observed_milliseconds += sum(one.milliseconds for one in sums.states.values())
        self.apportioned |= sums.apportioned
        for (_, method, _, _), one in sums.energies.items():
            self.derived_milliseconds += one.milliseconds
            self.uncertain_millijoules += one.uncertainty_millijoules
            self.methods[method] += one.energy_millijoules


def cells_of_servers(month: ServerMonth | None) -> list[PublishedCell]:
    """Return the cells as the estimate reads them: without sites; their time is that with an energy."""
    return [
        PublishedCell(
            key, one.hosts, one.derived_milliseconds, one.methods.total(), one.uncertain_millijoules
        )
        for key, one in _known(month).items()
    ]


def _known(month: ServerMonth | None) -> dict[GroupKey, _Known]:
    found: defaultdict[GroupKey, _Known] = defaultdict(_Known)
    for group in month.cells if month else ():
        found[group.key.over()._replace(site=None)].add(group)
    return found


def with_servers_and_rooms(
    months: Sequence[ServerMonth | None], rows: Sequence[Iterable[FleetRow]], parts: Sequence[Slice]
) -> list[tuple[FleetRow, ...]]:
    """Return the rows of a year's months: those outside the rule with all their parts, and rows of rooms.

    A server's energy counts once: docs/decisions/0026. Time in which a room was not read has its mean power
    over the year's read time.
    """
    found, rooms = list[list[FleetRow]](), list[tuple[RoomFigure, ...]]()
    for month, of_month in zip(months, rows, strict=True):
        known = _known(month)
        made = [
            _measured(row, known.get(row.key, _Known())) if not is_ruled(row.key) else row for row in of_month
        ]
        settled, left = settle_rooms(month.rooms if month else (), dict(_silent(made)))
        found.append([_settled(row, left.get(_stratum(row.key))) for row in made])
        rooms.append(settled)
    means = _means(rooms)
    return [
        (*of_month, *_room_rows(settled, means, part))
        for of_month, settled, part in zip(found, rooms, parts, strict=True)
    ]


def _measured(row: FleetRow, known: _Known) -> FleetRow:
    """Return a row with its parts. Time of a measured machine at its own mean has no error of sampling."""
    left, energy = row.fleet_milliseconds - row.known_milliseconds, row.energy_millijoules
    of_month = row.source is Source.OWN and row.known_milliseconds > 0
    own = row.fleet_milliseconds * known.hosts // max(1, row.machines) - row.known_milliseconds
    own = min(left, max(0, own)) if of_month else 0
    imputed = row.extrapolated_millijoules * own // left if left else 0
    sampling = row.u_own_ppm * math.sqrt((left - own) / left) if left else 0.0
    u_imputed = MILLION * U_UNREAD * imputed / energy if energy else 0.0
    is_whole = imputed == row.extrapolated_millijoules and (of_month or not energy)
    is_census = is_whole and left <= MOST_IMPUTED * row.fleet_milliseconds
    parts = MeasuredParts(
        dict(known.methods),
        imputed,
        known.derived_milliseconds,
        (Representativeness.CENSUS if is_census else Representativeness.NOT_DEMONSTRATED).value,
        known.apportioned,
    )
    return replace(
        row,
        known_milliseconds=known.observed_milliseconds,
        u_own_ppm=math.ceil(math.hypot(sampling, u_imputed)),
        weak_millijoules=0 if of_month else row.extrapolated_millijoules,
        measured=parts,
    )


def _stratum(key: GroupKey) -> Stratum:
    context = at_default_context(key).power_context or PowerContext.OWN_SITE
    return Place(key.entity or "", "", key.zone, key.population, context).stratum(key.device_class or "")


def without_sites(room: RoomFigure) -> RoomFigure:
    """Return a room whose silent servers have the strata of rows: without site and perimeter."""
    if room.servers is None:
        return room
    times = Counter[Stratum]()
    for stratum, time in room.servers.silent:
        place = Place.of(stratum)._replace(site="", perimeter=None)
        times[place.stratum(stratum.device_class)] += time
    return replace(room, servers=replace(room.servers, silent=tuple(sorted(times.items()))))


def _silent(rows: Iterable[FleetRow]) -> Iterator[tuple[Stratum, Silent]]:
    for row in rows:
        if row.measured is not None and not row.key.memo:
            imputed, energy = row.measured.imputed_millijoules, row.energy_millijoules
            u = math.hypot(row.u_own_ppm, row.u_shared_ppm) * energy / MILLION
            time = max(0, row.fleet_milliseconds - row.measured.derived_milliseconds)
            yield _stratum(row.key), Silent(time, imputed, row.extrapolated_millijoules - imputed, u)


def _settled(row: FleetRow, left: int | None) -> FleetRow:
    """Return a row of servers with what its rooms' meters leave of its extrapolated energy."""
    if left is None or row.measured is None or row.key.memo:
        return row
    extrapolated = row.measured.imputed_millijoules + left
    if extrapolated == row.extrapolated_millijoules:
        return row
    default, weak = (
        value * extrapolated // row.extrapolated_millijoules
        for value in (row.default_millijoules, row.weak_millijoules)
    )
    return replace(
        row, extrapolated_millijoules=extrapolated, default_millijoules=default, weak_millijoules=weak
    )


@dataclass(slots=True)
class _Mean:
    """Energy of one room over the time of the year in which its meters were read."""

    room: RoomFigure
    """The last one with readings."""
    milliseconds: int = 0
    other_millijoules: int = 0
    ups_loss_millijoules: int | None = None
    overhead_millijoules: int | None = None

    def add(self, room: RoomFigure) -> None:
        """Add one month."""
        self.room = room
        self.milliseconds += room.read_milliseconds or 0
        self.other_millijoules += room.other_millijoules
        for name in ("ups_loss_millijoules", "overhead_millijoules"):
            more = getattr(room, name)
            if more is not None:
                setattr(self, name, (getattr(self, name) or 0) + more)

    def over(self, milliseconds: int) -> RoomFigure:
        """Return the room over a time without readings: nothing of it is of the meters."""
        energies = (self.other_millijoules, self.ups_loss_millijoules, self.overhead_millijoules)
        other, ups_loss, overhead = (
            None if value is None else value * milliseconds // max(1, self.milliseconds) for value in energies
        )
        return replace(
            self.room,
            it_millijoules=0,
            other_millijoules=other or 0,
            ups_loss_millijoules=ups_loss,
            overhead_millijoules=overhead,
            overhead_u_millijoules=0,
            servers=None,
            read_milliseconds=0,
            unread_milliseconds=0,
        )


def _means(months: Iterable[Iterable[RoomFigure]]) -> dict[str, _Mean]:
    found: dict[str, _Mean] = {}
    for rooms in months:
        for room in rooms:
            found.setdefault(room.room, _Mean(room)).add(room)
    return found


def _room_rows(rooms: Iterable[RoomFigure], means: Mapping[str, _Mean], part: Slice) -> Iterator[FleetRow]:
    """Yield the row of each zone's rooms in one month."""
    read = {room.room: room for room in rooms}
    zones: defaultdict[str, list[str]] = defaultdict(list)
    for name, mean in means.items():
        zones[mean.room.zone].append(name)
    for zone, names in sorted(zones.items()):
        inside = [read[name] for name in names if name in read]
        filled = [
            means[name].over(
                read[name].unread_milliseconds
                if name in read
                else (part.end - part.first).days * MILLISECONDS_PER_DAY
            )
            for name in names
        ]
        yield _room_row(zone, inside, filled)


def _room_row(zone: str, read: Sequence[RoomFigure], filled: Sequence[RoomFigure]) -> FleetRow:
    """Return the row of rooms: what was read, and what the year's mean gives for the rest.

    A room whose meters read less than its servers: this part, and all of the room, is weak.
    """
    known, more = sum(map(energy_of, read)), sum(map(energy_of, filled))
    energy = known + more
    modelled = sum(room.overhead_millijoules or 0 for room in read if room.overhead == "pue")
    model = math.hypot(METERED_U * (known - modelled), *(room.overhead_u_millijoules for room in read))
    servers = [room.servers for room in read if room.servers is not None]
    own = math.hypot(
        *(U_UNREAD * energy_of(room) for room in filled), *(one.u_millijoules for one in servers)
    )
    below = [room for room in read if room.servers is not None and room.servers.excess_millijoules]
    excess = sum(room.servers.excess_millijoules for room in below if room.servers is not None)
    parts = parts_of([*read, *(room for room in filled if energy_of(room) or not read)])
    return FleetRow(
        GroupKey(
            zone=zone,
            population=Population.SERVER,
            device_class=OTHER_ROOM,
            power_context=PowerContext.OWN_SITE,
        ),
        Source.OWN,
        "",
        OTHER_ROOM,
        0,
        0,
        0,
        0,
        known,
        more,
        0,
        more + excess + sum(map(energy_of, below)),
        MILLION,
        math.ceil(MILLION * own / energy) if energy else 0,
        0,
        math.ceil(MILLION * model / known) if known else math.ceil(MILLION * METERED_U),
        measured=MeasuredParts(
            {Method.METERED: known - modelled, Method.CLASS_DEFAULT: modelled},
            more,
            0,
            _shown(read, filled).value,
            apportioned=False,
            room=parts,
        ),
    )


def _shown(read: Sequence[RoomFigure], filled: Sequence[RoomFigure]) -> Representativeness:
    unread = sum(room.unread_milliseconds for room in read)
    whole = unread + sum(room.read_milliseconds or 0 for room in read)
    is_read = len(read) == len(filled) and unread <= MOST_UNREAD * whole
    is_wrong = any(room.servers is not None and room.servers.is_wrong for room in read)
    return Representativeness.CENSUS if is_read and not is_wrong else Representativeness.NOT_DEMONSTRATED
