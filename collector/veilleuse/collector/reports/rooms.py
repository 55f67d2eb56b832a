# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Computes the server rooms of a stretch from the hours of their meters and of their servers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from zoneinfo import ZoneInfo

from veilleuse.collector.calendars.periods import civil_day, day_start_unix_milliseconds, months_before
from veilleuse.collector.derive.rooms import Hours, ServersBalance, whole_hours, with_servers
from veilleuse.collector.fleet.census import FleetDevice
from veilleuse.collector.fleet.observations import Place
from veilleuse.collector.fleet.rooms import RoomFigure, RoomServers
from veilleuse.collector.fleet.samples import Stratum
from veilleuse.collector.model.meters import MeterDeclarations, MeterShare, ServerRooms
from veilleuse.collector.model.query import perimeters_in_force
from veilleuse.collector.model.records import HostId
from veilleuse.collector.reports.inputs import Sources
from veilleuse.wire.units import MILLIJOULES_PER_KWH, MILLISECONDS_PER_HOUR
from veilleuse.wire.vocabulary import Population


@dataclass(slots=True)
class _Time:
    """Machine time of one stratum in one room, ms: with an asset, without one, and with energy."""

    inventoried: int = 0
    spare: int = 0
    """Part of `inventoried` of assets without a matched machine."""
    enrolled: int = 0
    left: int = 0
    """Time of machines without an asset that are no longer enrolled."""
    derived: int = 0

    @property
    def silent(self) -> int:
        """Return the time without derived energy, ms.

        A machine without an asset is one of the spare assets, as in `sample.FleetBook.settle`.
        """
        enrolled = self.enrolled + (0 if self.inventoried else self.left)
        return max(0, self.inventoried + max(0, enrolled - self.spare) - self.derived)


class ServersInRooms:
    """Servers over [first, end): machines and assets of population server, without virtual machines."""

    def __init__(
        self,
        sources: Sources,
        first: date,
        end: date,
        standings: Iterable[FleetDevice],
        same: Mapping[HostId, HostId],
    ) -> None:
        """Take `standings`, the servers' places, and `same`: machine → the last machine of its asset."""
        self.declared: MeterDeclarations = sources.metering.declarations()
        self._sources = sources
        self._first, self._end = first.toordinal(), end.toordinal()
        self._same = same
        self._places = ServerRooms(self.declared)
        ids: defaultdict[HostId, list[HostId]] = defaultdict(list)
        for host_id, last in same.items():
            ids[last].append(host_id)
        perimeters = perimeters_in_force(sources.perimeters, first.year)
        self._servers = [
            _Server(
                one,
                Place.at(one, perimeters.of).stratum(one.device_class),
                tuple(ids.get(one.host_id, (one.host_id,))) if one.host_id is not None else (),
            )
            for one in standings
            if one.population is Population.SERVER
        ]
        self._by_host: defaultdict[HostId, list[_Server]] = defaultdict(list)
        for server in self._servers:
            if server.standing.host_id is not None:
                self._by_host[server.standing.host_id].append(server)
        self.host_ids = frozenset(host_id for server in self._servers for host_id in server.host_ids)
        """All machines of these servers, earlier installations included."""

    def stand_in(self, room: str) -> bool:
        """Return true when a share or a declaration places a server in a room in the period."""
        return self.are_declared_in(room) or any(
            one.host_id in self.host_ids for one in self._shares_in(room)
        )

    def are_declared_in(self, room: str) -> bool:
        """Return true when a declaration without a share places one server, or the site's others, in the
        room.
        """
        return any(
            one.room == room and self._overlaps(one.valid_from, one.valid_to) for one in self.declared.servers
        )

    def sum_servers(
        self, room: str, whole: Mapping[int, int], day_of: Mapping[int, int]
    ) -> tuple[RoomServers, int]:
        """Return (the servers of a room, energy of those without a share in mJ), in the room's whole hours.

        `whole`: hour → milliseconds covered; `day_of`: hour → day number. The metered energy is still 0.
        """
        covered, there = Counter[int](), Counter[int]()
        for hour, milliseconds in whole.items():
            covered[day_of[hour]] += milliseconds
            there[day_of[hour]] += MILLISECONDS_PER_HOUR
        times: defaultdict[Stratum, _Time] = defaultdict(_Time)
        energy = placed = uncertainty = 0
        for host_id, day, sums in self._sources.reader.hour_sums(day_of, Population.SERVER):
            server = self._server_on(self._same.get(host_id, host_id), day)
            if server is None or self._room(server, day) != room:
                continue
            share = sums.share(partial(_part, of=covered[day], whole=there[day]))
            times[server.stratum].derived += share.milliseconds
            energy += share.energy_millijoules
            if not any(self._places.has_share(one, room, day) for one in server.host_ids):
                placed += share.energy_millijoules
                uncertainty += share.uncertainty_millijoules
        for server in self._servers:
            time = sum(
                milliseconds
                for day, milliseconds in covered.items()
                if server.stands(day) and self._room(server, day) == room
            )
            if time:
                server.add(time, times[server.stratum])
        silent = tuple((stratum, one.silent) for stratum, one in sorted(times.items()) if one.silent)
        return RoomServers(0, energy, uncertainty, silent), placed

    def in_no_room(self, days_of: Mapping[str, Collection[int]]) -> Iterator[str]:
        """Yield servers in no room on some of these days: short agent id, or #number of the asset.

        `days_of`: site → day numbers.
        """
        agents = {host.host_id: host.agent_id.hex() for host in self._sources.hosts}
        names = {
            agents.get(server.standing.host_id, "")[:12]
            if server.standing.host_id is not None
            else f"#{server.standing.asset_id}"
            for server in self._servers
            if any(
                server.stands(day) and self._room(server, day) is None
                for day in days_of.get(server.standing.site, ())
            )
        }
        yield from sorted(names)

    def may_hold_servers(self, room: str) -> bool:
        """Return false when only other machines have shares of the room's meters: a classroom's plugs."""
        return self.stand_in(room) or not self._shares_in(room)

    def holds_others(self, room: str) -> bool:
        """Return true when another machine has a share of the room's meters."""
        return any(one.host_id not in self.host_ids for one in self._shares_in(room))

    def _room(self, server: _Server, day: int) -> str | None:
        if day not in server.rooms:
            standing = server.standing
            server.rooms[day] = self._places.room(standing.site, server.host_ids, standing.asset_id, day)
        return server.rooms[day]

    def _server_on(self, host_id: HostId, day: int) -> _Server | None:
        """Return the machine's place on a day; its first place before that."""
        found = self._by_host.get(host_id)
        if not found:
            return None
        begun = [one for one in found if one.standing.from_day.toordinal() <= day]
        return begun[-1] if begun else found[0]

    def _shares_in(self, room: str) -> list[MeterShare]:
        rooms = {meter.meter: meter.room for meter in self.declared.meters}
        return [
            one
            for one in self.declared.shares
            if rooms.get(one.meter) == room and self._overlaps(one.valid_from, one.valid_to)
        ]

    def _overlaps(self, first: date, last: date) -> bool:
        return first.toordinal() < self._end and last.toordinal() >= self._first


def _part(value: int, of: int, whole: int) -> int:
    return value * of // whole


@dataclass(slots=True)
class _Server:
    """One device at one place."""

    standing: FleetDevice
    stratum: Stratum
    host_ids: tuple[HostId, ...]
    rooms: dict[int, str | None] = field(default_factory=dict)
    """Day → room, for days already looked up."""

    def stands(self, day: int) -> bool:
        return self.standing.from_day.toordinal() <= day < self.standing.end_day.toordinal()

    def add(self, milliseconds: int, into: _Time) -> None:
        """Add time in service."""
        if not self.standing.inventoried:
            if self.standing.has_left:
                into.left += milliseconds
            else:
                into.enrolled += milliseconds
            return
        into.inventoried += milliseconds
        if self.standing.host_id is None or self.standing.has_left:
            into.spare += milliseconds


def compute_rooms(
    sources: Sources, first: date, end: date, servers: ServersInRooms, today: date
) -> Iterator[RoomFigure]:
    """Yield the figure of each declared room with meter readings in [first, end).

    No hour is missing from `today` on.
    """
    declared = servers.declared
    sites = {site.site: site for site in sources.reader.sites()}
    for room in sorted({meter.room for meter in declared.meters}):
        inside = [meter for meter in declared.meters if meter.room == room]
        site = sites[inside[0].site]
        start, stop = (day_start_unix_milliseconds(day, site.time_zone) for day in (first, end))
        hours = sources.metering.hours([meter.meter for meter in inside], start, stop)
        if not any(hours.values()):
            continue
        where = ZoneInfo(site.time_zone)
        read = sorted({hour for seen in hours.values() for hour in seen})
        made, inside_it = balance_of(room, hours, {hour: civil_day(where, hour) for hour in read}, servers)
        balance = made.balance
        counted = (len(read) - (inside_it.hours_left_out if inside_it else 0)) * MILLISECONDS_PER_HOUR
        passed = day_start_unix_milliseconds(max(first, min(end, today)), site.time_zone) - start
        yield RoomFigure(
            room,
            site.site,
            site.zone,
            balance.it_millijoules - made.others_millijoules,
            made.other_millijoules,
            balance.ups_loss_millijoules,
            balance.overhead_millijoules,
            balance.overhead,
            balance.overhead_u_millijoules,
            _pue_ppm(declared, room, first, end),
            inside_it,
            counted,
            max(0, passed - counted),
        )


def balance_of(
    room: str, hours: Hours, day_of: Mapping[int, int], servers: ServersInRooms
) -> tuple[ServersBalance, RoomServers | None]:
    """Return (balance of a room, its servers); the servers are None when no server is in it.

    `hours` are those of its meters; `day_of`: hour of the period → day number.
    """
    declared = servers.declared
    if not servers.stand_in(room):
        return with_servers(room, declared, hours, day_of, (), servers.host_ids, 0, 0), None
    whole = whole_hours(room, declared, hours, day_of)
    left_out = 0
    if servers.are_declared_in(room):
        left_out = len({hour for seen in hours.values() for hour in seen if hour not in whole})
        hours = {name: {at: one for at, one in seen.items() if at in whole} for name, seen in hours.items()}
    known, placed = servers.sum_servers(room, whole, {hour: day_of[hour] for hour in whole})
    made = with_servers(
        room, declared, hours, day_of, whole, servers.host_ids, known.known_millijoules, placed
    )
    return made, replace(known, metered_millijoules=made.metered_millijoules, hours_left_out=left_out)


def room_warnings(room: str, first: date, end: date, servers: RoomServers) -> Iterator[dict[str, str]]:
    """Yield errors and doubts about a room's figures, in each language."""
    known, metered = (
        f"{energy / MILLIJOULES_PER_KWH:.1f}"
        for energy in (servers.known_millijoules, servers.metered_millijoules)
    )
    french = f"salle {room}, {first} à {end} : ses serveurs comptent {_comma(known)} kWh et ses compteurs {_comma(metered)} kWh,"
    english = f"room {room}, {first} to {end}: its servers count {known} kWh and its meters {metered} kWh,"
    if servers.is_wrong:
        yield {
            "fr": f"ERREUR : {french} plus que leur intervalle à 95 % ne permet : vérifiez ses compteurs, ses serveurs et ce qui en est "
            "déclaré (veilleuse meters show).",
            "en": f"ERROR: {english} more than their 95 % interval allows: check its meters, its servers and what is declared of them "
            "(veilleuse meters show).",
        }
    elif servers.excess_millijoules:
        yield {
            "fr": f"Attention : {french} dans leur intervalle à 95 % : rien ne reste pour other_room, et kwh_it dépasse top_down_kwh.",
            "en": f"Warning: {english} within their 95 % interval: nothing is left for other_room, and kwh_it is above top_down_kwh.",
        }
    if servers.hours_left_out:
        yield {
            "fr": f"Attention : salle {room}, {first} à {end} : {servers.hours_left_out} h sans l’un de ses compteurs (ou sans son PUE) ne sont dans aucun "
            "de ses chiffres.",
            "en": f"Warning: room {room}, {first} to {end}: {servers.hours_left_out} h without one of its meters (or its PUE) are in none of its figures.",
        }


def no_room_warning(servers: Sequence[str]) -> dict[str, str]:
    """Return the warning that these servers may count twice."""
    names = ", ".join(servers)
    return {
        "fr": "Attention : serveurs d’un site à salle mesurée qui ne sont déclarés dans aucune salle ; leur énergie peut compter deux fois, "
        f"dans leur classe et dans other_room : {names}. Déclarez-les (veilleuse meters import).",
        "en": "Warning: servers of a site with a metered room that are declared in no room; their energy may count twice, in their class "
        f"and in other_room: {names}. Declare them (veilleuse meters import).",
    }


def _comma(number: str) -> str:
    return number.replace(".", ",")


def readings_gone_before(sources: Sources, year: int, today: date, months: int) -> date | None:
    """Return the day of a year from which meter readings are stored; they are kept `months` months.

    Earlier readings may or may not have existed. None while none of the year can be deleted yet.
    """
    limit, first_hour = months_before(today, months), sources.metering.first_read()
    first = limit if first_hour is None else date.fromordinal(civil_day(ZoneInfo("UTC"), first_hour))
    whole = first <= date(year, 1, 1) or limit <= date(year, 1, 1)
    return None if whole else min(first, limit, date(year + 1, 1, 1))


def _pue_ppm(declared: MeterDeclarations, room: str, first: date, end: date) -> int | None:
    found = {
        pue.pue_ppm
        for pue in declared.pues
        if pue.room == room and pue.valid_from < end and pue.valid_to >= first
    }
    return found.pop() if len(found) == 1 else None
